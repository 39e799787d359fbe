"""What is refused before a driver sees it, with which status: COMP-VAL, COMP-IN, COMP01-IN."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from openshell_drivers import DriverError, FailedPrecondition, InvalidArgument
from openshell_drivers._codec.compute_server import decode_ref, decode_spec
from openshell_drivers._guards import Rules, admit, require_name
from openshell_drivers._services.compute import rules
from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.compute import (
    AdmissionPolicy,
    ComputeDriver,
    GpuRequest,
    SandboxSpec,
    Support,
)
from tests.compute.living import living
from tests.fakes.compute import Platform, Polled

CANARY = "canary-c0ffee"
NOTHING = Support()
ALL = Support(
    cpu_request=True,
    cpu_limit=True,
    memory_request=True,
    memory_limit=True,
    gpu_count=True,
    gpu_device=True,
    user_namespaces=True,
    workload_identity=True,
    agent_socket_path=True,
    platform_config=frozenset(
        {"annotations", "runtime_class_name", "resources_raw", "volume_claim_templates"}
    ),
)


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    size: int = 1
    mode: str = "a"


class Wide(Polled):
    """Honours everything."""

    name = "wide"
    support = ALL
    driver_config_model = Options

    def admission_policy(self) -> AdmissionPolicy:
        return AdmissionPolicy(allow_driver_config=True)


class Narrow(Polled):
    """Honours nothing, and has no default image."""

    name = "narrow"
    support = NOTHING
    default_image = ""
    driver_config_model = Options


def request(change: Mapping[str, Any] | None = None) -> wire.CreateSandboxRequest:
    """Make a good request with changes by dotted path."""
    message = wire.CreateSandboxRequest()
    message.sandbox.id, message.sandbox.name = "id-1", "box"
    message.sandbox.spec.template.image = "image"
    for path, value in (change or {}).items():
        *way, last = path.split(".")
        holder: Any = message.sandbox
        for name in way:
            holder = getattr(holder, name)
        if isinstance(value, dict):
            field = getattr(holder, last)
            field.SetInParent() if hasattr(field, "SetInParent") else None
            if hasattr(field, "DESCRIPTOR"):
                ParseDict(value, field)
            else:
                field.update(value)
        elif isinstance(value, list):
            getattr(holder, last).extend(value)
        else:
            setattr(holder, last, value)
    return message


def admitted(driver: type[ComputeDriver[Any]], change: Mapping[str, Any]) -> SandboxSpec:
    spec = decode_spec(wire.CreateSandboxRequest.FromString(request(change).SerializeToString()))
    held: Rules = rules(driver())
    return admit(spec, held)


def resources(**amounts: str) -> dict[str, Any]:
    return {f"spec.template.resources.{name}": text for name, text in amounts.items()}


def platform(**config: Any) -> dict[str, Any]:
    return {"spec.template.platform_config": config}


# Wrong in itself, whatever the driver supports

WRONG: dict[str, dict[str, Any]] = {
    **{f"id {text[:12]!r}": {"id": text} for text in ("", ".", "..", "a/b", "a b", "a\n", "é")},
    "id of 129": {"id": "a" * 129},
    "id with a NUL": {"id": "a\0"},
    **{f"name {text!r}": {"name": text} for text in ("", " ", ".", "..", "a/b", "a\x1bb", "a\n")},
    "name of 254": {"name": "n" * 254},
    "name with a line separator": {"name": "a\u2028b"},
    **{f"workspace {text!r}": {"workspace": text} for text in (" ", "..", "a/b", "a\x07")},
    "image with a control character": {"spec.template.image": f"{CANARY}\x1b"},
    "label with a control character": {"spec.template.labels": {"a": f"{CANARY}\n"}},
    "agent socket with a control character": {"spec.template.agent_socket_path": "/a\n"},
    "log level with a control character": {"spec.log_level": f"{CANARY}\r"},
    "GPU device with a control character": {
        "spec.resource_requirements": {"gpu": {}},
        "spec.gpu_device": f"{CANARY}\n",
    },
    **{
        f"{field}, {what}": {f"spec.{field}": {name: value}}
        for field in ("environment", "template.environment")
        for what, name, value in (
            ("empty name", "", CANARY),
            ("name with =", f"A={CANARY}", "x"),
            ("name with NUL", "A\0", CANARY),
            ("value with NUL", "A", f"{CANARY}\0"),
        )
    },
    "command with NUL": {"spec.command": ["a", f"{CANARY}\0"]},
    **{
        f"{field} {text!r}": resources(**{field: text})
        for field in ("cpu_request", "cpu_limit", "memory_request", "memory_limit")
        for text in ("0", "-1", "1x", "abc", " 1", "1 ", "1Ki1", "NaN", "inf", "0x10", CANARY)
    },
    "cpu_request above its limit": resources(cpu_request="2", cpu_limit="1500m"),
    "memory_request above its limit": resources(memory_request="1Gi", memory_limit="1G"),
    "no GPU at all": {"spec.resource_requirements": {"gpu": {"count": 0}}},
    "host_users that is text": platform(host_users=CANARY),
    "host_users that is a number": platform(host_users=1),
    **{
        f"launch authentication {text[:8]!r}": {"spec.launch_authentication": text}
        for text in (b"\xff" + CANARY.encode(), b"{" + CANARY.encode(), b"[]", b'"x"', b"nul")
    },
}


@pytest.mark.parametrize("driver", [Wide, Narrow])
@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_an_invalid_argument(case: str, driver: type[ComputeDriver[Any]]) -> None:
    with pytest.raises(InvalidArgument) as refused:
        admitted(driver, WRONG[case])

    assert CANARY not in refused.value.message
    assert refused.value.message.isprintable()


@pytest.mark.parametrize("field", ["cpu_request", "cpu_limit", "memory_request", "memory_limit"])
def test_a_bad_quantity_is_named_by_its_field(field: str) -> None:
    with pytest.raises(InvalidArgument, match=field):
        admitted(Wide, resources(**{field: CANARY}))


WRONG_CONFIG: dict[str, dict[str, Any]] = {
    "unknown key": {"sise": 1},
    "ill-typed": {"size": CANARY},
    "fraction": {"size": 1.5},
    "null": {"mode": None},
    "nested": {"mode": {"a": CANARY}},
}


@pytest.mark.parametrize("case", WRONG_CONFIG)
def test_driver_config_that_does_not_fit_is_an_invalid_argument(case: str) -> None:
    with pytest.raises(InvalidArgument, match=next(iter(WRONG_CONFIG[case]))) as refused:
        admitted(Wide, {"spec.template.driver_config": WRONG_CONFIG[case]})

    assert CANARY not in refused.value.message


@pytest.mark.parametrize("config", [{"size": 1}, {"x": 1}, {"": None}])
def test_driver_config_is_refused_unless_the_operator_allows_it(config: dict[str, Any]) -> None:
    with pytest.raises(FailedPrecondition, match="driver_config is not allowed"):
        admitted(Narrow, {"spec.template.driver_config": config})


def test_empty_driver_config_is_none() -> None:
    assert admitted(Narrow, {"spec.template.driver_config": {}}).template.driver_config == {}


def test_a_number_of_json_fits_a_whole_number() -> None:
    assert admitted(Wide, {"spec.template.driver_config": {"size": 3}}).template.driver_config


# Well formed, and honoured or refused

UNSUPPORTED: dict[str, tuple[dict[str, Any], str]] = {
    **{
        field: (resources(**{field: "1"}), field)
        for field in ("cpu_request", "cpu_limit", "memory_request", "memory_limit")
    },
    "a GPU": ({"spec.resource_requirements": {"gpu": {}}}, "GPU"),
    "two GPUs": ({"spec.resource_requirements": {"gpu": {"count": 2}}}, "GPU"),
    "a GPU by name": (
        {"spec.resource_requirements": {"gpu": {}}, "spec.gpu_device": "0000:01"},
        "GPU",
    ),
    **{
        f"platform_config.{key}": (platform(**{key: value}), key)
        for key, value in (
            ("runtime_class_name", "gvisor"),
            ("annotations", {"a": "b"}),
            ("resources_raw", {"limits": {}}),
            ("volume_claim_templates", {}),
        )
    },
    "an agent socket": ({"spec.template.agent_socket_path": "/run/agent"}, "agent socket"),
    "user namespaces": ({"spec.template.user_namespaces": True}, "user namespaces"),
    "user namespaces of 0.0.x": (platform(host_users=False), "user namespaces"),
}


@pytest.mark.parametrize("case", UNSUPPORTED)
def test_what_is_not_supported_is_a_failed_precondition_that_names_it(case: str) -> None:
    change, word = UNSUPPORTED[case]

    with pytest.raises(FailedPrecondition, match=word):
        admitted(Narrow, change)


@pytest.mark.parametrize("case", UNSUPPORTED)
def test_what_is_supported_is_let_through(case: str) -> None:
    admitted(Wide, UNSUPPORTED[case][0])


def test_an_unknown_key_of_platform_config_is_refused_everywhere() -> None:
    with pytest.raises(FailedPrecondition, match=r"platform_config\.sidecars"):
        admitted(Wide, platform(sidecars={"a": CANARY}))


def test_all_that_is_not_supported_is_named_at_once() -> None:
    everything = {
        **resources(cpu_limit="1", memory_limit="1"),
        **platform(annotations={}, runtime_class_name=CANARY),
    }
    with pytest.raises(FailedPrecondition) as refused:
        admitted(Narrow, everything)

    for word in ("cpu_limit", "memory_limit", "annotations", "runtime_class_name"):
        assert word in refused.value.message
    assert CANARY not in refused.value.message


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A wish for GPUs as it comes, and what it means."""

    varints: tuple[int, ...] = ()
    message: bool = False
    count: int | None = None
    device: str = ""
    means: GpuRequest | None = None


