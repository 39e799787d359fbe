"""How a sandbox's wishes are read: each is honoured or refused, none ignored or misread."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.conformance._caller import Reply
from openshell_drivers.conformance._checks import check
from openshell_drivers.conformance.benches.compute import ComputeBench
from openshell_drivers.conformance.checks._sandboxes import got, in_list, seen
from openshell_drivers.conformance.checks.admission import allows_driver_config
from openshell_drivers.conformance.checks.validation import TOLD, TOO_MANY_GPUS, accepted

#: Forms of amounts that gateways of all lines pass on, each with a plain one of its kind.
_CPUS: Final = ("1", ("500m", "1.5", "2"))
_MEMORIES: Final = (
    "1Gi",
    *(("1073741824", "1048576Ki", "1024Mi", "1G", "1000M"),),
)
#: Larger than some platforms are, so they may be refused, but not as malformed.
_LARGE: Final = ("1Ti", "1Pi", "1Ei", "1T", "1P", "1E")
_GARBAGE: Final = ("0", "-1", "three", "1.5x", "1..5", "1 Gi", "Gi", "0x10")
_KEYS: Final[dict[str, Any]] = {
    "runtime_class_name": "conformance-runtime",
    "annotations": {"conformance.example/key": "value"},
    "resources_raw": {"limits": {"example.com/conformance": "1"}},
    "volume_claim_templates": {"claims": [{"name": "data"}]},
    "host_users": False,
}
#: The keys that a gateway of each line can send.
_SENT: Final = {
    "F": ("runtime_class_name", "annotations", "resources_raw", "volume_claim_templates"),
    "U": ("runtime_class_name", "annotations", "resources_raw", "host_users"),
    "N": ("runtime_class_name", "annotations", "resources_raw"),
}
_UNKNOWN_KEY: Final = "conformance_unknown_key"
_FUTURE_POLICY: Final = b"\x08\x01\xc2\x3e\x06future"  # version 1, and a text as field 1000


@check("COMP-IN-01", "what a gateway says of the sandbox's status is ignored")
async def sent_status(compute: ComputeBench) -> None:
    plain = compute.sandbox()
    plain.ClearField("status")
    compute.need((await compute.create(plain)).ok, "a plain sandbox is refused", "COMP-CREATE-01")
    sandbox = compute.sandbox()
    sent = sandbox.status
    sent.name, sent.instance_id, sent.deleting = "conf-sent-name", "conf-sent-instance", True
    sent.conditions.add(type="Ready", status="False", reason="Provisioning", message="conf-sent")
    reply = await compute.create(sandbox)
    compute.code(reply, "OK", when="with a status, which gateways send along,")
    status = (await seen(compute, sandbox.id)).status
    shown = {status.name, status.instance_id, *(each.message for each in status.conditions)}
    echoed = sorted(shown & {"conf-sent-name", "conf-sent-instance", "conf-sent"})
    compute.hold(
        not echoed and not status.deleting,
        "GetSandbox gives the driver's own status, nothing of the one in CreateSandbox",
        f"status has {echoed or ['deleting']} of the request",
    )


async def _with_limit(
    compute: ComputeBench, field: str, text: str
) -> Reply[wire.ValidateSandboxCreateResponse]:
    sandbox = compute.sandbox()
    setattr(sandbox.spec.template.resources, field, text)
    return await compute.validate(sandbox)


@check("COMP-IN-04.a", "amounts are understood in all usual forms")
async def quantities(compute: ComputeBench) -> None:
    offered = 0
    for field, (plain, others) in (("cpu_limit", _CPUS), ("memory_limit", _MEMORIES)):
        if not (await _with_limit(compute, field, plain)).ok:
            continue
        offered += 1
        large = _LARGE if field == "memory_limit" else ()
        for text in (*others, *large):
            reply = await _with_limit(compute, field, text)
            compute.code(
                reply,
                *("OK", "FAILED_PRECONDITION"),
                when=f"of template.resources.{field} {text!r}, as of {plain!r},",
            )
    compute.apply(offered, "the driver refuses limits altogether")


@check("COMP-IN-04.b", "amounts that are none are refused")
async def garbled_quantities(compute: ComputeBench) -> None:
    await accepted(compute, compute.sandbox())
    for field in ("cpu_limit", "memory_limit"):
        for text in _GARBAGE:
            reply = await _with_limit(compute, field, text)
            compute.hold(
                not reply.ok,
                f"ValidateSandboxCreate refuses template.resources.{field} {text!r}",
                "ValidateSandboxCreate: OK",
            )


@check("COMP-IN-04.c", "an empty amount means that nothing is wished")
async def empty_quantities(compute: ComputeBench) -> None:
    await accepted(compute, compute.sandbox())
    sandbox = compute.sandbox()
    sandbox.spec.template.resources.SetInParent()
    reply = await compute.validate(sandbox)
    compute.code(reply, "OK", when="with template.resources present and all its texts empty")


async def _platform_replies(
    compute: ComputeBench, keys: Iterable[str]
) -> dict[str, Reply[wire.ValidateSandboxCreateResponse]]:
    replies = {}
    for key in keys:
        sandbox = compute.sandbox()
        sandbox.spec.template.platform_config[key] = _KEYS.get(key, "x")
        replies[key] = await compute.validate(sandbox)
    return replies


@check("COMP-IN-05", "platform_config is not ignored")
async def platform_config(compute: ComputeBench) -> None:
    await accepted(compute, compute.sandbox())
    replies = await _platform_replies(compute, (*_SENT[compute.line], _UNKNOWN_KEY))
    taken = [key for key, reply in replies.items() if reply.ok]
    compute.hold(
        len(taken) < len(replies),
        "ValidateSandboxCreate refuses keys of template.platform_config that have no effect with"
        " this driver",
        f"OK to every one, also to a made-up one: {', '.join(taken)}",
    )
    for key, reply in replies.items():
        if not reply.ok and reply.code != "FAILED_PRECONDITION":
            compute.note(f"platform_config.{key} is refused with {reply.code}")


@check("COMP-IN-06", "driver_config is read strictly")
async def driver_config(compute: ComputeBench) -> None:
    await accepted(compute, compute.sandbox())
    allowed = await allows_driver_config(compute)
    compute.apply(allowed or compute.line == "U", "the driver takes no driver_config")
    sandbox = compute.sandbox()
    sandbox.spec.template.driver_config[_UNKNOWN_KEY] = "x"
    reply = await compute.validate(sandbox)
    compute.code(
        reply,
        *(("INVALID_ARGUMENT",) if allowed else TOLD),
        when=f"of a driver_config with the unknown key {_UNKNOWN_KEY}",
    )


def _gpu(compute: ComputeBench, count: int | None) -> wire.DriverSandbox:
    sandbox = compute.sandbox()
    sandbox.spec.resource_requirements.gpu.SetInParent()
    if count is not None:
        sandbox.spec.resource_requirements.gpu.count = count
    return sandbox


@check(
    "COMP-IN-07.a",
    "GPUs that are not there are refused",
    presets=("0.0.111", "0.1.2", "0.1-latest"),
)
async def too_many_gpus(compute: ComputeBench) -> None:
    await accepted(compute, compute.sandbox())
    known = (await compute.capabilities()).resource_capabilities.gpu
    compute.apply(not known.count_selection_supported, "the driver says that it has GPUs")
    reply = await compute.validate(_gpu(compute, TOO_MANY_GPUS))
    compute.hold(
        not reply.ok,
        f"ValidateSandboxCreate of resource_requirements.gpu.count {TOO_MANY_GPUS} answers"
        " FAILED_PRECONDITION",
        "ValidateSandboxCreate: OK",
    )
    # A count can be called malformed, but not the mere wish.
    for count in (None, 1):
        compute.code(
            await compute.validate(_gpu(compute, count)),
            *("OK", "FAILED_PRECONDITION"),
            when=f"of resource_requirements.gpu with {'no count' if count is None else 'count 1'},"
            " if it does not accept that,",
        )
    if reply.code != "FAILED_PRECONDITION":
        compute.note(f"{TOO_MANY_GPUS} GPUs are refused with {reply.code}")


@check(
    "COMP-IN-07.b", "a GPU without a count is one GPU", presets=("0.0.111", "0.1.2", "0.1-latest")
)
async def one_gpu(compute: ComputeBench) -> None:
    counted = await compute.validate(_gpu(compute, 1))
    reply = await compute.validate(_gpu(compute, None))
    compute.hold(
        counted.ok or not reply.ok,
        "ValidateSandboxCreate answers the same to resource_requirements.gpu without a count and"
        f" with count 1: {counted}",
        f"without a count {reply}",
    )


@check("COMP-IN-07.c", "the fork's wish for a GPU is seen", presets=("fork-mvp",))
async def fork_gpu(compute: ComputeBench) -> None:
    newer = _gpu(compute, None)
    await compute.complete(newer)
    request = wire.ValidateSandboxCreateRequest(sandbox=newer)
    answer = wire.ValidateSandboxCreateResponse
    later = await compute.caller.ask("ValidateSandboxCreate", request, answer, whole=True)
    reply = await compute.validate(_gpu(compute, None))
    compute.hold(
        later.ok or not reply.ok,
        "ValidateSandboxCreate refuses the fork's gpu = true (field 9 of the spec, a varint) as it"
        f" refuses resource_requirements.gpu: {later}",
        str(reply),
    )


@check("COMP-IN-09", "labels of the user do not take a sandbox out of the driver's sight")
async def reserved_labels(compute: ComputeBench) -> None:
    plain = await compute.made()
    listed = await in_list(compute, plain.id)
    compute.need(listed, "ListSandboxes lacks a plain sandbox", "COMP-CREATE-01")
    other = compute.fresh_id()
    sandbox = compute.sandbox()
    for key, value in {
        "openshell.ai/managed-by": "conformance",
        "openshell.ai/sandbox-id": other,
        "openshell.ai/sandbox-name": "conf-other",
        "openshell.ai/sandbox-workspace": "conf-other",
    }.items():
        sandbox.spec.template.labels[key] = value
    reply = await compute.create(sandbox)
    if reply.code in TOLD:
        compute.note(f"reserved labels are refused with {reply.code}")
        return
    compute.need(reply.ok, str(reply), "COMP-CREATE-01")
    what = "of a sandbox with labels openshell.ai/sandbox-id and the like"
    found = await got(compute, sandbox.id)
    compute.hold(found is not None, f"GetSandbox {what} finds it by its own id", "NOT_FOUND")
    listed = await in_list(compute, sandbox.id)
    compute.hold(listed is not None, f"ListSandboxes has the own id {what}", "it has not")
    stranger = await compute.get(other)
    compute.hold(
        not stranger.answer.HasField("sandbox"),
        f"GetSandbox of the id in the label {what} finds nothing",
        str(stranger),
    )


@check("COMP01-IN-01", "a policy of a later gateway does no harm")
async def later_policy(compute: ComputeBench) -> None:
    await compute.made()
    await accepted(compute, compute.sandbox())
    when = "with a policy that has an unknown field"
    for ask in (compute.validate, compute.create):
        sandbox = compute.sandbox()
        sandbox.spec.policy = _FUTURE_POLICY
        compute.code(await ask(sandbox), "OK", when=when)
    absent = compute.sandbox()
    absent.spec.ClearField("policy")
    compute.code(await compute.create(absent), "OK", when="without a policy")


@check("COMP01-IN-02.a", "a sandbox without a workload identity is made")
async def no_workload_identity(compute: ComputeBench) -> None:
    await compute.made()
    sandbox = compute.sandbox()
    sandbox.spec.ClearField("workload_identity")
    compute.code(await compute.create(sandbox), "OK", when="without workload_identity")


@check("COMP01-IN-02.b", "a driver that resolves identities resolves none to root")
async def root(compute: ComputeBench) -> None:
    await compute.made()
    resolved = 0
    for user in ("0", "root"):
        sandbox = compute.sandbox()
        sandbox.spec.workload_identity.user = user
        reply = await compute.create(sandbox)
        if reply.code in TOLD:
            resolved += 1
            continue
        compute.need(reply.ok, str(reply), "COMP-VAL-04")
        await compute.settles(sandbox.id)
        status = (await seen(compute, sandbox.id)).status
        if status.HasField("resolved_identity"):
            resolved += 1
            compute.hold(
                status.resolved_identity.uid != 0,
                f"CreateSandbox with workload_identity.user {user!r} answers FAILED_PRECONDITION",
                "OK, and status.resolved_identity.uid is 0",
            )
    compute.apply(resolved, "the driver does not resolve workload identities")


@check("COMP01-IN-03", "a demand for or against user namespaces is met or refused")
async def user_namespaces(compute: ComputeBench) -> None:
    await accepted(compute, compute.sandbox())
    for demand in (True, False):
        sandbox = compute.sandbox()
        sandbox.spec.template.user_namespaces = demand
        when = f"of template.user_namespaces {str(demand).lower()}"
        reply = await compute.validate(sandbox)
        compute.code(reply, "OK", *TOLD, when=when)
        again = compute.sandbox()
        again.spec.CopyFrom(sandbox.spec)
        created = await compute.create(again)
        compute.hold(
            created.ok == reply.ok,
            f"CreateSandbox {when} answers as ValidateSandboxCreate does: {reply}",
            str(created),
        )
