"""The upstream credential store."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from typing import Any

from tests.conformance.bare.driver import Driver
from tests.conformance.bare.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Refusal,
    Unavailable,
    Unimplemented,
)
from tests.conformance.bare.faults._tools import fault, override


@fault("store-has-no-name", kills=("CREDU-CAP-01.a",))
def _(driver: Driver) -> None:
    """The driver does not say who it is."""

    @override(driver.store, "get_capabilities")
    async def _(original: Any, request: Any) -> Any:
        made = await original(request)
        made.driver_name = ""
        return made


@fault("store-capabilities-ask-the-backend", kills=("CREDU-CAP-01.b",))
def _(driver: Driver) -> None:
    """GetCapabilities needs the backend."""

    @override(driver.store, "get_capabilities")
    async def _(original: Any, request: Any) -> Any:
        await driver.store.vault.reach()
        return await original(request)


@fault("store-has-no-extension", kills=("CREDU01-NEG-01",))
def _(driver: Driver) -> None:
    """The credential service says nothing of its contract."""

    @override(driver.store, "get_capabilities")
    async def _(original: Any, request: Any) -> Any:
        made = await original(request)
        made.ClearField("extension")
        return made


@fault("store-lacks-the-contract", kills=("CREDU01-NEG-01",))
def _(driver: Driver) -> None:
    """The contract's capability is not offered."""
    driver.store.handshake.supported = ["openshell.credentials.something"]

    @override(driver.store.handshake, "judge")
    def _(_original: Any, _request: Any) -> None:
        return


@fault("store-refuses-with-internal", kills=("CREDU01-NEG-02",))
def _(driver: Driver) -> None:
    """A gateway that does not fit is refused with INTERNAL."""

    @override(driver.store.handshake, "judge")
    def _(original: Any, request: Any) -> None:
        try:
            original(request)
        except FailedPrecondition as error:
            raise Refusal(error.message) from None


@fault("store-insists-on-the-handshake", kills=("CREDU01-NEG-03",))
def _(driver: Driver) -> None:
    """An older gateway is refused."""

    @override(driver.store.handshake, "judge")
    def _(original: Any, request: Any) -> None:
        if not request.HasField("gateway"):
            raise FailedPrecondition("gateway metadata is missing")
        original(request)


@fault("handle-is-blank", kills=("CREDU-STORE-01.a",))
def _(driver: Driver) -> None:
    """The handle is not sent."""

    @override(driver.store, "written")
    def _(original: Any, _handle: str, request: Any) -> Any:
        return original(" ", request)


@fault("values-are-in-memory", kills=("CREDU-STORE-01.b",))
def _(driver: Driver) -> None:
    """The last value is written to the disk with the next one."""
    vault = driver.store.vault
    waiting: dict[str, tuple[Any, ...]] = {}

    @override(vault, "put")
    def _(original: Any, *given: Any) -> None:
        while waiting:
            original(*waiting.popitem()[1])
        waiting[given[0]] = given

    @override(vault, "get")
    def _(original: Any, handle: str) -> Any:
        if handle in waiting:
            from tests.conformance.bare.vault import Stored

            given = waiting[handle]
            return Stored(given[0], given[1], given[3], given[4])
        return original(handle)

    @override(vault, "all")
    def _(original: Any) -> Any:
        return [*original(), *(vault.get(handle) for handle in waiting)]

    @override(vault, "remove")
    def _(original: Any, handle: str) -> None:
        waiting.pop(handle, None)
        original(handle)


@fault(
    "overwrite-gives-a-new-handle",
    kills=("CREDU-STORE-02.a", "CREDU-STORE-02.b"),
    also=("CREDU-CON-01.b",),
)
def _(driver: Driver) -> None:
    """A value that is overwritten goes under another handle; the old one keeps the old value."""

    @override(driver.store, "handle_for")
    def _(_original: Any, _request: Any, owner: Any) -> str:
        return driver.store.handles.new(owner)


