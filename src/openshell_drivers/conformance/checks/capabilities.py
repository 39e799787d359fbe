"""What a driver says of itself, and whether it can keep it."""

from __future__ import annotations

import ipaddress
import stat
from pathlib import Path
from typing import Final

from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.conformance._checks import check
from openshell_drivers.conformance.benches.compute import ComputeBench
from openshell_drivers.conformance.checks._sandboxes import quick

#: Seconds that an answer from memory may take, on a machine that has other things to do.
QUICK: Final = 2.0
_TRIES: Final = 3
_LONGEST_REASON: Final = 512


@check("COMP-CAP-01.a", "GetCapabilities answers OK, quickly")
async def answers_quickly(compute: ComputeBench) -> None:
    replies = [await compute.get_capabilities() for _ in range(_TRIES)]
    for reply in replies:
        strict = compute.line != "N" and reply.code == "FAILED_PRECONDITION"
        compute.need(not strict, str(reply), "COMPAT01-01")
        compute.code(reply, "OK")
    quick(compute, replies, QUICK)


@check(
    "COMP-CAP-01.b",
    "GetCapabilities answers OK, quickly, while the platform is out of reach",
    profile="resilience",
    needs=("outage",),
    once=True,
)
async def answers_in_an_outage(compute: ComputeBench) -> None:
    await compute.capabilities()
    async with compute.backend.outage():
        replies = [await compute.get_capabilities() for _ in range(_TRIES)]
    for reply in replies:
        compute.code(reply, "OK", when="while the platform is out of reach")
    quick(compute, replies, QUICK, "while the platform is out of reach")


@check("COMP-CAP-02.a", "name and version are not empty")
async def has_a_name(compute: ComputeBench) -> None:
    answer = await compute.capabilities()
    for field in ("driver_name", "driver_version"):
        compute.hold(
            getattr(answer, field).strip(),
            f"GetCapabilitiesResponse.{field} is not empty",
            f"{field} {getattr(answer, field)!r}",
        )


@check("COMP-CAP-02.b", "name and version are the same in every answer")
async def keeps_its_name(compute: ComputeBench) -> None:
    answer = await compute.capabilities()
    first = (answer.driver_name, answer.driver_version)
    for _ in range(_TRIES):
        reply = await compute.get_capabilities()
        compute.need(reply.ok, str(reply), "COMP-CAP-01")
        again = (reply.answer.driver_name, reply.answer.driver_version)
        compute.hold(
            again == first,
            f"GetCapabilities gives driver_name and driver_version {first} every time",
            f"{again} later",
        )


@check("COMP-CAP-03", "there is a default image, or no sandbox without an image")
async def has_an_image(compute: ComputeBench) -> None:
    answer = await compute.capabilities()
    if answer.default_image:
        return
    sandbox = compute.sandbox()
    sandbox.spec.template.image = ""
    reply = await compute.validate(sandbox)
    compute.code(
        reply,
        *("FAILED_PRECONDITION", "INVALID_ARGUMENT"),
        when="of a sandbox without an image, where default_image is empty too,",
    )


@check("COMP-CAP-04", "a driver that lets the gateway manage its lifecycle can stop and start")
async def can_do_what_it_offers(compute: ComputeBench) -> None:
    answer = await compute.capabilities()
    compute.apply(answer.gateway_manages_lifecycle, "gateway_manages_lifecycle is false")
    sandbox = await compute.made_going()
    for reply in (await compute.stop(sandbox.id), await compute.start(sandbox.id)):
        compute.hold(
            reply.code != "UNIMPLEMENTED",
            f"{reply.rpc} is implemented, since gateway_manages_lifecycle is true",
            str(reply),
        )


async def _requirements(compute: ComputeBench) -> list[wire.GatewayListenerRequirement]:
    request = wire.GetGatewayListenerRequirementsRequest()
    answer = wire.GetGatewayListenerRequirementsResponse
    reply = await compute.caller.ask("GetGatewayListenerRequirements", request, answer)
    compute.apply(reply.code != "UNIMPLEMENTED", "GetGatewayListenerRequirements is UNIMPLEMENTED")
    compute.need(reply.ok, str(reply), "COMP-LSN-01")
    return list(reply.answer.requirements)


@check("COMP-LSN-01", "the gateway's question for listeners does no harm")
async def listeners_answered(compute: ComputeBench) -> None:
    request = wire.GetGatewayListenerRequirementsRequest()
    answer = wire.GetGatewayListenerRequirementsResponse
    reply = await compute.caller.ask("GetGatewayListenerRequirements", request, answer)
    compute.code(reply, "OK", "UNIMPLEMENTED")


@check("COMP-LSN-02", "every listener requirement can be met by a gateway")
async def listeners_can_be_bound(compute: ComputeBench) -> None:
    requirements = await _requirements(compute)
    compute.apply(requirements, "the driver asks for no listener")
    for number, requirement in enumerate(requirements):
        wrong = _wrong(requirement)
        compute.hold(
            not wrong,
            f"requirements[{number}] of GetGatewayListenerRequirements has a selector that a"
            " gateway can bind",
            wrong,
        )


def _wrong(requirement: wire.GatewayListenerRequirement) -> str:
    """Why a gateway would not start; empty if it would."""
    selector = requirement.WhichOneof("selector")
    if selector is None:
        return "no selector is set"
    if selector != "exact_bind_address":
        return ""
    text = requirement.exact_bind_address
    shown = f"exact_bind_address {text[:80]!r}"
    host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        address = ipaddress.ip_address(host[1:-1] if bracketed else host)
    except ValueError:
        return f"{shown} is not IP:port"
    if bracketed != (address.version == 6) or not (port.isascii() and port.isdecimal()):
        return f"{shown} is not IP:port"
    if not 0 < int(port) < 65536:
        return f"{shown} has no port that can be bound"
    if address.is_unspecified or address.is_multicast:
        return f"{shown} is no concrete unicast address"
    return ""


