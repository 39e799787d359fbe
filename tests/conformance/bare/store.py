"""`Store`: the upstream lines' CredentialDriver."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any, Final

from tests.conformance.bare import protos
from tests.conformance.bare.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unimplemented,
)
from tests.conformance.bare.handles import Handles, Owner
from tests.conformance.bare.handshake import NAME, VERSION, Handshake
from tests.conformance.bare.vault import Stored, Vault

_LONGEST_KEY: Final = 512
_EXPIRES: Final = re.compile(r"BARE_EXPIRES_([0-9]{1,6})")


class Store:
    """One method for each RPC, named after it.

    A key such as ``BARE_EXPIRES_2`` makes a value that expires two seconds after it was stored.
    """

    supports_list = True

    def __init__(self, vault: Vault) -> None:
        self.messages = protos.schema("store")
        self.vault = vault
        self.handles = Handles(vault.ledger.key)
        self.handshake = Handshake("credentials")

    async def get_capabilities(self, request: Any) -> Any:
        self.handshake.judge(request)
        peer = self.messages.named("openshell.extension.v1.PeerMetadata")
        return self.messages.GetCredentialDriverCapabilitiesResponse(
            driver_name=NAME,
            driver_version=VERSION,
            backend_kind="simulated",
            supports_list=self.supports_list,
            supports_expires_at=True,
            extension=self.handshake.metadata(peer),
        )

    async def store_credential(self, request: Any) -> Any:
        owner = self.handles.owner(request)
        self.judge_key(owner.key)
        handle = self.handle_for(request, owner)
        await self.vault.reach()
        # From here on nothing waits: a caller who left before finds nothing (CREDU-STORE-06).
        self.vault.put(
            handle, owner, self.object_id(request), self.kept(request), self.expiry(owner.key)
        )
        return self.messages.StoreCredentialResponse(handle=self.written(handle, request))

    def judge_key(self, key: str) -> None:
        if len(key) > _LONGEST_KEY or not key.isprintable():
            raise InvalidArgument("credential_key is too long or has control characters")

    def handle_for(self, request: Any, owner: Owner) -> str:
        """The handle that is there, so that it stays valid, or a new one (CREDU-STORE-02, -04)."""
        if request.HasField("existing_handle"):
            return self.handles.open(request, "existing_handle")
        return self.handles.new(owner)

    def object_id(self, request: Any) -> str:
        return str(request.object_id or request.provider_id)

    def kept(self, request: Any) -> str:
        """The value as it came (CREDU-STORE-03)."""
        return str(request.value)

    def written(self, handle: str, _request: Any) -> Any:
        """Write a handle, with nothing of the value in it."""
        handle_class = self.messages.named("openshell.datamodel.v1.CredentialHandle")
        return handle_class(driver=NAME, handle=handle)

    def expiry(self, key: str) -> float | None:
        found = _EXPIRES.fullmatch(key)
        return None if found is None else time.time() + int(found[1])

    async def resolve_credentials(self, request: Any) -> Any:
        """All or nothing, each id once (CREDU-RES-01, -02)."""
        self.judge_ids([item.request_id for item in request.credentials])
        opened = [(item, self.handles.open(item, "handle")) for item in request.credentials]
        answers = await self.resolve_all(opened)
        return self.messages.ResolveCredentialsResponse(credentials=self.ordered(answers))

    def judge_ids(self, ids: list[str]) -> None:
        if not all(ids):
            raise InvalidArgument("a request_id is empty")
        if len(set(ids)) != len(ids):
            raise InvalidArgument("a request_id occurs twice")

    async def resolve_all(self, opened: list[tuple[Any, str]]) -> list[Any]:
        """Side by side, since each may take its time (CREDU-RES-04)."""
        return await asyncio.gather(*(self.resolve(*each) for each in opened))

    async def resolve(self, item: Any, handle: str) -> Any:
        await self.vault.reach()
        return self.resolved(item.request_id, self.expect(handle))

    def expect(self, handle: str) -> Stored:
        """Find an object; never an expired one (CREDU01-EXP-03)."""
        found = self.vault.get(handle)
        if found is None:
            raise NotFound("there is no value behind the handle")
        if self.vault.is_over(found):
            raise FailedPrecondition("the value has expired")
        return found

    def resolved(self, request_id: str, stored: Stored) -> Any:
        """Write one answer; both times or neither (CREDU01-EXP-01, -02)."""
        made = self.messages.ResolvedCredential(request_id=request_id, value=stored.value)
        if stored.expires_at is not None:
            made.expires_at_ms = int(stored.expires_at * 1000)
            made.expiration_time.FromMilliseconds(made.expires_at_ms)
        return made

    def ordered(self, answers: list[Any]) -> list[Any]:
        """Any order will do."""
        return answers

    async def delete_credential(self, request: Any) -> Any:
        handle = self.handles.open(request, "handle")
        await self.vault.reach()
        self.vault.remove(handle)
        return self.messages.DeleteCredentialResponse()

    async def list_credentials(self, _request: Any) -> Any:
        if not self.supports_list:
            raise Unimplemented("listing is not supported")
        await self.vault.reach()
        listed = [self.listed(each) for each in self.vault.all()]
        return self.messages.ListCredentialsResponse(credentials=listed)

    def listed(self, stored: Stored) -> Any:
        """Write an object without its value (CREDU-LIST-01)."""
        owner = stored.owner
        return self.messages.ListedCredential(
            handle=stored.handle,
            keys=[owner.key],
            metadata={"workspace": owner.workspace, "provider": owner.provider},
        )
