"""The pod template, feature by feature; its variables, volumes and amounts have their own tests."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openshell_compute_k8s._pod import SUPPORT, pod_template, validate

from examples.k8s_compute.tests.pods import (
    OWN_LABELS,
    agent,
    claim,
    init,
    made,
    mount,
    request,
    settings,
    volume,
)
from openshell_drivers import FailedPrecondition, InvalidArgument, Secret
from openshell_drivers.compute import WorkloadIdentity

LAUNCH = Secret(json.dumps({"supervisor": {"gateway_token": "CANARY-launch"}}))


def test_sandbox_is_one_container_of_the_image_that_runs_the_supervisor() -> None:
    container = agent(made(request(template={"image": "example.org/mine:2"})))

    assert container["image"] == "example.org/mine:2"
    assert container["command"] == ["/opt/openshell/bin/openshell-sandbox"]
    assert "args" not in container


def test_request_without_an_image_gets_the_default_one() -> None:
    config = settings(default_image="example.org/default:3")

    assert agent(made(request(template={"image": ""}), config))["image"] == "example.org/default:3"


def test_tokens_are_never_in_the_template() -> None:
    spec = request(sandbox_token=Secret("CANARY-token"), launch_authentication=LAUNCH)

    assert "CANARY" not in json.dumps(made(spec))
    assert made(spec) == made(request())


def test_labels_of_the_driver_go_over_those_of_the_user() -> None:
    labels = {"app": "mine", "openshell.ai/managed-by": "me", "openshell.ai/x": "y"}

    assert made(request(template={"labels": labels}))["metadata"]["labels"] == {
        "app": "mine",
        **OWN_LABELS,
    }


def test_annotations_of_configuration_and_driver_go_over_those_of_the_user() -> None:
    asked = {"note": "mine", "team": "mine", "openshell.io/sandbox-id": "another"}
    spec = request(template={"platform_config": {"annotations": asked}})

    assert made(spec, settings({"annotations": {"team": "ours"}}))["metadata"]["annotations"] == {
        "note": "mine",
        "team": "ours",
        "openshell.ai/sandbox-name": "one",
        "openshell.io/sandbox-id": "3c0ffee0-id",
    }


@pytest.mark.parametrize("key", ["bad key", "UPPER.example/x", "a/b/c", "", "-a"])
def test_label_or_annotation_that_kubernetes_refuses_is_refused(key: str) -> None:
    for template in ({"labels": {key: "x"}}, {"platform_config": {"annotations": {key: "x"}}}):
        with pytest.raises(InvalidArgument, match=r"labels|annotations"):
            validate(request(template=template), settings())


@pytest.mark.parametrize("value", ["white space", "-", "x" * 64, "ä"])
def test_label_value_that_kubernetes_refuses_is_refused(value: str) -> None:
    with pytest.raises(InvalidArgument, match=r"template\.labels\.app") as caught:
        validate(request(template={"labels": {"app": value}}), settings())

    assert value == "-" or value not in caught.value.message


def test_labels_of_the_controller_are_refused() -> None:
    key = "agents.x-k8s.io/sandbox-pod-template-hash"

    for template in ({"labels": {key: "x"}}, {"platform_config": {"annotations": {key: "x"}}}):
        with pytest.raises(FailedPrecondition, match="controller"):
            validate(request(template=template), settings())


def test_apparmor_is_not_chosen_by_annotation() -> None:
    key = "container.apparmor.security.beta.kubernetes.io/agent"
    spec = request(template={"platform_config": {"annotations": {key: "unconfined"}}})

    with pytest.raises(FailedPrecondition, match="AppArmor"):
        validate(spec, settings())


@pytest.mark.parametrize("name", ["two words", "-x", "tab\there"])
def test_image_that_kubernetes_refuses_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument, match=r"template\.image"):
        validate(request(template={"image": name}), settings())


def test_what_ends_is_not_restarted_by_kubernetes() -> None:
    assert made()["spec"]["restartPolicy"] == "Never"  # COMP01-START-03


def test_nothing_of_the_cluster_is_mounted_or_told() -> None:
    spec = made(config=settings({"service_account": "boxes"}))["spec"]

    assert spec["serviceAccountName"] == "boxes"
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False


def test_settings_of_every_pod_arrive() -> None:
    config = settings(
        {
            "image_pull_policy": "Always",
            "image_pull_secrets": ["pull-a", "pull-b"],
            "host_aliases": [{"ip": "192.0.2.1", "hostnames": ["host.openshell.internal"]}],
            "termination_grace_seconds": 45,
            "ndots": 2,
        }
    )
    template = made(config=config)
    spec = template["spec"]

    assert agent(template)["imagePullPolicy"] == "Always"
    assert spec["imagePullSecrets"] == [{"name": "pull-a"}, {"name": "pull-b"}]
    assert spec["hostAliases"] == [{"ip": "192.0.2.1", "hostnames": ["host.openshell.internal"]}]
    assert spec["terminationGracePeriodSeconds"] == 45
    assert spec["dnsConfig"] == {"options": [{"name": "ndots", "value": "2"}]}
    assert "dnsConfig" not in made(config=settings({"ndots": None}))["spec"]


@pytest.mark.parametrize("delivery", ["init-container", "image-volume"])
def test_supervisor_is_delivered_read_only(delivery: str) -> None:
    supervisor = {
        "image": "example.org/supervisor:1",
        "pull_policy": "Never",
        "delivery": delivery,
        "mount_path": "/opt/other",
        "binary": "/bin/openshell-sandbox",
    }
    template = made(config=settings({"supervisor": supervisor}))
    install = init(template, "openshell-supervisor-install")

    assert mount(template, "openshell-supervisor-bin") == {
        "mountPath": "/opt/other",
        "readOnly": True,
    }
    if delivery == "image-volume":
        image = {"reference": "example.org/supervisor:1", "pullPolicy": "Never"}
        assert volume(template, "openshell-supervisor-bin") == {"image": image}
        assert install is None
        assert agent(template)["command"] == ["/opt/other/bin/openshell-sandbox"]
    else:
        assert volume(template, "openshell-supervisor-bin") == {"emptyDir": {}}
        assert agent(template)["command"] == ["/opt/other/openshell-sandbox"]
        assert install is not None
        assert install["image"] == "example.org/supervisor:1"
        assert install["imagePullPolicy"] == "Never"
        assert install["command"] == [
            "/bin/openshell-sandbox",
            "copy-self",
            "/opt/other/openshell-sandbox",
        ]
        assert install["securityContext"]["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize(
    "platform",
    [
        {"runtime_class_name": 7},
        {"runtime_class_name": "No Class"},
        {"annotations": "text"},
        {"annotations": {"a": 1.0}},
        {"annotations": {"a": "x" * 300_000}},
        {"resources_raw": "text"},
        {"resources_raw": {"claims": ()}},
        {"resources_raw": {"limits": {"cpu": True}}},
        {"resources_raw": {"limits": {"cpu": float("nan")}}},
        {"resources_raw": {"limits": {"device": 1.0}}},
    ],
)
def test_ill_typed_platform_config_is_refused(platform: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match="platform_config"):
        validate(request(template={"platform_config": platform}), settings())


def test_claims_of_the_kagenti_line_are_not_supported() -> None:
    assert "volume_claim_templates" not in SUPPORT.platform_config


def test_identity_and_policy_are_left_to_the_supervisor() -> None:
    identity = WorkloadIdentity(user="4711", group="4711")
    spec = request(workload_identity=identity, policy=b"\xff")

    assert made(spec) == made()
    assert not SUPPORT.workload_identity


def test_validate_gives_the_options_and_has_no_need_of_names() -> None:
    options = validate(request(template={"driver_config": claim()}), settings())

    assert options.claims == ("pvc-data",)


def test_validate_refuses_what_the_api_server_will_not_keep() -> None:
    large = {f"V{number}": "x" * 8192 for number in range(10)}
    command = ("x" * 100_000,)
    spec = request(environment=large, command=command)
    many = {f"key{number}": "x" * 1000 for number in range(190)}

    validate(spec, settings())
    with pytest.raises(FailedPrecondition, match="larger than Kubernetes keeps"):
        validate(
            request(
                environment=large,
                command=command,
                template={"platform_config": {"annotations": many}},
            ),
            settings({"environment": {f"C{number}": "$" * 60_000 for number in range(5)}}),
        )


def test_names_of_the_resource_are_those_of_its_launch_secrets() -> None:
    template = pod_template(request(), settings(), labels={}, annotations={}, object_name="box-7")

    assert json.dumps(template).count("box-7") == 2