GPUS = {
    "none": Gpu(),
    "fork, false": Gpu(varints=(0,)),
    "fork, true": Gpu(varints=(1,), means=GpuRequest()),
    "fork, by name": Gpu(varints=(1,), device="d", means=GpuRequest(device="d")),
    "fork, a name alone": Gpu(device="d"),
    "fork, false with a name": Gpu(varints=(0,), device="d"),
    "fork, the last counts": Gpu(varints=(1, 0)),
    "message": Gpu(message=True, means=GpuRequest()),
    "message, 1": Gpu(message=True, count=1, means=GpuRequest(count=1)),
    "message, 3": Gpu(message=True, count=3, means=GpuRequest(count=3)),
    "both": Gpu(varints=(1,), message=True, count=3, means=GpuRequest(count=3)),
    "both, false": Gpu(varints=(0,), message=True, means=GpuRequest()),
}


@pytest.mark.parametrize("order", [1, -1], ids=["bool first", "message first"])
@pytest.mark.parametrize("case", GPUS)
def test_a_gpu_is_read_in_either_line_s_form(case: str, order: int) -> None:
    gpu = GPUS[case]
    spec = wire.DriverSandboxSpec()
    if gpu.message:
        spec.resource_requirements.gpu.SetInParent()
    if gpu.count is not None:
        spec.resource_requirements.gpu.count = gpu.count
    spec.gpu_device = gpu.device
    spec.template.image = "image"
    parts = [b"".join(bytes([9 << 3, each]) for each in gpu.varints), spec.SerializeToString()]
    raw = b"".join(parts[::order])
    sandbox = wire.DriverSandbox(id="i", name="n").SerializeToString()
    sandbox += bytes([4 << 3 | 2, len(raw)]) + raw
    message = wire.CreateSandboxRequest.FromString(bytes([1 << 3 | 2, len(sandbox)]) + sandbox)

    assert decode_spec(message).gpu == gpu.means