@check("COMP-LSN-03", "the reason for a listener is short and printable")
async def listener_reasons(compute: ComputeBench) -> None:
    requirements = await _requirements(compute)
    compute.apply(requirements, "the driver asks for no listener")
    for number, requirement in enumerate(requirements):
        reason = requirement.reason
        compute.hold(
            reason.isprintable() and len(reason) <= _LONGEST_REASON,
            f"requirements[{number}].reason is one printable line of at most"
            f" {_LONGEST_REASON} characters",
            f"{len(reason)} characters: {reason[:80]!r}",
        )


@check("COMP-LSN-04", "no exact address is asked for")
async def no_exact_address(compute: ComputeBench) -> None:
    requirements = await _requirements(compute)
    exact = [each.exact_bind_address for each in requirements if each.exact_bind_address]
    compute.hold(
        not exact,
        "GetGatewayListenerRequirements asks for interfaces only, if for anything",
        f"exact_bind_address {', '.join(exact)}",
    )


@check("COMPAT01-03", "the list of listener requirements is empty")
async def no_listeners(compute: ComputeBench) -> None:
    requirements = await _requirements(compute)
    compute.hold(
        not requirements,
        "GetGatewayListenerRequirements answers an empty list",
        f"{len(requirements)} requirements",
    )


@check("COMP01-RES-01.a", "a limit on processors is supported as resource_capabilities.cpu says")
async def cpu_limit(compute: ComputeBench) -> None:
    known = (await compute.capabilities()).resource_capabilities
    compute.apply(known.HasField("cpu"), "resource_capabilities.cpu is not reported")
    sandbox = compute.sandbox()
    sandbox.spec.template.resources.cpu_limit = "1"
    await _as_said(compute, sandbox, "cpu.limit_supported", said=known.cpu.limit_supported)


@check("COMP01-RES-01.b", "a limit on memory is supported as resource_capabilities.memory says")
async def memory_limit(compute: ComputeBench) -> None:
    known = (await compute.capabilities()).resource_capabilities
    compute.apply(known.HasField("memory"), "resource_capabilities.memory is not reported")
    sandbox = compute.sandbox()
    sandbox.spec.template.resources.memory_limit = "1Gi"
    await _as_said(compute, sandbox, "memory.limit_supported", said=known.memory.limit_supported)


@check("COMP01-RES-01.c", "GPUs that resource_capabilities denies are refused")
async def gpus(compute: ComputeBench) -> None:
    known = (await compute.capabilities()).resource_capabilities
    compute.apply(known.HasField("gpu"), "resource_capabilities.gpu is not reported")
    plain, counted = compute.sandbox(), compute.sandbox()
    plain.spec.resource_requirements.gpu.SetInParent()
    counted.spec.resource_requirements.gpu.count = 1
    for sandbox, field in (
        (plain, "default_selection_supported"),
        (counted, "count_selection_supported"),
    ):
        if not getattr(known.gpu, field):
            await _as_said(compute, sandbox, f"gpu.{field}", said=False)


@check("COMP01-RES-01.d", "resource_capabilities is the same in every answer")
async def same_resources(compute: ComputeBench) -> None:
    first = (await compute.capabilities()).resource_capabilities
    for _ in range(_TRIES):
        reply = await compute.get_capabilities()
        compute.need(reply.ok, str(reply), "COMP-CAP-01")
        compute.hold(
            reply.answer.resource_capabilities == first,
            "GetCapabilities gives the same resource_capabilities every time",
            "another one later",
        )


async def _as_said(
    compute: ComputeBench, sandbox: wire.DriverSandbox, field: str, *, said: bool
) -> None:
    plain = await compute.validate(compute.sandbox())
    compute.need(plain.ok, str(plain), "COMP-VAL-01")
    reply = await compute.validate(sandbox)
    compute.code(
        reply,
        "OK" if said else "FAILED_PRECONDITION",
        when=f"of a sandbox that wants it, where resource_capabilities.{field} is"
        f" {str(said).lower()},",
    )


@check("COMP01-RES-02", "uploads of a root file system have a folder, or are not offered")
async def staging(compute: ComputeBench) -> None:
    answer = await compute.capabilities()
    folder, most = answer.rootfs_tar_staging_dir, answer.rootfs_tar_max_bytes
    compute.hold(
        bool(folder) == bool(most),
        "rootfs_tar_staging_dir and rootfs_tar_max_bytes are both set, or neither",
        f"rootfs_tar_staging_dir {folder!r}, rootfs_tar_max_bytes {most}",
    )
    if folder:
        wrong = _wrong_folder(Path(folder))
        compute.hold(
            not wrong,
            "rootfs_tar_staging_dir is the absolute path of a directory that others cannot write",
            f"{folder!r} {wrong}",
        )


def _wrong_folder(path: Path) -> str:
    if not path.is_absolute():
        return "is not absolute"
    try:
        found = path.stat()
    except OSError as error:
        return f"cannot be looked at: {error.strerror}"
    if not stat.S_ISDIR(found.st_mode):
        return "is no directory"
    mode = stat.S_IMODE(found.st_mode)
    return f"has mode {mode:o}" if mode & stat.S_IWOTH else ""
