"""A container's resources, made one of all who say something (COMP-IN-04, COMP-IN-07)."""

from __future__ import annotations

from typing import Any

import pytest
from openshell_compute_k8s._pod import validate

from examples.k8s_compute.tests.pods import agent, init, made, request, settings
from openshell_drivers import FailedPrecondition, InvalidArgument
from openshell_drivers.compute import ComputeResources, GpuRequest

GPU = "nvidia.com/gpu"


def resources(
    typed: dict[str, str] | None = None,
    raw: dict[str, Any] | None = None,
    driver: dict[str, Any] | None = None,
    default: dict[str, Any] | None = None,
    gpu: GpuRequest | None = None,
) -> dict[str, dict[str, str]]:
    template = {
        "resources": ComputeResources(**typed) if typed else None,
        "platform_config": {"resources_raw": raw} if raw else {},
        "driver_config": {"containers": {"agent": {"resources": driver}}} if driver else {},
    }
    spec = request(template=template, gpu=gpu)
    config = settings({"resources": default or {}})
    validate(spec, config)
    return dict(agent(made(spec, config)).get("resources", {}))


def both(**amounts: str) -> dict[str, dict[str, str]]:
    return {"requests": amounts, "limits": amounts}


def test_nothing_is_said_where_nobody_says_anything() -> None:
    assert resources() == {}


def test_typed_resources_arrive() -> None:
    typed = {
        "cpu_request": "500m",
        "cpu_limit": "1",
        "memory_request": "1Gi",
        "memory_limit": "2Gi",
    }

    assert resources(typed) == {
        "requests": {"cpu": "500m", "memory": "1Gi"},
        "limits": {"cpu": "1", "memory": "2Gi"},
    }


def test_limit_alone_is_requested_too_and_a_request_limits_nothing() -> None:
    assert resources({"cpu_limit": "2", "memory_request": "1Gi"}) == {
        "requests": {"cpu": "2", "memory": "1Gi"},
        "limits": {"cpu": "2"},
    }


@pytest.mark.parametrize(
    ("given", "written"),
    [("1.5", "1500m"), (".5", "500m"), ("1n", "1m"), ("1e1", "10000m"), ("+2", "2000m")],
)
def test_cpu_is_written_as_the_api_server_compares_it(given: str, written: str) -> None:
    assert resources({"cpu_limit": given}) == both(cpu=written)


@pytest.mark.parametrize(
    ("given", "written"),
    [("1K", "1000"), ("1k", "1k"), ("1.5Gi", "1610612736"), ("1e3", "1000"), ("1500m", "2")],
)
def test_memory_is_written_as_the_api_server_compares_it(given: str, written: str) -> None:
    assert resources({"memory_limit": given}) == both(memory=written)


def test_one_gpu_by_default_and_as_many_as_asked_for() -> None:
    assert resources(gpu=GpuRequest()) == both(**{GPU: "1"})
    assert resources(gpu=GpuRequest(count=4)) == both(**{GPU: "4"})


def test_gpu_is_the_resource_of_the_configuration() -> None:
    template = made(request(gpu=GpuRequest()), settings(gpu_resource="amd.com/gpu"))

    assert agent(template)["resources"] == both(**{"amd.com/gpu": "1"})


def test_raw_numbers_and_texts_arrive() -> None:
    raw = {"limits": {GPU: 2.0, "cpu": 0.5}, "requests": {"ephemeral-storage": "1Gi"}}

    assert resources(raw=raw) == {
        "requests": {"cpu": "500m", "ephemeral-storage": "1Gi", GPU: "2"},
        "limits": {"cpu": "500m", GPU: "2"},
    }


def test_who_comes_first_wins() -> None:
    said = [
        {"limits": {"cpu": "2", GPU: "2"}},
        {"limits": {"cpu": "3", GPU: "3", "memory": "3Gi"}},
        {"limits": {"cpu": "4", "memory": "4Gi", "ephemeral-storage": "4Gi"}},
    ]

    assert resources({"cpu_limit": "1"}, said[0], said[1], said[2], GpuRequest()) == both(
        cpu="1", **{GPU: "1"}, memory="3Gi", **{"ephemeral-storage": "4Gi"}
    )


def test_default_request_gives_way_to_a_smaller_limit() -> None:
    assert resources({"cpu_limit": "100m"}, default={"requests": {"cpu": "500m"}}) == both(
        cpu="100m"
    )


def test_request_above_a_default_limit_is_not_to_be_had() -> None:
    with pytest.raises(FailedPrecondition, match="cpu"):
        resources({"cpu_request": "2"}, default={"limits": {"cpu": "1"}})


def test_request_above_its_own_limit_is_wrong() -> None:
    with pytest.raises(InvalidArgument, match="cpu"):
        resources({"cpu_request": "2", "cpu_limit": "1"})
    amounts = {"requests": {"memory": "2Gi"}, "limits": {"memory": "1025Mi"}}
    with pytest.raises(InvalidArgument, match="above its limit"):
        resources(raw=amounts)
    with pytest.raises(InvalidArgument, match="above its limit"):
        resources(driver=amounts)


@pytest.mark.parametrize(
    "amounts",
    [
        {"limits": {GPU: "500m"}},
        {"limits": {GPU: "2"}, "requests": {GPU: "1"}},
        {"limits": {"gpu": "1"}},
        {"limits": {"hugepages-2Mi": "2Mi"}},
        {"limits": {"kubernetes.io/gpu": "1"}},
        {"limits": {"cpu": "0"}},
        {"limits": {"cpu": "-1"}},
        {"limits": {"cpu": "lots"}},
        {"limits": {"cpu": "9223372036854775807"}},
    ],
)
def test_amount_that_kubernetes_refuses_is_refused(amounts: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match="platform_config"):
        resources(raw=amounts)
    with pytest.raises(InvalidArgument, match="driver_config"):
        resources(driver=amounts)


def test_device_that_is_requested_is_limited_alike() -> None:
    assert resources(driver={"requests": {"example.com/fpga": "2"}}) == both(
        **{"example.com/fpga": "2"}
    )


def test_init_containers_have_amounts_of_their_own() -> None:
    template = made(config=settings({"init_resources": {"limits": {"cpu": "100m"}}}))

    for name in ("openshell-supervisor-install", "workspace-init"):
        container = init(template, name)
        assert container is not None
        assert container["resources"] == both(cpu="100m")
    assert "resources" not in agent(template)
