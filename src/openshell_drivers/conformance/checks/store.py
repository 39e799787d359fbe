"""The credential store: what is stored, where, and that it comes back."""

from __future__ import annotations

import random
import re
import secrets
from functools import partial
from typing import Any, Final

from openshell_drivers._wire import credential_driver_pb2 as wire
from openshell_drivers._wire import extension_pb2 as extension
from openshell_drivers.conformance._checks import check
from openshell_drivers.conformance.benches.store import Kept, StoreBench

_check = partial(check, service="credential-store")
_CAPABILITY: Final = re.compile(r"openshell(\.[a-z0-9-]+){2,}")
_CONTRACT: Final = "openshell.credentials.contract"
_RETRIED: Final = frozenset(
    {"UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED", "INTERNAL", "UNKNOWN"}
)
#: What a gateway sends at most, with all else in the request.
_GATEWAY_MOST: Final = 1_000_000
_ODD_VALUES: Final = {
    "the empty text": "",
    "one blank": " ",
    "blanks around": "  padded value  ",
    "a line break at the end": "last line\n",
    "line breaks only": "\r\n\r\n",
    "a key of many lines": "-----BEGIN KEY-----\nAAAA\nBBBB\n-----END KEY-----\n",
    "other scripts": "пароль 密码 🔑 é",
    "a decomposed letter": "e\u0301",
    "a tab and control characters": "a\tb\x01c\x7f",
    "JSON": '{"a": "b\\n", "c": [1, 2]}',
    "base64": "aGVsbG8=",
    "quotes, dollars and percents": "'\"$HOME ${X} %s %%",
    "null": "null",
    "a number": "007",
    "a byte order mark": "\ufeffbom",
}


@_check("CREDU-CAP-01.a", "GetCapabilities is implemented")
async def capabilities(bench: StoreBench) -> None:
    reply = await bench.get_capabilities()
    bench.code(reply, "OK")
    bench.hold(reply.answer.driver_name, "GetCapabilities names the driver", "driver_name is empty")


@_check(
    "CREDU-CAP-01.b",
    "GetCapabilities does without the backend",
    profile="resilience",
    needs=("outage",),
    once=True,
)
async def capabilities_in_an_outage(bench: StoreBench) -> None:
    plain = await bench.get_capabilities()
    bench.need(plain.ok, str(plain), "CREDU-CAP-01")
    async with bench.backend.outage():
        reply = await bench.get_capabilities()
    bench.code(reply, "OK", when="while the backend is down")


@_check("CREDU01-NEG-01", "the handshake is answered with extension metadata")
async def handshake(bench: StoreBench) -> None:
    reply = await bench.get_capabilities()
    bench.need(reply.ok, str(reply), "CREDU-CAP-01")
    bench.hold(
        reply.answer.HasField("extension"),
        "GetCapabilities answers with `extension`",
        "it is absent",
    )
    for expected, observed in _faults_of(reply.answer.extension):
        bench.fail(f"GetCapabilities answers with an `extension` whose {expected}", observed)


def _faults_of(peer: extension.PeerMetadata) -> list[tuple[str, str]]:
    found = []
    if not peer.HasField("protocol_version") or peer.protocol_version.major != 1:
        found.append(("protocol_version.major is 1", f"it is {peer.protocol_version.major}"))
    for field in ("implementation_name", "implementation_version"):
        text = getattr(peer, field)
        fits = text.strip() and len(text.encode()) <= 128 and text.isprintable()
        if not fits:
            found.append((f"{field} is printable text of 1 to 128 bytes", repr(text[:140])))
    if _CONTRACT not in peer.supported_capabilities:
        offered = list(peer.supported_capabilities)
        found.append((f"supported_capabilities has {_CONTRACT}", f"it has {offered}"))
    if not set(peer.required_capabilities) <= {_CONTRACT}:
        wanted = list(peer.required_capabilities)
        found.append((f"required_capabilities asks for no more than {_CONTRACT}", str(wanted)))
    for field in ("supported_capabilities", "required_capabilities"):
        entries = list(getattr(peer, field))
        bad = [e for e in entries if not _CAPABILITY.fullmatch(e) or len(e.encode()) > 128]
        if bad or len(set(entries)) < len(entries) or len(entries) > 128:
            found.append(
                (f"{field} is well-formed, without repetitions", str(bad or entries)[:300])
            )
    return found


@_check(
    "CREDU01-NEG-02", "a gateway that does not fit is refused with no code but FAILED_PRECONDITION"
)
async def refusal(bench: StoreBench) -> None:
    plain = await bench.get_capabilities()
    bench.need(plain.ok, str(plain), "CREDU-CAP-01")
    for what, gateway in _misfits().items():
        request = wire.GetCredentialDriverCapabilitiesRequest(gateway=gateway)
        answer = wire.GetCredentialDriverCapabilitiesResponse
        reply = await bench.caller.ask("GetCapabilities", request, answer, deadline=30)
        if reply.ok:
            bench.note(f"a gateway with {what} is not refused")
            continue
        bench.code(reply, "FAILED_PRECONDITION", when=f"of a gateway with {what}")