@fault("nothing-is-made-anew", kills=("CREDU-STORE-02.b",), also=("CREDU-CON-01",))
def _(driver: Driver) -> None:
    """An overwrite of what is gone is NOT_FOUND."""

    @override(driver.store, "handle_for")
    def _(original: Any, request: Any, owner: Any) -> str:
        handle = str(original(request, owner))
        if request.HasField("existing_handle") and driver.store.vault.get(handle) is None:
            raise NotFound("there is no such object")
        return handle


@fault("keys-have-no-dots", kills=("CREDU-STORE-03.a",))
def _(driver: Driver) -> None:
    """A key has to be the name of a variable."""

    @override(driver.store, "judge_key")
    def _(original: Any, key: str) -> None:
        original(key)
        if not key.replace("_", "a").isalnum():
            raise InvalidArgument("credential_key is no name of a variable")


@fault("values-are-trimmed", kills=("CREDU-STORE-03.b",))
def _(driver: Driver) -> None:
    """Blanks and line breaks around a value are dropped."""

    @override(driver.store, "kept")
    def _(original: Any, request: Any) -> str:
        return str(original(request)).strip()


@fault("values-are-cut", kills=("CREDU-STORE-03.c",))
def _(driver: Driver) -> None:
    """Of a value 4 KiB are kept."""

    @override(driver.store, "kept")
    def _(original: Any, request: Any) -> str:
        return str(original(request))[:4096]


def _same_object(driver: Driver, *parts: str) -> None:
    """Let objects be one that agree in these parts of their owner, or in ``object``."""
    handles: dict[tuple[str, ...], str] = {}

    @override(driver.store, "handle_for")
    def _(original: Any, request: Any, owner: Any) -> str:
        if request.HasField("existing_handle"):
            return str(original(request, owner))
        known = {**dataclasses.asdict(owner), "object": driver.store.object_id(request)}
        key = tuple(known[part] for part in parts)
        return handles.setdefault(key, original(request, owner))

    @override(driver.store.handles, "judge_signature")
    def _(original: Any, nonce: str, signature: str, owner: Any) -> None:
        if not any(nonce in handle for handle in handles.values()):
            original(nonce, signature, owner)


@fault("object-id-is-ignored", kills=("CREDU-STORE-04.a",), also=("CREDU-HND-02", "CREDU-DEL-02.b"))
def _(driver: Driver) -> None:
    """A staged value overwrites the committed one."""
    _same_object(driver, "workspace", "provider", "provider_id", "key")


@fault("second-store-takes-the-first-one's-place", kills=("CREDU-STORE-04.b",))
def _(driver: Driver) -> None:
    """A store without a handle ends what was stored there before."""
    last: dict[Any, str] = {}

    @override(driver.store, "handle_for")
    def _(original: Any, request: Any, owner: Any) -> str:
        handle = str(original(request, owner))
        if not request.HasField("existing_handle"):
            key = (owner, driver.store.object_id(request))
            if key in last:
                driver.store.vault.remove(last[key])
            last[key] = handle
        return handle


@fault(
    "workspaces-share-objects", kills=("CREDU-STORE-05.a",), also=("CREDU-HND-02", "CREDU-DEL-02.b")
)
def _(driver: Driver) -> None:
    """An object's place does not have the workspace in it."""
    _same_object(driver, "provider", "provider_id", "key", "object")


@fault(
    "providers-go-by-name",
    kills=("CREDU-STORE-05.b",),
    also=("CREDU-HND-02", "CREDU-DEL-02.b", "CREDU-STORE-04.a"),
)
def _(driver: Driver) -> None:
    """An object's place does not have the provider's id in it."""
    _same_object(driver, "workspace", "provider", "key")


@fault("late-stores-are-done", kills=("CREDU-STORE-06",))
def _(driver: Driver) -> None:
    """A store whose caller has left goes on."""

    @override(driver.store, "store_credential")
    async def _(original: Any, request: Any) -> Any:
        return await asyncio.shield(asyncio.ensure_future(original(request)))


