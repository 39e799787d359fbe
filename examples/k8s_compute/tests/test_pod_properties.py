"""Properties of any request: what `validate` accepts makes a pod, and leaks nothing on the way."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given
from hypothesis import settings as effort
from openshell_compute_k8s._pod import claim_templates, pod_template, validate
from openshell_compute_k8s.config import KubernetesConfig

from examples.k8s_compute.tests.pods import made
from examples.k8s_compute.tests.requests import CONFIGURATIONS, REQUESTS
from openshell_drivers import FailedPrecondition, InvalidArgument, SandboxSpec, Secret

MANY = effort(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def refusal(spec: SandboxSpec, config: KubernetesConfig) -> str:
    """Say why a request is refused; empty if it is not."""
    try:
        validate(spec, config)
    except (InvalidArgument, FailedPrecondition) as error:
        event(error.code)
        return error.message
    event("accepted")
    return ""


@MANY
@given(spec=REQUESTS, config=CONFIGURATIONS)
def test_what_is_accepted_makes_plain_json(spec: SandboxSpec, config: KubernetesConfig) -> None:
    if refusal(spec, config):
        with pytest.raises((InvalidArgument, FailedPrecondition)):
            made(spec, config)
        return
    document: dict[str, Any] = made(spec, config)

    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert made(spec, config) == document
    names = {each["name"] for each in document["spec"]["volumes"]}
    names |= {each["metadata"]["name"] for each in claim_templates(config)}
    containers = [*document["spec"].get("initContainers", []), *document["spec"]["containers"]]
    assert {each["name"] for box in containers for each in box["volumeMounts"]} <= names


@MANY
@given(spec=REQUESTS, config=CONFIGURATIONS)
def test_tokens_change_nothing(spec: SandboxSpec, config: KubernetesConfig) -> None:
    launch = Secret('{"supervisor": {"gateway_token": "CANARY-1"}}')
    told = replace(spec, sandbox_token=Secret("CANARY-2"), launch_authentication=launch)

    if not refusal(spec, config):
        document = pod_template(told, config, labels={}, annotations={}, object_name="x")
        assert "CANARY" not in json.dumps(document)


@MANY
@given(spec=REQUESTS, config=CONFIGURATIONS)
def test_refusal_has_no_value_of_the_environment_in_it(
    spec: SandboxSpec, config: KubernetesConfig
) -> None:
    values = {name: f"CANARY{value}" for name, value in spec.environment.items()}

    assert "CANARY" not in refusal(replace(spec, environment=values), config)