@pytest.mark.parametrize(
    ("support", "gpu", "served"),
    [
        (Support(gpu=True), GpuRequest(), True),
        (Support(gpu=True), GpuRequest(count=1), True),
        (Support(gpu=True), GpuRequest(count=2), False),
        (Support(gpu=True), GpuRequest(device="d"), False),
        (Support(gpu_count=True), GpuRequest(count=2), True),
        (Support(gpu_count=True), GpuRequest(device="d"), False),
        (Support(gpu_device=True), GpuRequest(device="d"), True),
        (Support(gpu_device=True), GpuRequest(count=2), False),
        (Support(), GpuRequest(), False),
    ],
)
def test_gpus_are_given_as_far_as_the_driver_can(
    support: Support, gpu: GpuRequest, served: bool
) -> None:
    held = replace(rules(Wide()), support=support)
    spec = SandboxSpec(id="i", name="n", gpu=gpu)
    if served:
        admit(spec, held)
        return
    with pytest.raises(FailedPrecondition, match="GPU"):
        admit(spec, held)


@pytest.mark.parametrize(
    ("change", "means"),
    [
        ({}, None),
        ({"spec.template.user_namespaces": True}, True),
        ({"spec.template.user_namespaces": False}, False),
        (platform(host_users=True), False),
        (platform(host_users=False), True),
        ({**platform(host_users=False), "spec.template.user_namespaces": False}, False),
    ],
)
def test_user_namespaces_have_three_states_in_either_form(
    change: dict[str, Any], means: bool | None
) -> None:
    template = admitted(Wide, change).template

    assert template.user_namespaces is means
    assert "host_users" not in template.platform_config


