"""The handshake of 0.1.x, and one driver for gateways of several lines."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import anyio
from google.protobuf.empty_pb2 import Empty
from google.protobuf.unknown_fields import UnknownFieldSet

from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers._wire.extension_pb2 import PeerMetadata
from openshell_drivers.conformance._caller import Reply
from openshell_drivers.conformance._checks import check
from openshell_drivers.conformance.benches.compute import ComputeBench
from openshell_drivers.conformance.checks._sandboxes import quick
from openshell_drivers.conformance.checks.capabilities import QUICK
from openshell_drivers.testing.gateway._handshake import metadata

CONTRACT: Final = "openshell.compute.contract"
_MOST: Final = 128
_UNKNOWN_FIELD: Final = b"\xc2\x3e\x06future"  # number 1000, a text
#: Seconds between the rounds of equal questions, so that a clock in the answer shows.
APART: Final = 0.55
ROUNDS: Final = 3
AT_ONCE: Final = 16
_LETTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")
#: What a gateway takes for "try again" while a driver starts.
_RETRIED: Final = (
    *("UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED"),
    *("INTERNAL", "UNKNOWN", "NO_ANSWER"),
)


async def _extension(compute: ComputeBench) -> PeerMetadata:
    answer = await compute.capabilities()
    compute.need(answer.HasField("extension"), "there is no extension", "COMP01-NEG-01")
    return answer.extension


@check("COMP01-NEG-01", "the driver says which protocol it speaks: version 1")
async def version_one(compute: ComputeBench) -> None:
    answer = await compute.capabilities()
    compute.hold(
        answer.HasField("extension"),
        "GetCapabilitiesResponse.extension (field 12) is set",
        "it is absent",
    )
    compute.hold(
        answer.extension.HasField("protocol_version"),
        "extension.protocol_version is set",
        "it is absent",
    )
    major = answer.extension.protocol_version.major
    compute.hold(major == 1, "extension.protocol_version.major is 1", f"{major}")


@check("COMP01-NEG-02", "implementation name and version are readable and not too long")
async def names(compute: ComputeBench) -> None:
    extension = await _extension(compute)
    for field in ("implementation_name", "implementation_version"):
        text = getattr(extension, field)
        size = len(text.encode())
        compute.hold(text.strip(), f"extension.{field} is not blank", repr(text[:40]))
        compute.hold(size <= _MOST, f"extension.{field} has at most {_MOST} bytes", f"{size} bytes")
        control = any(ord(each) < 0x20 or 0x7F <= ord(each) <= 0x9F for each in text)
        compute.hold(not control, f"extension.{field} has no control characters", repr(text[:40]))


@check("COMP01-NEG-03.a", "the driver supports openshell.compute.contract")
async def contract_supported(compute: ComputeBench) -> None:
    extension = await _extension(compute)
    compute.hold(
        CONTRACT in extension.supported_capabilities,
        f"extension.supported_capabilities holds {CONTRACT}",
        f"{list(extension.supported_capabilities)[:8]}",
    )


@check("COMP01-NEG-03.b", "capabilities are well formed, unique, and not too many")
async def capabilities_well_formed(compute: ComputeBench) -> None:
    extension = await _extension(compute)
    for field in ("supported_capabilities", "required_capabilities"):
        wrong = _wrong(list(getattr(extension, field)))
        compute.hold(
            not wrong,
            f"extension.{field} has at most {_MOST} entries, none twice, each like"
            " openshell.compute.contract",
            wrong,
        )


def _wrong(entries: Sequence[str]) -> str:
    if len(entries) > _MOST:
        return f"{len(entries)} entries"
    for entry in entries:
        if not _well_formed(entry):
            return f"the entry {entry[:140]!r}"
    twice = sorted({entry for entry in entries if entries.count(entry) > 1})
    return f"{twice[0]!r} twice" if twice else ""


def _well_formed(entry: str) -> bool:
    parts = entry.split(".")
    return (
        len(entry.encode()) <= _MOST
        and len(parts) >= 3
        and parts[0] == "openshell"
        and all(part and set(part) <= _LETTERS for part in parts)
    )


@check("COMP01-NEG-04", "the driver requires nothing that this gateway does not offer")
async def requirements_met(compute: ComputeBench) -> None:
    extension = await _extension(compute)
    offered = compute.preset.offers("compute")
    lacking = sorted(set(extension.required_capabilities) - set(offered))
    compute.hold(
        not lacking,
        f"extension.required_capabilities names only what a gateway of {compute.preset.name}"
        f" offers: {', '.join(offered)}",
        f"it also requires {', '.join(lacking)[:300]}",
    )
    unsaid = sorted(set(extension.required_capabilities) - set(extension.supported_capabilities))
    if unsaid:
        compute.note(f"required but not listed as supported: {', '.join(unsaid)[:300]}")


def _request(compute: ComputeBench) -> wire.GetCapabilitiesRequest:
    return wire.GetCapabilitiesRequest(gateway=metadata(compute.preset, "compute"))


async def _ask(
    compute: ComputeBench, request: wire.GetCapabilitiesRequest
) -> Reply[wire.GetCapabilitiesResponse]:
    answer = wire.GetCapabilitiesResponse
    return await compute.caller.ask("GetCapabilities", request, answer, whole=True)


@check("COMP01-NEG-05.a", "a gateway of a later minor version is welcome")
async def later_minor(compute: ComputeBench) -> None:
    await compute.capabilities()
    request = _request(compute)
    request.gateway.protocol_version.minor = 7
    compute.code(await _ask(compute, request), "OK", when="to a gateway of protocol version 1.7")


@check("COMP01-NEG-05.b", "a gateway with capabilities that the driver does not know is welcome")
async def more_capabilities(compute: ComputeBench) -> None:
    await compute.capabilities()
    request = _request(compute)
    request.gateway.supported_capabilities.append("openshell.compute.x-y")
    when = "to a gateway that also supports openshell.compute.x-y"
    compute.code(await _ask(compute, request), "OK", when=when)


@check("COMP01-NEG-05.c", "a gateway with fields that the driver does not know is welcome")
async def more_fields(compute: ComputeBench) -> None:
    await compute.capabilities()
    request = _request(compute)
    request.gateway.MergeFromString(_UNKNOWN_FIELD)
    request.MergeFromString(_UNKNOWN_FIELD)
    when = "to a request with an unknown field 1000, also in gateway,"
    compute.code(await _ask(compute, request), "OK", when=when)


def _bad_gateways(compute: ComputeBench) -> dict[str, wire.GetCapabilitiesRequest]:
    """One request for each rule that a gateway can break."""
    bad = {
        name: _request(compute)
        for name in (
            *("protocol version 2.0", "no compute contract", "a malformed capability"),
            *("a doubled capability", "a demand that no driver can meet"),
        )
    }
    bad["protocol version 2.0"].gateway.protocol_version.major = 2
    bad["no compute contract"].gateway.supported_capabilities[:] = ["openshell.other.contract"]
    bad["a malformed capability"].gateway.supported_capabilities.append("Openshell..contract")
    bad["a doubled capability"].gateway.supported_capabilities.append(CONTRACT)
    lacking = "openshell.compute.conformance-no-driver-has-this"
    bad["a demand that no driver can meet"].gateway.required_capabilities.append(lacking)
    return bad


@check("COMP01-NEG-06.a", "a gateway that breaks the handshake's rules is refused")
async def bad_gateways_refused(compute: ComputeBench) -> None:
    await compute.capabilities()
    welcome = []
    for name, request in _bad_gateways(compute).items():
        if (await _ask(compute, request)).ok:
            welcome.append(name)
    compute.hold(
        not welcome,
        "GetCapabilities refuses gateway metadata with " + ", ".join(_bad_gateways(compute)),
        f"OK to {', '.join(welcome)}",
    )


@check("COMP01-NEG-06.b", "a gateway that is refused is told so with FAILED_PRECONDITION")
async def refused_for_good(compute: ComputeBench) -> None:
    await compute.capabilities()
    refusals = []
    for name, request in _bad_gateways(compute).items():
        reply = await _ask(compute, request)
        if not reply.ok:
            refusals.append(reply)
            again = " which means: try again" if reply.code in _RETRIED else ""
            compute.hold(
                reply.code == "FAILED_PRECONDITION",
                f"GetCapabilities refuses gateway metadata with {name} with FAILED_PRECONDITION",
                f"{reply}{again}",
            )
    compute.apply(refusals, "the driver refuses no gateway")


async def rounds(compute: ComputeBench) -> list[wire.GetCapabilitiesResponse]:
    """Many answers, at once and over a second."""
    answers = [await compute.capabilities()]
    for number in range(ROUNDS):
        if number:
            await anyio.sleep(APART)
        for reply in await asyncio.gather(*(compute.get_capabilities() for _ in range(AT_ONCE))):
            compute.need(reply.ok, str(reply), "COMP-CAP-01")
            answers.append(reply.answer)
    return answers


@check("COMP01-NEG-07.a", "extension is the same in every answer")
async def same_extension(compute: ComputeBench) -> None:
    await _extension(compute)
    first, *others = [_sorted(answer.extension) for answer in await rounds(compute)]
    different = sum(each != first for each in others)
    compute.hold(
        not different,
        f"{len(others)} later GetCapabilities answers hold the extension of the first one",
        f"{different} hold another one",
    )


def _sorted(extension: PeerMetadata) -> PeerMetadata:
    """The order of capabilities means nothing to any gateway."""
    made = PeerMetadata()
    made.CopyFrom(extension)
    made.supported_capabilities.sort()
    made.required_capabilities.sort()
    return made


@check(
    "COMP01-NEG-07.b",
    "GetCapabilities does not wait for a slow platform",
    profile="resilience",
    needs=("slow",),
    once=True,
)
async def not_slowed(compute: ComputeBench) -> None:
    await compute.capabilities()
    async with compute.backend.slow(QUICK * 3):
        replies = await asyncio.gather(*(compute.get_capabilities() for _ in range(AT_ONCE)))
    for reply in replies:
        compute.code(reply, "OK", when="while the platform is slow")
    quick(compute, replies, QUICK, f"while the platform takes {QUICK * 3:g} s for an answer")


@check("COMP01-NEG-08", "driver_version says what implementation_version says")
async def one_version(compute: ComputeBench) -> None:
    answer = await compute.capabilities()
    version = (await _extension(compute)).implementation_version
    compute.hold(
        answer.driver_version == version,
        f"driver_version is extension.implementation_version, {version[:60]!r}",
        f"driver_version {answer.driver_version[:60]!r}",
    )


@check("COMPAT01-01", "a gateway that says nothing of itself is answered")
async def older_gateways(compute: ComputeBench) -> None:
    reply = await _ask(compute, wire.GetCapabilitiesRequest())
    compute.code(reply, "OK", when="to an empty request, as gateways before 0.1 send it,")


@check("COMPAT01-02", "the answer can be read by a gateway of this line")
async def older_schema(compute: ComputeBench) -> None:
    reply = await compute.get_capabilities()
    compute.need(reply.code in {"OK", "UNREADABLE"}, str(reply), "COMP-CAP-01")
    contract = compute.preset.revision.contracts["compute_driver"]
    known = contract.messages["GetCapabilitiesResponse"]
    found = UnknownFieldSet(Empty.FromString(reply.raw))
    for index in range(len(found)):
        number, wire_type = found[index].field_number, found[index].wire_type
        if number in known:
            expected = 2 if known[number].type == "string" else 0
            compute.hold(
                wire_type == expected,
                f"field {number} of GetCapabilitiesResponse is {known[number].name},"
                f" {known[number].type}, with wire type {expected}",
                f"wire type {wire_type}: such a gateway cannot read the answer",
            )


@check("COMPAT01-05", "a gateway that says nothing of itself is answered or told why not")
async def strict_with_words(compute: ComputeBench) -> None:
    reply = await _ask(compute, wire.GetCapabilitiesRequest())
    compute.code(reply, "OK", "FAILED_PRECONDITION", when="to an empty request")
    if not reply.ok:
        compute.note("the driver serves gateways of 0.1 and later only")


@check("COMPAT01-06", "methods of later gateways are UNIMPLEMENTED")
async def later_methods(compute: ComputeBench) -> None:
    for method in ("SuspendSandbox", "ResumeSandbox", "ConformanceProbe"):
        reply = await compute.caller.ask_raw(method, b"", Empty)
        compute.code(reply, "UNIMPLEMENTED", when="which the contract does not have,")