def _misfits() -> dict[str, extension.PeerMetadata]:
    good: dict[str, Any] = {
        "implementation_name": "openshell/gateway",
        "implementation_version": "9.0",
        "supported_capabilities": [_CONTRACT],
    }
    one = extension.ProtocolVersion(major=1)
    return {
        "major version 2": extension.PeerMetadata(
            protocol_version=extension.ProtocolVersion(major=2), **good
        ),
        "no version": extension.PeerMetadata(**good),
        "a requirement that nobody meets": extension.PeerMetadata(
            protocol_version=one,
            required_capabilities=["openshell.credentials.conformance-only"],
            **good,
        ),
        "a malformed capability": extension.PeerMetadata(
            protocol_version=one, **{**good, "supported_capabilities": [_CONTRACT, "Not A Name"]}
        ),
    }


@_check("CREDU01-NEG-03", "an empty GetCapabilities request is answered")
async def legacy_gateway(bench: StoreBench) -> None:
    reply = await bench.caller.ask_raw(
        "GetCapabilities", b"", wire.GetCredentialDriverCapabilitiesResponse
    )
    bench.code(reply, "OK", when="with an empty request, as gateways before 0.1 send it")


@_check("CREDU-STORE-01.a", "a store gives a handle")
async def handle_is_given(bench: StoreBench) -> None:
    reply = await bench.store(bench.slot(), bench.value())
    bench.code(reply, "OK", when="of a new value")
    bench.hold(
        reply.answer.HasField("handle") and reply.answer.handle.handle.strip(),
        "StoreCredential answers with a handle whose `handle` is not blank",
        "`handle.handle` is blank" if reply.answer.HasField("handle") else "there is no handle",
    )


@_check(
    "CREDU-STORE-01.b",
    "what was stored survives kill -9",
    profile="resilience",
    own=True,
    once=True,
)
async def durable(bench: StoreBench) -> None:
    early = await bench.kept()
    await bench.value_of(early)
    late = await bench.kept()
    await bench.kill_and_restart()
    for kept in (early, late):
        reply = await bench.resolve(bench.item(kept))
        bench.hold(
            _gives(reply, kept),
            "a value that was stored with OK is resolved after kill -9 and a restart",
            _described(reply),
        )


def _gives(reply: Any, kept: Kept) -> bool:
    return reply.ok and [each.value for each in reply.answer.credentials] == [kept.value]


def _described(reply: Any) -> str:
    """A reply without its values."""
    return f"{reply.rpc}: OK with another value" if reply.ok else str(reply)


@_check("CREDU-STORE-02.a", "an overwrite keeps the old handle, which gives the new value")
async def overwrite(bench: StoreBench) -> None:
    kept = await bench.kept()
    await bench.value_of(kept)
    value = bench.value("new value")
    reply = await bench.store(kept.slot, value, existing=kept.handle)
    bench.code(reply, "OK", when="with `existing_handle`")
    after = await bench.resolve(bench.item(kept))
    other = bench.configured(reply.answer.handle) != kept.handle
    bench.hold(
        after.ok and [each.value for each in after.answer.credentials] == [value],
        "after a store with `existing_handle` that same handle resolves to the new value",
        ("StoreCredential gave another handle; of the first one: " if other else "")
        + ("it still resolves to the old value" if _gives(after, kept) else _described(after)),
    )


@_check("CREDU-STORE-02.b", "an object that is gone is made anew under its old handle")
async def overwrite_what_is_gone(bench: StoreBench) -> None:
    kept = await bench.kept()
    gone = await bench.delete(kept)
    bench.need(gone.ok, str(gone), "CREDU-DEL-01")
    value = bench.value("value after the loss")
    reply = await bench.store(kept.slot, value, existing=kept.handle)
    bench.code(reply, "OK", when="with an `existing_handle` whose object is gone")
    after = await bench.resolve(bench.item(kept))
    bench.hold(
        after.ok and [each.value for each in after.answer.credentials] == [value],
        "after a store with an `existing_handle` whose object was gone, that handle resolves",
        _described(after),
    )