@fault(
    "handle-driver-has-to-be-its-own",
    kills=("CREDU-HND-01",),
    also=("CREDU-RES-01.a",),
)
def _(driver: Driver) -> None:
    """The gateway's name for the driver is not accepted."""

    @override(driver.store.handles, "open")
    def _(original: Any, message: Any, field: str) -> str:
        handle = str(original(message, field))
        if getattr(message, field).driver != "openshell-bare":
            raise InvalidArgument("the handle is of another driver")
        return handle


@fault(
    "malformed-handles-are-internal",
    kills=("CREDU-HND-02.a",),
    also=("CREDU-RES-02.b", "CREDU-HND-02.b"),
)
def _(driver: Driver) -> None:
    """A handle that is none is a fault of the driver."""

    @override(driver.store.handles, "open")
    def _(original: Any, message: Any, field: str) -> str:
        try:
            return str(original(message, field))
        except InvalidArgument as error:
            if "malformed" in error.message:
                raise Refusal("cannot read the handle") from None
            raise


@fault("handles-are-read-loosely", kills=("CREDU-HND-02.b",))
def _(driver: Driver) -> None:
    """What follows a handle is not looked at."""

    @override(driver.store.handles, "open")
    def _(original: Any, message: Any, field: str) -> str:
        if message.HasField(field):
            part = getattr(message, field)
            part.handle = part.handle[:69]
        return str(original(message, field))


@fault(
    "handles-are-not-bound-to-a-workspace",
    kills=("CREDU-HND-02.c", "CREDU-HND-02.d", "CREDU-HND-02.e"),
)
def _(driver: Driver) -> None:
    """A handle works in every workspace."""

    @override(driver.store.handles, "bound")
    def _(original: Any, owner: Any) -> list[str]:
        bound: list[str] = original(owner)
        return bound[1:]


@fault("handles-are-not-bound-to-a-key", kills=("CREDU-HND-02.c",), also=("CREDU-HND-02",))
def _(driver: Driver) -> None:
    """A handle works for every key of its provider."""

    @override(driver.store.handles, "bound")
    def _(original: Any, owner: Any) -> list[str]:
        bound: list[str] = original(owner)
        return bound[:-1]


@fault("answers-lack-one", kills=("CREDU-RES-01.a", "CREDU-RES-01.c"))
def _(driver: Driver) -> None:
    """The last item of a batch is not answered."""

    @override(driver.store, "ordered")
    def _(_original: Any, answers: list[Any]) -> list[Any]:
        return answers[:-1] if len(answers) > 1 else answers


@fault("answers-are-in-twice", kills=("CREDU-RES-01.a", "CREDU-RES-01.c"))
def _(driver: Driver) -> None:
    """The first item of a batch is answered twice."""

    @override(driver.store, "ordered")
    def _(_original: Any, answers: list[Any]) -> list[Any]:
        return [*answers, answers[0]] if len(answers) > 1 else answers


@fault(
    "values-of-a-batch-change-places",
    kills=("CREDU-RES-01.a", "CREDU-RES-01.c"),
    also=("CREDU-RES-04", "CREDU-CON-01.a"),
)
def _(driver: Driver) -> None:
    """Answers get the ids by their place in another order."""

    @override(driver.store, "ordered")
    def _(_original: Any, answers: list[Any]) -> list[Any]:
        ids = [each.request_id for each in answers]
        for each, name in zip(answers, reversed(ids), strict=True):
            each.request_id = name
        return answers


@fault("empty-batches-are-refused", kills=("CREDU-RES-01.b",))
def _(driver: Driver) -> None:
    """A batch has to have something in it."""

    @override(driver.store, "judge_ids")
    def _(original: Any, ids: list[str]) -> None:
        if not ids:
            raise InvalidArgument("there are no credentials")
        original(ids)


