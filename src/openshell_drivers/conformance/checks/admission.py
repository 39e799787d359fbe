"""The resource admission policy: its text, and what it obliges to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.conformance._checks import check
from openshell_drivers.conformance.benches.compute import ComputeBench
from openshell_drivers.conformance.checks.negotiation import rounds
from openshell_drivers.conformance.checks.validation import accepted

_PREFIX: Final = "v1:"
_FORM: Final = (
    "resource_admission_policy is v1: and a JSON object with no keys but allow_driver_config"
    " (a bool) and resource_admission, in that only enabled (a bool) and required_labels (texts)"
)
#: Before 0.1.0 the default labels had other names.
_OLDER_LABELS: Final = {
    "openshell.ai/sandbox-attachable": "true",
    "openshell.ai/workspace": "${workspace}",
}


class _Malformed(Exception):
    """The text is no policy; says why."""


def read_policy(text: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """Read a policy as a gateway with these default labels does; raises `_Malformed`."""
    if not text.startswith(_PREFIX):
        raise _Malformed(f"it begins with {text[:12]!r}")
    try:
        whole = json.loads(text.removeprefix(_PREFIX), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _Malformed(f"no JSON follows: {error}") from None
    whole = _table("the whole", whole, {"allow_driver_config", "resource_admission"})
    inner = _table(
        "resource_admission", whole.get("resource_admission", {}), {"enabled", "required_labels"}
    )
    wanted = inner.get("required_labels", dict(labels))
    if not isinstance(wanted, dict) or not all(isinstance(v, str) for v in wanted.values()):
        raise _Malformed("required_labels is no object of texts")
    return {
        "allow_driver_config": _switch(whole, "allow_driver_config", default=False),
        "enabled": _switch(inner, "enabled", default=True),
        "required_labels": wanted,
    }


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _table(name: str, value: object, keys: set[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _Malformed(f"{name} is no object")
    unknown = sorted(set(value) - keys)
    if unknown:
        raise _Malformed(f"{name} has the key {unknown[0]!r}")
    return value


def _switch(table: Mapping[str, Any], key: str, *, default: bool) -> bool:
    value = table.get(key, default)
    if not isinstance(value, bool):
        raise _Malformed(f"{key} is no bool")
    return value


async def _text(compute: ComputeBench) -> str:
    text = (await compute.capabilities()).resource_admission_policy
    compute.need(text, "resource_admission_policy is empty", "COMP01-ADM-08")
    return text


async def _policy(compute: ComputeBench) -> dict[str, Any]:
    text = await _text(compute)
    try:
        return read_policy(text, compute.preset.default_labels)
    except _Malformed as error:
        compute.need(False, f"the policy cannot be read: {error}", "COMP01-ADM-01")
        raise


async def allows_driver_config(compute: ComputeBench) -> bool:
    """Whether the driver says that it takes ``driver_config``; without a policy it does not say."""
    text = (await compute.capabilities()).resource_admission_policy
    try:
        return bool(read_policy(text, {})["allow_driver_config"])
    except _Malformed:
        return False


@check("COMP01-ADM-01", "the resource admission policy can be read")
async def policy_readable(compute: ComputeBench) -> None:
    text = await _text(compute)
    try:
        read_policy(text, compute.preset.default_labels)
    except _Malformed as error:
        compute.fail(_FORM, f"{text[:200]!r}: {error}")


@check("COMP01-ADM-02", "the resource admission policy is the configured one")
async def policy_as_configured(compute: ComputeBench) -> None:
    policy = await _policy(compute)
    configured = compute.profile.compute.admission
    generations = (compute.preset.default_labels, _OLDER_LABELS)
    try:
        wanted = [read_policy(configured, labels) for labels in generations]
    except _Malformed as error:
        compute.need(False, f"compute.admission in the profile is no policy: {error}")
        return
    compute.hold(
        policy in wanted,
        f"resource_admission_policy means {configured} with the gateway's defaults, which is"
        f" {json.dumps(wanted[0])}",
        json.dumps(policy)[:300],
        mend="Return v1:{} where nothing is configured. If the driver is configured with another"
        " policy, say so in the suite's profile, as compute.admission, and in the gateway's"
        " configuration of the driver.",
    )


@check("COMP01-ADM-03.a", "the policy's text is the same in every answer")
async def policy_constant(compute: ComputeBench) -> None:
    await _text(compute)
    texts = {answer.resource_admission_policy for answer in await rounds(compute)}
    compute.hold(
        len(texts) == 1,
        "resource_admission_policy is the same, byte for byte, in all GetCapabilities answers",
        f"{len(texts)} texts, such as {' and '.join(sorted(texts)[:2])[:300]}",
    )


@check(
    "COMP01-ADM-03.b",
    "the policy's text is the same after a restart",
    profile="resilience",
    own=True,
    once=True,
)
async def policy_survives(compute: ComputeBench) -> None:
    before = await _text(compute)
    await compute.kill_and_restart()
    reply = await compute.get_capabilities()
    compute.need(reply.ok, str(reply), "COMP-CAP-01")
    after = reply.answer.resource_admission_policy
    compute.hold(
        after == before,
        f"after kill -9 and a restart resource_admission_policy is {before[:200]!r} again",
        repr(after[:200]),
    )


async def _forbidden(compute: ComputeBench) -> wire.DriverSandbox:
    """A sandbox with what the policy does not allow."""
    policy = await _policy(compute)
    compute.apply(not policy["allow_driver_config"], "the policy allows driver_config")
    sandbox = compute.sandbox()
    sandbox.spec.template.driver_config.Clear()
    sandbox.spec.template.driver_config["x"] = 1
    return sandbox


_WHEN: Final = 'of a driver_config {"x": 1} that the policy does not allow'


@check("COMP01-ADM-04.a", "ValidateSandboxCreate refuses a driver_config that is not allowed")
async def validate_refuses(compute: ComputeBench) -> None:
    await accepted(compute, compute.sandbox())
    reply = await compute.validate(await _forbidden(compute))
    compute.code(reply, "FAILED_PRECONDITION", when=_WHEN)


@check("COMP01-ADM-04.b", "CreateSandbox refuses a driver_config that is not allowed")
async def create_refuses(compute: ComputeBench) -> None:
    await compute.made()
    reply = await compute.create(await _forbidden(compute))
    compute.code(reply, "FAILED_PRECONDITION", when=_WHEN)


@check("COMP01-ADM-08", "the resource admission policy is not empty")
async def policy_there(compute: ComputeBench) -> None:
    text = (await compute.capabilities()).resource_admission_policy
    compute.hold(
        text,
        "GetCapabilitiesResponse.resource_admission_policy (field 13) is not empty",
        "it is empty, so gateways with resource admission, which is the default, refuse the driver",
    )
