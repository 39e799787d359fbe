"""`StoreCalls`: the calls of a `CredentialDriver`, and what a gateway accepts as an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from openshell_drivers._wire import credential_driver_pb2 as wire
from openshell_drivers._wire.datamodel_pb2 import CredentialHandle
from openshell_drivers.errors import Internal
from openshell_drivers.secrets import Secret
from openshell_drivers.testing.gateway._calls import Calls
from openshell_drivers.testing.gateway._tongue import check_times


@dataclass(frozen=True, slots=True, kw_only=True)
class Handle:
    """What a driver gave for a value. Opaque, and no secret."""

    driver: str
    """The operator's name for the driver, not what it wrote there."""
    handle: str
    metadata: Mapping[str, str]

    def message(self) -> CredentialHandle:
        """Write it as it is presented."""
        return CredentialHandle(driver=self.driver, handle=self.handle, metadata=self.metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whose a value is."""

    provider: str
    key: str
    workspace: str
    provider_id: str


class StoreCalls:
    """Every method raises the `DriverError` of the answer's status, or `Internal` for an answer
    that a gateway does not accept."""

    def __init__(self, calls: Calls, name: str, *, checks_times: bool) -> None:
        self._calls = calls
        self._name = name
        self._checks_times = checks_times

    async def store(
        self,
        owner: Owner,
        value: Secret,
        *,
        existing: Handle | None = None,
        object_id: str = "",
    ) -> Handle:
        """Store a value."""
        request = wire.StoreCredentialRequest(
            provider=owner.provider,
            credential_key=owner.key,
            value=value.reveal(),
            existing_handle=None if existing is None else existing.message(),
            workspace=owner.workspace,
            provider_id=owner.provider_id,
            object_id=object_id,
        )
        answer = await self._calls.ask("StoreCredential", request, wire.StoreCredentialResponse)
        if not answer.handle.handle.strip():
            raise Internal("the driver gave no handle")
        return Handle(
            driver=self._name, handle=answer.handle.handle, metadata=dict(answer.handle.metadata)
        )

    async def resolve(
        self, wanted: Sequence[tuple[Owner, Handle]]
    ) -> list[tuple[Secret, int | None]]:
        """Get a batch: each value with the end that the driver gives, in milliseconds."""
        ids = [f"credential-{number}" for number in range(len(wanted))]
        request = wire.ResolveCredentialsRequest(
            credentials=[
                wire.ResolveCredentialRequest(
                    request_id=request_id,
                    provider=owner.provider,
                    credential_key=owner.key,
                    handle=handle.message(),
                    workspace=owner.workspace,
                    provider_id=owner.provider_id,
                )
                for request_id, (owner, handle) in zip(ids, wanted, strict=True)
            ]
        )
        answer = await self._calls.ask(
            "ResolveCredentials", request, wire.ResolveCredentialsResponse
        )
        found = self._by_id(answer, ids)
        return [(Secret(found[each].value), _end(found[each])) for each in ids]

    def _by_id(
        self, answer: wire.ResolveCredentialsResponse, ids: Sequence[str]
    ) -> dict[str, wire.ResolvedCredential]:
        found: dict[str, wire.ResolvedCredential] = {}
        for item in answer.credentials:
            if not item.request_id:
                raise Internal("the driver answered an empty request_id")
            if item.request_id not in ids:
                raise Internal("the driver answered an unknown request_id")
            if item.request_id in found:
                raise Internal("the driver answered a request_id twice")
            found[item.request_id] = item
        if len(found) != len(ids):
            raise Internal("the driver left a request_id unanswered")
        try:
            if self._checks_times:
                check_times(answer)
        except DecodeError:
            raise Internal("the driver's answer holds a time that is none") from None
        return found

    async def delete(self, owner: Owner, handle: Handle) -> Handle:
        """Delete a value."""
        request = wire.DeleteCredentialRequest(
            provider=owner.provider,
            credential_key=owner.key,
            handle=handle.message(),
            workspace=owner.workspace,
            provider_id=owner.provider_id,
        )
        await self._calls.ask("DeleteCredential", request, wire.DeleteCredentialResponse)
        return handle


def _end(item: wire.ResolvedCredential) -> int | None:
    """Read what the line has left of both time fields: a present one counts, even a zero."""
    if item.HasField("expiration_time"):
        return item.expiration_time.seconds * 1000 + item.expiration_time.nanos // 1_000_000
    return item.expires_at_ms or None
