"""TLS contexts: built from files, shared by the credentials that have the same ones.

A context with the system's CAs costs about 25 ms and a megabyte, hence the sharing.
"""

from __future__ import annotations

import ssl
from pathlib import Path

import anyio.to_thread

from openshell_credentials_keycloak._faults import Fault
from openshell_credentials_keycloak._material import TlsFiles
from openshell_drivers import FailedPrecondition


class TlsContexts:
    """Contexts by the files they come from; one is built anew when the contents change."""

    def __init__(self) -> None:
        self._known: dict[tuple[Path | None, str], tuple[bytes, ssl.SSLContext]] = {}

    async def get(self, files: TlsFiles, client: str = "") -> ssl.SSLContext:
        """Give the context for `files`; `client` keeps apart those with certificates.

        `Fault` if OpenSSL will not take the CAs, the certificate or its key.
        """
        place = (files.ca, client if files.cert is not None else "")
        digest, context = self._known.get(place, (b"", None))
        if context is None or digest != files.digest:
            context = await anyio.to_thread.run_sync(_build, files)
            self._known[place] = (files.digest, context)
        return context

    def clear(self) -> None:
        """Forget all, when credentials have changed."""
        self._known.clear()


def _build(files: TlsFiles) -> ssl.SSLContext:
    try:
        # Without a CA file: OpenSSL's defaults, or SSL_CERT_FILE and SSL_CERT_DIR.
        context = ssl.create_default_context(cafile=files.ca)
    except (OSError, ValueError):  # ssl.SSLError is an OSError
        raise Fault(FailedPrecondition, "the file of ca_file holds no usable CA") from None
    if files.cert is not None:
        try:
            # The password keeps OpenSSL from asking a terminal for one.
            context.load_cert_chain(files.cert, files.key, password=lambda: "")
        except (OSError, ValueError):
            what = "client_cert_ref and client_key_ref hold no certificate with its key"
            raise Fault(FailedPrecondition, what) from None
    return context
