"""Runs a real Keycloak on loopback: start, stop, kill, restart, with realms of our own in it.

``python -m tests.peers.keycloak fetch`` fills the cache, ``run [--port N]`` serves until it is
interrupted. Nothing but loopback is listened on, and each instance has its data in a temporary
folder of its own, so several can run at once.
"""

from __future__ import annotations

import argparse
import json
import secrets
import shutil
import signal
import ssl
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import trustme

from tests.peers.keycloak_admin import KeycloakAdmin
from tests.peers.keycloak_dist import ensure_java, ensure_keycloak, java_environment
from tests.peers.plainhttp import Reply, request
from tests.peers.processes import (
    LOOPBACK,
    PeerFailed,
    PeerMissing,
    ProcessGroup,
    free_port,
    require_free,
    tail,
    wait_until,
)
from tests.peers.realms import PLAIN, TENANTS, X509_COMMON_NAME, Realms

__all__ = ["Keycloak", "KeycloakAdmin", "PeerFailed", "PeerMissing", "ensure_keycloak", "free_port"]

START_TIMEOUT = 180.0
_ADMIN = "peer-admin"
# Compiling less makes it ready sooner: where a restart took 9 s it takes 6.5.
_JVM = {"JAVA_OPTS_KC_HEAP": "-Xms64m -Xmx512m", "JAVA_OPTS_APPEND": "-XX:TieredStopAtLevel=1"}