@_check("CREDU-STORE-03.a", "every kind of key is accepted")
async def keys(bench: StoreBench) -> None:
    await bench.proven()
    odd = ("A", "lower_case", "_X1", "K" * 100, f"openshell.refresh.{secrets.token_hex(32)}")
    for key in odd:
        kept = bench.slot(key=key), bench.value()
        reply = await bench.store(*kept)
        bench.code(reply, "OK", when=f"with credential_key {key!r}")
        handle = bench.configured(reply.answer.handle)
        after = await bench.resolve(bench.item(Kept(slot=kept[0], value=kept[1], handle=handle)))
        bench.hold(
            after.ok and [each.value for each in after.answer.credentials] == [kept[1]],
            f"a value stored with credential_key {key!r} is resolved",
            _described(after),
        )


@_check("CREDU-STORE-03.b", "values come back byte for byte")
async def odd_values(bench: StoreBench) -> None:
    async def judge(what: str, value: str) -> None:
        slot = bench.slot()
        reply = await bench.store(slot, value)
        bench.code(reply, "OK", when=f"of a value that is {what}")
        kept = Kept(slot=slot, value=value, handle=bench.configured(reply.answer.handle))
        after = await bench.resolve(bench.item(kept))
        found = [each.value for each in after.answer.credentials]
        bench.hold(
            after.ok and found == [value],
            f"a value that is {what} comes back byte for byte",
            f"of {len(value.encode())} bytes {len(found[0].encode())} came back, or others"
            if found
            else str(after),
        )

    await bench.proven()
    for what, value in _ODD_VALUES.items():
        await judge(what, value)


@_check("CREDU-STORE-03.c", "a long value comes back whole")
async def long_value(bench: StoreBench) -> None:
    await bench.proven()
    length = min(bench.profile.store.max_value_bytes, _GATEWAY_MOST)
    value = bench.secret("long value")
    value += "".join(random.choices("abcdefghij é", k=length - len(value)))  # only long
    value = value.encode()[:length].decode("utf-8", "ignore")
    slot = bench.slot()
    reply = await bench.store(slot, value)
    bench.code(reply, "OK", when=f"of a value of {length} bytes")
    kept = Kept(slot=slot, value=value, handle=bench.configured(reply.answer.handle))
    after = await bench.resolve(bench.item(kept))
    found = [each.value for each in after.answer.credentials]
    bench.hold(
        after.ok and found == [value],
        f"a value of {len(value.encode())} bytes comes back byte for byte",
        f"{len(found[0].encode())} bytes came back" if found else str(after),
    )


@_check("CREDU-STORE-04.a", "another object_id is another object")
async def staged_object(bench: StoreBench) -> None:
    committed = await bench.kept()
    slot = committed.slot
    staged_slot = bench.slot(
        provider=slot.provider,
        key=slot.key,
        provider_id=slot.provider_id,
        object_id=f"{slot.provider_id}-refresh-{secrets.token_hex(8)}",
    )
    staged = await bench.kept(staged_slot)
    for kept, what in ((committed, "committed"), (staged, "staged")):
        reply = await bench.resolve(bench.item(kept))
        bench.hold(
            _gives(reply, kept),
            f"with one value stored for a key and another one staged under an `object_id` of its"
            f" own, the {what} one's handle resolves to the {what} value",
            _described(reply),
        )


@_check("CREDU-STORE-04.b", "a store without existing_handle overwrites nothing of another handle")
async def second_store(bench: StoreBench) -> None:
    first = await bench.kept()
    second = await bench.store(first.slot, bench.value("second value"))
    if second.ok and second.answer.handle.handle == first.handle.handle:
        bench.note("a store of the same object without existing_handle overwrites it in place")
        return
    if not second.ok:
        bench.code(
            second,
            *("ALREADY_EXISTS", "FAILED_PRECONDITION", "ABORTED"),
            when="without `existing_handle`, of an object that is there",
        )
    reply = await bench.resolve(bench.item(first))
    bench.hold(
        _gives(reply, first),
        "after a second store without `existing_handle` the first one's handle gives its value",
        _described(reply),
    )


@_check("CREDU-STORE-05.a", "equal names in another workspace are other objects")
async def another_workspace(bench: StoreBench) -> None:
    slot = bench.slot()
    other = bench.slot(
        provider=slot.provider,
        key=slot.key,
        provider_id=slot.provider_id,
        workspace=bench.profile.store.workspaces[1],
    )
    await _both_there(bench, await bench.kept(slot), await bench.kept(other), "workspace")


@_check("CREDU-STORE-05.b", "equal names under another provider_id are other objects")
async def another_provider(bench: StoreBench) -> None:
    slot = bench.slot()
    other = bench.slot(provider=slot.provider, key=slot.key)
    await _both_there(bench, await bench.kept(slot), await bench.kept(other), "provider_id")


async def _both_there(bench: StoreBench, one: Kept, two: Kept, what: str) -> None:
    for kept in (one, two):
        reply = await bench.resolve(bench.item(kept))
        bench.hold(
            _gives(reply, kept),
            f"values that are stored for one provider name and key, but another {what}, are kept"
            " apart",
            _described(reply),
        )
