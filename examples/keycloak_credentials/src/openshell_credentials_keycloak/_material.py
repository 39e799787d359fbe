"""`Material`: what a client proves itself with, as the files held it at one moment."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from openshell_credentials_keycloak._files import (
    CA_LIMIT,
    Signature,
    locate,
    read_text,
    signature,
)
from openshell_credentials_keycloak.config import CredentialConfig
from openshell_drivers import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """The files of a TLS context, and a digest of what was in them."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    digest: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """Equal to another if the issuer and we would see the same client."""

    secret: Secret | None = None
    key: Secret | None = None
    tls: TlsFiles = TlsFiles()
    subject: Secret | None = field(default=None, compare=False)
    """The token to exchange. It changes by itself every so often, which changes nothing else."""


class MaterialFiles:
    """The files one credential depends on."""

    def __init__(self, config: CredentialConfig, secrets_dir: Path) -> None:
        self._config = config
        self._root = secrets_dir
        self._watched = [secrets_dir / ref for ref in _refs(config)]
        self._watched += [
            Path(path) for path in (config.ca_file, config.subject_token_file) if path
        ]

    def signatures(self) -> tuple[Signature, ...]:
        """Tell the state of each file; differs when one was changed."""
        return tuple(signature(path) for path in self._watched)

    def read(self) -> Material:
        """Read everything; blocks. `Fault` at the first file that will not do."""
        config = self._config
        subject = config.subject_token_file
        return Material(
            secret=self._secret(config.client_secret_ref, "client_secret_ref"),
            key=self._secret(config.private_key_ref, "private_key_ref"),
            tls=self._tls(),
            subject=read_text(Path(subject), "subject_token_file") if subject else None,
        )

    def _secret(self, ref: str | None, key: str) -> Secret | None:
        return None if ref is None else read_text(locate(self._root, ref, key), key)

    def _tls(self) -> TlsFiles:
        config, digest = self._config, hashlib.sha256()
        if config.ca_file is not None:
            bundle = read_text(Path(config.ca_file), "ca_file", limit=CA_LIMIT)
            digest.update(bundle.reveal().encode())
        paths: dict[str, Path] = {}
        for key in ("client_cert_ref", "client_key_ref"):
            ref = getattr(config, key)
            if ref is not None:
                paths[key] = locate(self._root, ref, key)
                digest.update(b"\0" + read_text(paths[key], key).reveal().encode())
        return TlsFiles(
            ca=None if config.ca_file is None else Path(config.ca_file),
            cert=paths.get("client_cert_ref"),
            key=paths.get("client_key_ref"),
            digest=digest.digest(),
        )


def _refs(config: CredentialConfig) -> list[str]:
    refs = (
        config.client_secret_ref,
        config.private_key_ref,
        config.client_cert_ref,
        config.client_key_ref,
    )
    return [ref for ref in refs if ref is not None]