@pytest.mark.parametrize(
    "change", [{"spec.template.user_namespaces": False}, platform(host_users=True)]
)
def test_no_user_namespaces_is_what_a_driver_without_them_gives(change: dict[str, Any]) -> None:
    assert admitted(Narrow, change).template.user_namespaces is False


@pytest.mark.parametrize(
    "identity", [{"user": "0"}, {"user": "root"}, {"group": "0"}, {"group": "root"}]
)
def test_a_driver_that_applies_identities_refuses_root(identity: dict[str, str]) -> None:
    with pytest.raises(FailedPrecondition, match="root"):
        admitted(Wide, {"spec.workload_identity": identity})
    assert admitted(Narrow, {"spec.workload_identity": identity}).workload_identity is not None


@pytest.mark.parametrize("identity", [{}, {"user": "1000"}, {"user": "app", "group": "app"}])
def test_other_identities_are_passed_on(identity: dict[str, str]) -> None:
    found = admitted(Wide, {"spec.workload_identity": identity}).workload_identity

    assert found is not None
    assert {found.user, found.group} == {identity.get("user", ""), identity.get("group", "")}


def test_a_request_without_an_image_gets_the_default_or_is_refused() -> None:
    empty = {"spec.template.image": ""}

    assert admitted(Wide, empty).template.image == "image"
    with pytest.raises(FailedPrecondition, match="image"):
        admitted(Narrow, empty)


def test_labels_that_only_a_driver_sets_are_dropped() -> None:
    labels = {
        "openshell.ai/sandbox-id": "other",
        "internal.openshell.ai/x": "y",
        "team": "a",
        "example.com/openshell.ai/": "kept",
    }
    found = admitted(Wide, {"spec.template.labels": labels}).template.labels

    assert found == {"team": "a", "example.com/openshell.ai/": "kept"}


def test_namespace_and_status_say_nothing() -> None:
    """COMP-IN-01."""
    noisy = {"namespace": "x", "status": {"name": "y", "deleting": True}}

    assert admitted(Wide, noisy) == admitted(Wide, {})


def test_a_policy_is_passed_on_unread() -> None:
    assert admitted(Narrow, {"spec.policy": b"\x08\xff\x01"}).policy == b"\x08\xff\x01"