@fault("ids-are-tidied-up", kills=("CREDU-RES-01.c",))
def _(driver: Driver) -> None:
    """A request_id comes back without blanks and in lower case."""

    @override(driver.store, "resolved")
    def _(original: Any, request_id: str, stored: Any) -> Any:
        return original(request_id.strip().lower(), stored)


@fault("missing-items-are-left-out", kills=("CREDU-RES-02.a",), also=("CREDU-DEL-02.a",))
def _(driver: Driver) -> None:
    """An item that is not there is not answered."""

    @override(driver.store, "resolve_all")
    async def _(_original: Any, opened: list[Any]) -> list[Any]:
        found = await asyncio.gather(
            *(driver.store.resolve(*each) for each in opened), return_exceptions=True
        )
        real = [each for each in found if not isinstance(each, NotFound)]
        for each in real:
            if isinstance(each, BaseException):
                raise each
        return real


@fault("malformed-items-are-left-out", kills=("CREDU-RES-02.b",))
def _(driver: Driver) -> None:
    """An item whose handle is none is not answered if there are others."""

    @override(driver.store, "resolve_credentials")
    async def _(original: Any, request: Any) -> Any:
        if len(request.credentials) > 1:
            kept = [each for each in request.credentials if each.handle.handle.startswith("b1.")]
            del request.credentials[:]
            request.credentials.extend(kept)
        return await original(request)


@fault("store-outage-is-not-found", kills=("CREDU-RES-02.c",))
def _(driver: Driver) -> None:
    """What cannot be reached counts as missing."""

    @override(driver.store, "resolve")
    async def _(original: Any, item: Any, handle: str) -> Any:
        try:
            return await original(item, handle)
        except Unavailable:
            raise NotFound("there is no value behind the handle") from None


@fault("delete-in-an-outage-is-ok", kills=("CREDU-RES-02.c",))
def _(driver: Driver) -> None:
    """A delete that did not reach the backend says that it was done."""

    @override(driver.store, "delete_credential")
    async def _(original: Any, request: Any) -> Any:
        try:
            return await original(request)
        except Unavailable:
            return driver.store.messages.DeleteCredentialResponse()


@fault("batches-are-resolved-one-by-one", kills=("CREDU-RES-04",))
def _(driver: Driver) -> None:
    """Each item of a batch waits for the one before it."""
    driver.calls.limit = 60.0

    @override(driver.store, "resolve_all")
    async def _(_original: Any, opened: list[Any]) -> list[Any]:
        return [await driver.store.resolve(*each) for each in opened]


@fault("delete-of-nothing-is-not-found", kills=("CREDU-DEL-01.a",))
def _(driver: Driver) -> None:
    """A second delete is NOT_FOUND."""

    @override(driver.store.vault, "remove")
    def _(original: Any, handle: str) -> None:
        if driver.store.vault.get(handle) is None:
            raise NotFound("there is no value behind the handle")
        original(handle)


@fault("delete-without-handle-is-ok", kills=("CREDU-DEL-01.b",))
def _(driver: Driver) -> None:
    """A delete that names nothing is done at once."""

    @override(driver.store, "delete_credential")
    async def _(original: Any, request: Any) -> Any:
        if not request.HasField("handle"):
            return driver.store.messages.DeleteCredentialResponse()
        return await original(request)


@fault(
    "deleted-values-are-cached",
    kills=("CREDU-DEL-02.a",),
    also=("CREDU-STORE-02", "CREDU-RES-02.a"),
)
def _(driver: Driver) -> None:
    """What was resolved once is resolved for ever."""
    cache: dict[str, Any] = {}

    @override(driver.store, "expect")
    def _(original: Any, handle: str) -> Any:
        if driver.store.vault.get(handle) is None and handle in cache:
            return cache[handle]
        cache[handle] = original(handle)
        return cache[handle]


