"""Where a sandbox's pod runs, and as which class: the configuration's and the request's say."""

from __future__ import annotations

from typing import Any

import pytest
from openshell_compute_k8s._pod import validate

from examples.k8s_compute.tests.pods import made, request, settings
from openshell_drivers import FailedPrecondition


def scheduling(spec: dict[str, Any]) -> dict[str, Any]:
    keys = ("runtimeClassName", "priorityClassName", "nodeSelector", "tolerations")
    return {key: spec[key] for key in keys if key in spec}


POD_SETTINGS: dict[str, Any] = {
    "runtime_class": "kata",
    "priority_class": "low",
    "node_selector": {"pool": "boxes"},
    "tolerations": [{"key": "boxes", "operator": "Exists", "effect": "NoSchedule"}],
}
WISHES: dict[str, Any] = {
    "runtime_class_name": "gvisor",
    "priority_class_name": "high",
    "node_selector": {"zone": "a"},
    "tolerations": [{"key": "gpu", "value": "yes", "effect": "NoExecute", "tolerationSeconds": 60}],
}


def test_nothing_of_scheduling_is_said_by_default() -> None:
    assert scheduling(made()["spec"]) == {}


def test_scheduling_of_the_configuration_is_the_default() -> None:
    assert scheduling(made(config=settings(POD_SETTINGS))["spec"]) == {
        "runtimeClassName": "kata",
        "priorityClassName": "low",
        "nodeSelector": {"pool": "boxes"},
        "tolerations": [{"key": "boxes", "operator": "Exists", "effect": "NoSchedule"}],
    }


def test_request_chooses_classes_and_narrows_nodes() -> None:
    spec = request(template={"driver_config": {"pod": WISHES}})

    assert scheduling(made(spec, settings(POD_SETTINGS))["spec"]) == {
        "runtimeClassName": "gvisor",
        "priorityClassName": "high",
        "nodeSelector": {"pool": "boxes", "zone": "a"},
        "tolerations": [
            {"key": "boxes", "operator": "Exists", "effect": "NoSchedule"},
            {
                "key": "gpu",
                "operator": "Equal",
                "value": "yes",
                "effect": "NoExecute",
                "tolerationSeconds": 60,
            },
        ],
    }


def test_platform_config_is_over_driver_config() -> None:
    template = {
        "platform_config": {"runtime_class_name": "nvidia"},
        "driver_config": {"pod": WISHES},
    }

    assert made(request(template=template))["spec"]["runtimeClassName"] == "nvidia"


def test_request_does_not_leave_the_nodes_of_the_configuration() -> None:
    spec = request(template={"driver_config": {"pod": {"node_selector": {"pool": "other"}}}})

    with pytest.raises(FailedPrecondition, match="node_selector"):
        validate(spec, settings(POD_SETTINGS))
