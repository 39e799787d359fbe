"""`Grant`: one credential at work: its files, its endpoint, and the request for its token.

Knows nothing of other credentials, nor of how long tokens are kept.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

import anyio
import anyio.to_thread

from openshell_credentials_keycloak._answers import Answer, token_of
from openshell_credentials_keycloak._discovery import Discovery
from openshell_credentials_keycloak._faults import Fault
from openshell_credentials_keycloak._form import client_proof, grant_fields
from openshell_credentials_keycloak._material import Material, MaterialFiles
from openshell_credentials_keycloak._tls import TlsContexts
from openshell_credentials_keycloak.config import CredentialConfig
from openshell_drivers import DeadlineExceeded, DriverError
from openshell_drivers.tokens import FetchedToken

_log: Final = logging.getLogger("openshell_credentials_keycloak")


class Grant:
    """Fetches the token of one credential, with the secret as its file has it now."""

    def __init__(
        self, name: str, config: CredentialConfig, secrets_dir: Path, contexts: TlsContexts
    ) -> None:
        self.name = name
        self.config = config
        self.secrets_dir = secrets_dir
        self._contexts = contexts
        self._files = MaterialFiles(config, secrets_dir)
        self._discovery = Discovery(config)
        self._signatures: object = None
        self._material: Material | None = None

    def stale(self) -> bool:
        """Whether a file may have changed since `look`: a few stats, cheap enough for each call."""
        return self._files.signatures() != self._signatures

    async def look(self) -> bool:
        """Read the files again; whether they say something new that can be used.

        Files that cannot be used are logged, by key and rule, and raise nothing: a token in hand
        is still good, and asking for the next one will say what is wrong.
        """
        before = self._material
        try:
            return await self._read() != before
        except Fault as fault:
            self._material = None
            _log.warning(
                "credential cannot be used",
                extra={"credential": self.name, "fault": fault.what},
            )
            return False

    async def fetch(self) -> FetchedToken:
        """Ask the issuer for a token, within ``timeout`` in all.

        If the issuer refuses the client, and the secret's file has changed since it was read, asks
        once more. Raises only `DriverError`, with nothing of the cause attached.
        """
        error: DriverError
        try:
            with anyio.fail_after(self.config.timeout):
                return await self._fetch()
        except TimeoutError:
            error = DeadlineExceeded(f"credential {self.name!r}: the issuer did not answer in time")
        except Fault as fault:
            error = fault.answer(self.name)
        # Outside of the handlers, so that what was caught does not hang on as __context__.
        raise error

    async def _fetch(self) -> FetchedToken:
        used = await self._read()
        try:
            return await self._request(used)
        except Fault as fault:
            if not fault.client_refused:
                raise
            fresh = await self._read()
            if fresh == used:
                raise
        _log.info("secret changed during the request", extra={"credential": self.name})
        return await self._request(fresh)

    async def _request(self, material: Material) -> FetchedToken:
        endpoint = await self._discovery.endpoint(lambda url: self._call(url, material))
        fields, headers = await client_proof(self.config, material, endpoint)
        form = [*grant_fields(self.config, material.subject), *fields]
        try:
            return token_of(await self._call(endpoint, material, urlencode(form), headers))
        except Fault as fault:
            if fault.code is None:  # no token endpoint talks like that: perhaps it has moved
                self._discovery.forget()
            if fault.client_refused:  # some issuers take one way of proving it only
                fault.what += f", asked with {self.config.auth}"
            raise

    async def _call(
        self,
        url: str,
        material: Material,
        form: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        await load_http()
        from openshell_credentials_keycloak import _http

        request = _http.Call(
            url=url,
            context=await self._contexts.get(material.tls, self.name),
            connect_timeout=self.config.connect_timeout,
            body=None if form is None else form.encode("ascii"),
            headers=headers or {},
            proxy=self.config.proxy,
        )
        return await _http.call(request)

    async def _read(self) -> Material:
        # Looked at before reading: a change in between is then found by the next `stale`.
        self._signatures = self._files.signatures()
        self._material = await anyio.to_thread.run_sync(self._files.read, abandon_on_cancel=True)
        return self._material


async def load_http() -> None:
    """Import the HTTP library without holding up the event loop."""
    await anyio.to_thread.run_sync(_import_http)


def _import_http() -> None:
    from openshell_credentials_keycloak import _http

    _http.warm()