class Keycloak:
    """One Keycloak with the two tenants of `realms`; a context manager that starts and ends it.

    With `https=True` it speaks only HTTPS, with a certificate of a CA made for it (`ca_file`), and
    takes client certificates of that CA (`client_certificate`).
    """

    def __init__(
        self, *, port: int | None = None, https: bool = False, realms: Realms | None = None
    ) -> None:
        self.port = free_port() if port is None else port
        self.https = https
        self.realms = Realms() if realms is None else realms
        self.home = Path(tempfile.mkdtemp(prefix="keycloak-"))
        self.log_file = self.home / "keycloak.log"
        self._admin_password = f"canary-{secrets.token_urlsafe(24)}"
        self._group: ProcessGroup | None = None
        self._imported = False
        self._authority = trustme.CA() if https else None
        if self._authority is not None:
            self._write_certificates(self._authority)

    @property
    def base_url(self) -> str:
        """The address without a path, e.g. ``http://127.0.0.1:8080``."""
        return f"{'https' if self.https else 'http'}://{LOOPBACK}:{self.port}"

    @property
    def ca_file(self) -> Path:
        """The PEM file of the CA that the server's certificate comes from (HTTPS only)."""
        return self.home / "ca.pem"

    @property
    def client_certificate(self) -> Path:
        """The PEM file with key and certificate for `realms.X509_CLIENT` (HTTPS only)."""
        return self.home / "client.pem"

    @property
    def running(self) -> bool:
        """Whether the server's process lives."""
        return self._group is not None and self._group.alive

    def issuer(self, realm: str) -> str:
        """Return the issuer that tokens of the tenant name."""
        return f"{self.base_url}/realms/{realm}"

    def token_endpoint(self, realm: str) -> str:
        """Return where the tenant's tokens are asked for."""
        return f"{self.issuer(realm)}/protocol/openid-connect/token"

    def secret(self, realm: str, client_id: str) -> str:
        """Return the secret that the client was loaded with."""
        return self.realms.secret(realm, client_id)

    def admin(self) -> KeycloakAdmin:
        """Return the administrator, to change clients and keys while the server runs."""
        return KeycloakAdmin(self.base_url, _ADMIN, self._admin_password, self.tls_context())

    def tls_context(self, *, with_client_certificate: bool = False) -> ssl.SSLContext | None:
        """Return a context that trusts only this server's CA, None over plain HTTP."""
        if not self.https:
            return None
        context = ssl.create_default_context(cafile=str(self.ca_file))
        if with_client_certificate:
            context.load_cert_chain(self.client_certificate)
        return context

    def start(self, timeout: float = START_TIMEOUT) -> None:
        """Start, and return when both tenants answer; PeerMissing where there is no Keycloak."""
        if self.running:
            raise PeerFailed("this Keycloak is running already")
        distribution, java = ensure_keycloak(), ensure_java()
        require_free(self.port)
        self._prepare(distribution)
        environment = {
            **java_environment(java),
            **_JVM,
            "KC_BOOTSTRAP_ADMIN_USERNAME": _ADMIN,
            "KC_BOOTSTRAP_ADMIN_PASSWORD": self._admin_password,
        }
        self._group = ProcessGroup(self._command(), environment, self.log_file)
        try:
            self._await_ready(self._group, timeout)
        except BaseException:
            self.kill()
            raise
        self._imported = True

    def stop(self) -> None:
        """End the server in an orderly way; its data stay for the next start."""
        if self._group is not None:
            self._group.terminate()
            self._group = None

    def kill(self) -> None:
        """SIGKILL the server, as when its machine fails; its data stay for the next start."""
        if self._group is not None:
            self._group.kill()
            self._group = None

    def restart(self, timeout: float = START_TIMEOUT) -> None:
        """Stop where it runs, and start on the same port with the same data."""
        self.stop()
        self.start(timeout)

    def close(self) -> None:
        """End the server for good and remove its folder."""
        self.kill()
        shutil.rmtree(self.home, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _prepare(self, distribution: Path) -> None:
        """Lay out a home: the launcher copied (it finds its home by it), the rest linked."""
        launcher = self.home / "bin" / "kc.sh"
        if launcher.exists():
            return
        launcher.parent.mkdir()
        shutil.copy2(distribution / "bin" / "kc.sh", launcher)
        for name in ("conf", "lib", "providers", "themes"):
            (self.home / name).symlink_to(distribution / name)
        self.realms.write(self.home / "data" / "import")

    def _command(self) -> list[str]:
        # Without cache=local it listens for a cluster and waits 20 s for a member killed before.
        options = ["--cache=local", f"--hostname={self.base_url}", f"--http-host={LOOPBACK}"]
        # Without WRITE_DELAY=0 a change made half a second before a SIGKILL is lost.
        options.append("--db-url-properties=;NON_KEYWORDS=VALUE;WRITE_DELAY=0")
        if self.https:
            options += [
                f"--https-port={self.port}",
                f"--https-certificate-file={self.home / 'server.pem'}",
                f"--https-certificate-key-file={self.home / 'server.key'}",
                f"--truststore-paths={self.ca_file}",
            ]
        else:
            options += ["--http-enabled=true", f"--http-port={self.port}"]
        if not self._imported:
            options.append("--import-realm")
        return [str(self.home / "bin" / "kc.sh"), "start", "--optimized", *options]

    def _await_ready(self, group: ProcessGroup, timeout: float) -> None:
        over = wait_until(lambda: group.returncode is not None or self._ready(), timeout, 0.1)
        if over and group.returncode is None:
            return
        what = f"ended with {group.returncode}" if over else f"was not ready in {timeout:.0f} s"
        raise PeerFailed(f"Keycloak {what}; its log ends:\n{tail(self.log_file)}")

    def _ready(self) -> bool:
        return all(self._discovery_answers(realm) for realm in TENANTS)

    def _discovery_answers(self, realm: str) -> bool:
        url = f"{self.issuer(realm)}/.well-known/openid-configuration"
        try:
            return request("GET", url, tls=self.tls_context()).status == 200
        except OSError:
            return False

    def client_credentials(
        self, realm: str, client_id: str = PLAIN, secret: str | None = None, **form: str
    ) -> Reply:
        """Ask for a token with a client's secret, by default the one it was loaded with."""
        given = self.secret(realm, client_id) if secret is None else secret
        login = {"client_id": client_id, "client_secret": given}
        fields = {"grant_type": "client_credentials", **login, **form}
        return request("POST", self.token_endpoint(realm), form=fields, tls=self.tls_context())

    def _write_certificates(self, authority: trustme.CA) -> None:
        authority.cert_pem.write_to_path(self.ca_file)
        server = authority.issue_cert(LOOPBACK, "localhost")
        server.private_key_pem.write_to_path(self.home / "server.key")
        server.cert_chain_pems[0].write_to_path(self.home / "server.pem")
        client = authority.issue_cert(
            X509_COMMON_NAME,
            common_name=X509_COMMON_NAME,
            organization_name="openshell-drivers",
            organization_unit_name="peers",
        )
        client.private_key_and_cert_chain_pem.write_to_path(self.client_certificate)


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch Keycloak, or run one until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m tests.peers.keycloak", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("fetch", help="fill the cache and print the folder")
    run = commands.add_parser("run", help="serve until interrupted")
    run.add_argument("--port", type=int, default=None)
    options = parser.parse_args(arguments)
    try:
        if options.command == "fetch":
            print(ensure_keycloak())
        else:
            _serve(options.port)
    except (PeerMissing, PeerFailed) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _serve(port: int | None) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with Keycloak(port=port) as keycloak:
            secrets_file = keycloak.home / "secrets.json"
            secrets_file.touch(mode=0o600)
            known = {r: {PLAIN: keycloak.secret(r, PLAIN)} for r in TENANTS}
            secrets_file.write_text(json.dumps(known), encoding="utf-8")
            endpoints = {r: keycloak.token_endpoint(r) for r in TENANTS}
            told = {"token_endpoints": endpoints, "client_secrets": str(secrets_file)}
            print(json.dumps(told), flush=True)
            signal.pause()
    except KeyboardInterrupt:
        print("stopped", flush=True)


if __name__ == "__main__":
    sys.exit(main())