def test_secrets_are_secrets_from_here_on() -> None:
    spec = admitted(
        Wide,
        {
            "spec.sandbox_token": CANARY,
            "spec.launch_authentication": f'{{"a": "{CANARY}", "unknown": 1}}'.encode(),
        },
    )
    assert CANARY not in repr(spec)
    assert spec.sandbox_token is not None
    assert spec.sandbox_token.reveal() == CANARY


def test_a_request_without_a_sandbox_is_an_invalid_argument() -> None:
    for kind in (wire.CreateSandboxRequest, wire.ValidateSandboxCreateRequest):
        with pytest.raises(InvalidArgument):
            decode_spec(kind())


@pytest.mark.parametrize(
    "kind",
    [
        wire.GetSandboxRequest,
        wire.StopSandboxRequest,
        wire.StartSandboxRequest,
        wire.DeleteSandboxRequest,
    ],
)
@pytest.mark.parametrize("sandbox_id", ["", "..", "a/b", "a" * 129, "a\n"])
def test_a_reference_is_held_to_the_same_ids(kind: Callable[..., Any], sandbox_id: str) -> None:
    with pytest.raises(InvalidArgument):
        decode_ref(kind(sandbox_id=sandbox_id, name="box"))


@pytest.mark.parametrize("name", ["", "  ", "a/b", "..", "a\x00", "n" * 254])
def test_a_workspace_has_a_name_that_can_be_kept(name: str) -> None:
    with pytest.raises(InvalidArgument):
        require_name("workspace", name)


QUANTITIES = st.sampled_from(["", "1", "500m", "1.5", "2Gi", "100M", "0", "-1", "x", "1e3"])
CONFIGS = st.dictionaries(
    st.sampled_from(["annotations", "runtime_class_name", "host_users", "other"]),
    st.sampled_from([True, 1.0, "text", None]),
    max_size=2,
)


@st.composite
def changed(draw: st.DrawFn) -> dict[str, Any]:
    """Change a good request in all that is judged."""
    change = {
        "id": draw(st.sampled_from(["id-1", "", "a/b", "x" * 128])),
        "name": draw(st.sampled_from(["box", "", "b\n", "büx"])),
        "workspace": draw(st.sampled_from(["", "team", ".."])),
        "spec.template.image": draw(st.sampled_from(["", "image", "im\x07"])),
        "spec.template.platform_config": draw(CONFIGS),
        "spec.template.driver_config": draw(st.sampled_from([{}, {"size": 2}, {"no": 1}])),
        "spec.environment": draw(st.sampled_from([{}, {"A": "b"}, {"": "b"}])),
        "spec.gpu_device": draw(st.sampled_from(["", "d"])),
        "spec.resource_requirements": draw(
            st.sampled_from([{}, {"gpu": {}}, *({"gpu": {"count": n}} for n in (0, 1, 3))])
        ),
        **{
            f"spec.template.resources.{field}": draw(QUANTITIES)
            for field in ("cpu_request", "cpu_limit", "memory_request", "memory_limit")
        },
    }
    kept = draw(st.sets(st.sampled_from(sorted(change)), max_size=5))  # so that some are good
    return {path: value for path, value in change.items() if path in kept}


@given(kind=st.sampled_from([Wide, Narrow]), change=changed())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_create_accepts_what_validate_accepts_and_refuses_the_rest_alike(
    kind: type[Polled], change: dict[str, Any]
) -> None:
    """COMP-VAL-06."""
    asyncio.run(_agree(kind(Platform()), request(change).SerializeToString()))


async def _agree(driver: Polled, raw: bytes) -> None:
    answers: list[str] = []
    async with living(driver) as life:
        for message, call in (
            (wire.ValidateSandboxCreateRequest, life.validate),
            (wire.CreateSandboxRequest, life.create),
        ):
            try:
                await call(decode_spec(message.FromString(raw)))
                answers.append("OK")
            except DriverError as error:
                answers.append(f"{error.code} {error.message}")

        assert answers[0] == answers[1]
        if answers[0] != "OK":
            assert driver.platform.present == {}
            assert life.board.entries() == []
