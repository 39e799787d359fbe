"""Handles as untrusted input, deletion and listing."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from openshell_drivers._wire import credential_driver_pb2 as wire
from openshell_drivers.conformance._checks import check
from openshell_drivers.conformance.benches.store import Handle, Kept, StoreBench

_check = partial(check, service="credential-store")
#: How a handle of somebody else may be refused; NOT_FOUND tells a stranger no more than that.
_REFUSALS: Final = ("INVALID_ARGUMENT", "FAILED_PRECONDITION", "PERMISSION_DENIED", "NOT_FOUND")
_MALFORMED: Final = {
    "empty": "",
    "blank": "   ",
    "a path": "../../../../etc/passwd",
    "of 10 000 characters": "x" * 10_000,
    "with control characters": "a\0b\nc",
}


@_check("CREDU-HND-01", "handle.driver decides nothing")
async def configured_name(bench: StoreBench) -> None:
    await bench.overwriting()
    slot, value = bench.slot(), bench.value()
    stored = await bench.store(slot, value)
    bench.need(stored.ok, str(stored), "CREDU-STORE-01")
    own = stored.answer.handle
    kept = Kept(slot=slot, value=value, handle=own)
    plain = await bench.resolve(bench.item(kept))
    for name in ("conformance-configured", "", "vault"):
        handle = _named(own, name)
        reply = await bench.resolve(bench.item(kept, handle=handle))
        bench.need(plain.ok or reply.ok, f"with its own name {plain}", "CREDU-RES-01")
        bench.hold(
            reply.ok,
            f"ResolveCredentials with handle.driver {name!r} answers as with the driver's own name",
            str(reply),
        )
        again = await bench.store(slot, value, existing=handle)
        bench.hold(
            again.ok, f"StoreCredential with existing_handle.driver {name!r} answers OK", str(again)
        )
    gone = await bench.delete(kept, handle=_named(own, "vault"))
    bench.hold(gone.ok, "DeleteCredential with handle.driver 'vault' answers OK", str(gone))


def _named(handle: Handle, name: str) -> Handle:
    made = Handle()
    made.CopyFrom(handle)
    made.driver = name
    return made


@_check("CREDU-HND-02.a", "a malformed handle is INVALID_ARGUMENT", profile="security")
async def malformed(bench: StoreBench) -> None:
    kept = await bench.kept()
    for what, text in _MALFORMED.items():
        reply = await bench.resolve(bench.item(kept, handle=Handle(driver="x", handle=text)))
        bench.code(reply, "INVALID_ARGUMENT", when=f"with a handle that is {what}")
    absent = bench.item(kept)
    absent.ClearField("handle")
    reply = await bench.resolve(absent)
    bench.code(reply, "INVALID_ARGUMENT", when="without a handle")


@_check("CREDU-HND-02.b", "a handle that was tampered with gives nothing", profile="security")
async def tampered(bench: StoreBench) -> None:
    kept = await bench.kept()
    text = kept.handle.handle
    for what, changed in {
        "with a character more": f"{text}x",
        "with a character less": text[:-1],
        "with another first character": ("b" if text[0] != "b" else "c") + text[1:],
        "in the other case": text.swapcase(),
    }.items():
        if changed.strip() and changed != text:
            handle = Handle(
                driver=kept.handle.driver, handle=changed, metadata=kept.handle.metadata
            )
            reply = await bench.resolve(bench.item(kept, handle=handle))
            bench.code(reply, *_REFUSALS, "DATA_LOSS", when=f"with a handle {what}")


def _strangers(bench: StoreBench, kept: Kept) -> dict[str, dict[str, str]]:
    """Somebody else, by what is different."""
    other = bench.slot()
    return {
        "of another workspace": {"workspace": bench.profile.store.workspaces[1]},
        "of another provider": {"provider": other.provider, "provider_id": other.provider_id},
        "of another key": {"key": other.key},
    }


@_check("CREDU-HND-02.c", "nobody resolves another's handle", profile="security")
async def resolve_as_stranger(bench: StoreBench) -> None:
    kept = await bench.kept()
    await bench.value_of(kept)
    for who, changes in _strangers(bench, kept).items():
        reply = await bench.resolve(bench.item(kept, **changes))
        bench.hold(
            reply.code in _REFUSALS,
            f"ResolveCredentials with a handle {who} answers {' or '.join(_REFUSALS)}",
            "it gave the secret" if reply.ok else str(reply),
        )


@_check("CREDU-HND-02.d", "nobody deletes with another's handle", profile="security")
async def delete_as_stranger(bench: StoreBench) -> None:
    for who in _strangers(bench, await bench.kept()):
        kept = await bench.kept()
        reply = await bench.delete(kept, handle=kept.handle, **_strangers(bench, kept)[who])
        await _untouched(bench, kept, f"DeleteCredential with a handle {who}")
        if reply.ok:
            bench.note(f"DeleteCredential with a handle {who} answers OK and deletes nothing")
        else:
            bench.code(reply, *_REFUSALS, when=f"with a handle {who}")


@_check("CREDU-HND-02.e", "nobody overwrites with another's handle", profile="security")
async def store_as_stranger(bench: StoreBench) -> None:
    for who in _strangers(bench, await bench.kept()):
        kept = await bench.kept()
        changes = _strangers(bench, kept)[who]
        slot = bench.slot(
            **{
                "provider": kept.slot.provider,
                "provider_id": kept.slot.provider_id,
                "key": kept.slot.key,
                **changes,
            }
        )
        reply = await bench.store(slot, bench.value("stranger's value"), existing=kept.handle)
        await _untouched(bench, kept, f"StoreCredential with an `existing_handle` {who}")
        if reply.ok:
            bench.note(f"StoreCredential with an existing_handle {who} makes a new object")
        else:
            bench.code(reply, *_REFUSALS, when=f"with an `existing_handle` {who}")


async def _untouched(bench: StoreBench, kept: Kept, what: str) -> None:
    after = await bench.resolve(bench.item(kept))
    bench.hold(
        after.ok and [each.value for each in after.answer.credentials] == [kept.value],
        f"{what} leaves its owner's value as it was",
        "the value is another one" if after.ok else str(after),
    )


@_check("CREDU-DEL-01.a", "deleting what is not there is OK")
async def delete_twice(bench: StoreBench) -> None:
    kept = await bench.kept()
    first = await bench.delete(kept)
    bench.code(first, "OK", when="of a stored value")
    second = await bench.delete(kept)
    bench.code(second, "OK", when="for the second time")


@_check("CREDU-DEL-01.b", "a delete without a handle is INVALID_ARGUMENT")
async def delete_without_handle(bench: StoreBench) -> None:
    slot = bench.slot()
    request = wire.DeleteCredentialRequest(
        provider=slot.provider,
        credential_key=slot.key,
        workspace=slot.workspace,
        provider_id=slot.provider_id,
    )
    reply = await bench.caller.ask("DeleteCredential", request, wire.DeleteCredentialResponse)
    bench.code(reply, "INVALID_ARGUMENT", when="without a handle")


@_check("CREDU-DEL-02.a", "a deleted value is NOT_FOUND")
async def deleted_is_gone(bench: StoreBench) -> None:
    kept = await bench.kept()
    await bench.value_of(kept)  # into any cache there is
    gone = await bench.delete(kept)
    bench.need(gone.ok, str(gone), "CREDU-DEL-01")
    reply = await bench.resolve(bench.item(kept))
    bench.hold(
        reply.code == "NOT_FOUND",
        "ResolveCredentials with a handle whose value was deleted answers NOT_FOUND",
        "it still gave the value" if reply.ok else str(reply),
    )


@_check("CREDU-DEL-02.b", "deleting one value leaves all others")
async def neighbours_stay(bench: StoreBench) -> None:
    slot = bench.slot()
    same: dict[str, Any] = {"provider": slot.provider, "provider_id": slot.provider_id}
    neighbours = [
        await bench.kept(bench.slot(**same, key=f"{slot.key}_2")),
        await bench.kept(bench.slot(**same, key=slot.key, object_id=f"{slot.provider_id}-2")),
        await bench.kept(bench.slot(provider=f"{slot.provider}-2", key=slot.key)),
        await bench.kept(
            bench.slot(**same, key=slot.key, workspace=bench.profile.store.workspaces[1])
        ),
    ]
    kept = await bench.kept(slot)
    gone = await bench.delete(kept)
    bench.need(gone.ok, str(gone), "CREDU-DEL-01")
    what = ("a longer key", "another object_id", "a longer provider name", "another workspace")
    for neighbour, who in zip(neighbours, what, strict=True):
        await _untouched(bench, neighbour, f"DeleteCredential of a value whose neighbour has {who}")


@_check("CREDU-LIST-01", "ListCredentials is what supports_list says")
async def listing(bench: StoreBench) -> None:
    capabilities = await bench.capabilities()
    kept = await bench.kept()
    reply = await bench.list_all()
    if not capabilities.supports_list:
        if reply.ok:
            bench.note("ListCredentials works, though supports_list is false")
        else:
            bench.code(reply, "UNIMPLEMENTED", when="where supports_list is false")
        return
    bench.code(reply, "OK", when="where supports_list is true")
    found = [each for each in reply.answer.credentials if each.handle == kept.handle.handle]
    by_key = [each for each in reply.answer.credentials if kept.slot.key in each.keys]
    bench.hold(
        found or by_key,
        "ListCredentials has what was stored, by its handle or its key",
        f"{len(reply.answer.credentials)} entries, and it is none of them",
    )


@_check("CREDU-SEC-01.a", "handles and listings hold nothing of a value", profile="security")
async def handles_without_secrets(bench: StoreBench) -> None:
    slot, value = bench.slot(), bench.value()
    reply = await bench.store(slot, value)
    bench.need(reply.ok, str(reply), "CREDU-STORE-01")
    listed = await bench.list_all()
    for what, message in {
        "the handle that StoreCredential gives": reply.raw,
        "the answer of ListCredentials": listed.raw,
    }.items():
        bench.hold(
            not bench.world.canaries.found(message),
            f"{what} has nothing of a stored value, in no field and no encoding",
            "a stored value is in it",
        )
    other = await bench.kept(bench.slot(), value)
    bench.hold(
        other.handle.handle != reply.answer.handle.handle,
        "two objects with one value have different handles",
        "the handle was made from the value alone",
    )