@fault("delete-goes-by-prefix", kills=("CREDU-DEL-02.b",))
def _(driver: Driver) -> None:
    """What begins with the same key is deleted, too."""
    vault = driver.store.vault

    @override(vault, "remove")
    def _(original: Any, handle: str) -> None:
        found = vault.get(handle)
        for each in vault.all():
            same = found is not None and each.owner.provider_id == found.owner.provider_id
            if same and found is not None and each.owner.key.startswith(found.owner.key):
                original(each.handle)
        original(handle)


@fault(
    "list-is-claimed-and-missing", kills=("CREDU-LIST-01",), also=("CREDF-MIX-01", "CREDU-STORE-06")
)
def _(driver: Driver) -> None:
    """supports_list is true, and ListCredentials is not implemented."""

    @override(driver.store, "list_credentials")
    async def _(_original: Any, _request: Any) -> Any:
        raise Unimplemented("this method is not offered")


@fault("list-is-empty", kills=("CREDU-LIST-01",), also=("CREDF-MIX-01",))
def _(driver: Driver) -> None:
    """ListCredentials lists nothing."""

    @override(driver.store, "list_credentials")
    async def _(_original: Any, _request: Any) -> Any:
        return driver.store.messages.ListCredentialsResponse()


@fault("stores-at-once-get-lost", kills=("CREDU-CON-01.a",))
def _(driver: Driver) -> None:
    """A provider's keys are read, changed and written back together."""
    vault = driver.store.vault

    def of(provider_id: str) -> set[str]:
        return {each.handle for each in vault.all() if each.owner.provider_id == provider_id}

    @override(driver.store, "store_credential")
    async def _(original: Any, request: Any) -> Any:
        read = of(request.provider_id)
        await asyncio.sleep(0.01)
        answer = await original(request)
        for handle in of(request.provider_id) - read - {answer.handle.handle}:
            vault.remove(handle)
        return answer


@fault("colliding-writes-are-internal", kills=("CREDU-CON-01.b",))
def _(driver: Driver) -> None:
    """Whoever comes second gets INTERNAL."""
    busy: set[str] = set()

    @override(driver.store, "store_credential")
    async def _(original: Any, request: Any) -> Any:
        handle = request.existing_handle.handle
        if handle and handle in busy:
            raise Refusal("conflict")
        busy.add(handle)
        try:
            await asyncio.sleep(0.01)
            return await original(request)
        finally:
            busy.discard(handle)


def _expiring(driver: Driver, millis: int, *, new: int | None, old: bool = True) -> None:
    @override(driver.store, "resolved")
    def _(original: Any, request_id: str, stored: Any) -> Any:
        made = original(request_id, stored)
        if old:
            made.expires_at_ms = millis
        if new is not None:
            made.expiration_time.FromMilliseconds(new)
        return made


@fault("expiry-is-negative", kills=("CREDU-RES-03",))
def _(driver: Driver) -> None:
    """Never is -1."""
    _expiring(driver, -1, new=None)


@fault("store-expiry-in-seconds", kills=("CREDU-RES-03",), also=("CREDU01-EXP-02",))
def _(driver: Driver) -> None:
    """expires_at_ms is in seconds."""
    _expiring(driver, int(time.time()) + 3600, new=int(time.time() + 3600) * 1000)


@fault("expiry-of-zero", kills=("CREDU01-EXP-01",))
def _(driver: Driver) -> None:
    """What does not expire has an expiration_time in 1970."""
    _expiring(driver, 0, new=0)


@fault("old-expiry-alone", kills=("CREDU01-EXP-02",))
def _(driver: Driver) -> None:
    """Only the older of the two times is set."""
    _expiring(driver, int(time.time() + 3600) * 1000, new=None)


@fault("expired-values-are-given", kills=("CREDU01-EXP-03",))
def _(driver: Driver) -> None:
    """What has expired goes on being given."""
    past = int(time.time() - 3600) * 1000
    _expiring(driver, past, new=past)
