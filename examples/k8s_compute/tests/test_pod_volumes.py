"""What is mounted into a sandbox, and what fills it."""

from __future__ import annotations

from typing import Any

import pytest
from openshell_compute_k8s import _launch_paths as launch
from openshell_compute_k8s._pod import claim_templates, validate

from examples.k8s_compute.tests.pods import claim, init, made, mount, request, settings, volume
from openshell_drivers import InvalidArgument


def test_launch_secrets_are_always_mounted_and_may_be_missing() -> None:
    template = made()

    assert volume(template, "openshell-launch") == {
        "secret": {
            "secretName": launch.supervisor_secret("team--one"),
            "defaultMode": 0o400,
            "items": [{"key": "supervisor.json", "path": "supervisor.json"}],
            "optional": True,
        }
    }
    assert volume(template, "openshell-launch-public") == {
        "secret": {
            "secretName": launch.public_secret("team--one"),
            "defaultMode": 0o444,
            "items": [{"key": "launch.json", "path": "launch.json"}],
            "optional": True,
        }
    }
    for name, path in {
        "openshell-launch": "/run/openshell/launch",
        "openshell-launch-public": "/run/openshell/public",
    }.items():
        assert mount(template, name) == {"mountPath": path, "readOnly": True}


def test_only_root_reads_what_is_secret() -> None:
    """A group of the pod would read it, too: the kubelet adds that to every volume's mode."""
    assert "securityContext" not in made()["spec"]


@pytest.mark.parametrize(("asked", "given"), [(3600, 3600), (60, 600), (10**6, 86_400)])
def test_service_account_token_is_projected_for_the_gateway(asked: int, given: int) -> None:
    token = {"audience": "my-gateway", "ttl_seconds": asked, "path": "/var/tok/sa"}
    template = made(config=settings({"sa_token": token}))

    assert volume(template, "openshell-sa-token") == {
        "projected": {
            "sources": [
                {
                    "serviceAccountToken": {
                        "audience": "my-gateway",
                        "expirationSeconds": given,
                        "path": "sa",
                    }
                }
            ],
            "defaultMode": 0o400,
        }
    }
    assert mount(template, "openshell-sa-token") == {"mountPath": "/var/tok", "readOnly": True}


def test_no_audience_is_no_token() -> None:
    assert volume(made(config=settings({"sa_token": {"audience": ""}})), "openshell-sa-token") is (
        None
    )


def test_single_tls_secret_is_as_in_the_gateways_own_charts() -> None:
    tls = {"layout": "single", "secret": "client-tls"}
    template = made(config=settings({"client_tls": tls}))

    assert volume(template, "openshell-client-tls") == {
        "secret": {"secretName": "client-tls", "defaultMode": 0o400}
    }
    assert mount(template, "openshell-client-tls") == {
        "mountPath": "/etc/openshell-tls/client",
        "readOnly": True,
    }


def test_split_tls_secrets_are_as_in_the_kagenti_chart() -> None:
    tls = {"layout": "split", "ca_secret": "ca", "client_secret": "client"}
    template = made(config=settings({"client_tls": tls}))

    assert volume(template, "openshell-tls-ca") == {
        "secret": {
            "secretName": "ca",
            "defaultMode": 0o400,
            "items": [{"key": "ca.crt", "path": "ca.crt"}],
        }
    }
    assert volume(template, "openshell-tls-client") == {
        "secret": {"secretName": "client", "defaultMode": 0o400}
    }
    assert mount(template, "openshell-tls-ca") == {"mountPath": "/tls/ca", "readOnly": True}
    assert mount(template, "openshell-tls-client") == {
        "mountPath": "/tls/client",
        "readOnly": True,
    }


def test_workspace_is_a_claim_that_the_controller_mounts() -> None:
    config = settings({"workspace": {"size": "5Gi", "storage_class": "fast"}})
    template = made(config=config)

    assert claim_templates(config) == [
        {
            "metadata": {"name": "workspace"},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "5Gi"}},
                "storageClassName": "fast",
            },
        }
    ]
    assert volume(template, "workspace") is None, "the controller adds it"
    assert mount(template, "workspace") == {"mountPath": "/sandbox"}


def test_default_storage_class_is_the_clusters() -> None:
    [template] = claim_templates(settings())

    assert "storageClassName" not in template["spec"]


@pytest.mark.parametrize(("size", "written"), [("1K", {"sizeLimit": "1000"}), ("", {})])
def test_workspace_can_be_an_empty_dir(size: str, written: dict[str, str]) -> None:
    config = settings({"workspace": {"volume": "empty-dir", "size": size}})

    assert volume(made(config=config), "workspace") == {"emptyDir": written}
    assert claim_templates(config) == []
    assert init(made(config=config), "workspace-init") is not None


def test_workspace_can_be_missing() -> None:
    config = settings({"workspace": {"volume": "none"}})

    assert mount(made(config=config), "workspace") is None
    assert claim_templates(config) == []
    assert init(made(config=config), "workspace-init") is None


def test_group_of_the_volume_has_to_be_asked_for() -> None:
    config = settings({"workspace": {"fs_group": True}, "security": {"gid": 2000}})

    assert made(config=config)["spec"]["securityContext"] == {"fsGroup": 2000}


def test_workspace_is_seeded_from_the_image_with_few_rights() -> None:
    config = settings({"image_pull_policy": "Always", "workspace": {"mount_path": "/workspace"}})
    seed = init(made(config=config), "workspace-init")

    assert seed is not None
    assert seed["image"] == "example.org/base:1"
    assert seed["imagePullPolicy"] == "Always"
    assert seed["args"] == ["/workspace", "1000:1000"]
    assert seed["volumeMounts"] == [{"name": "workspace", "mountPath": "/workspace-pvc"}]
    assert seed["securityContext"]["capabilities"]["drop"] == ["ALL"]
    assert "SYS_ADMIN" not in seed["securityContext"]["capabilities"]["add"]
    unseeded = settings({"workspace": {"seed": False}})
    assert init(made(config=unseeded), "workspace-init") is None


def test_claims_of_the_request_are_mounted_read_only_unless_said_otherwise() -> None:
    asked: dict[str, Any] = {
        "volumes": [
            {
                "name": "data",
                "persistent_volume_claim": {"claim_name": "pvc-data", "read_only": False},
            },
            {"name": "ref", "persistent_volume_claim": {"claim_name": "pvc.ref"}},
        ],
        "containers": {
            "agent": {
                "volume_mounts": [
                    {"name": "data", "mount_path": "/sandbox/data", "read_only": False},
                    {"name": "data", "mount_path": "/data", "sub_path": "a/b"},
                    {"name": "ref", "mount_path": "/ref"},
                ]
            }
        },
    }
    template = made(request(template={"driver_config": asked}))

    assert volume(template, "data") == {
        "persistentVolumeClaim": {"claimName": "pvc-data", "readOnly": False}
    }
    assert volume(template, "ref") == {
        "persistentVolumeClaim": {"claimName": "pvc.ref", "readOnly": True}
    }
    [container] = template["spec"]["containers"]
    assert [each for each in container["volumeMounts"] if each["name"] in {"data", "ref"}] == [
        {"name": "data", "mountPath": "/sandbox/data", "readOnly": False},
        {"name": "data", "mountPath": "/data", "readOnly": True, "subPath": "a/b"},
        {"name": "ref", "mountPath": "/ref", "readOnly": True},
    ]


@pytest.mark.parametrize(
    ("path", "pod"),
    [
        ("/sandbox", {}),
        ("/srv", {"workspace": {"mount_path": "/srv/work"}}),
        ("/custom/bin", {"supervisor": {"mount_path": "/custom"}}),
        ("/custom", {"ssh_socket_path": "/custom/ssh.sock"}),
        ("/tokens/x", {"sa_token": {"path": "/tokens/token"}}),
    ],
)
def test_mount_over_a_configured_path_is_refused(path: str, pod: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match="mount_path"):
        validate(request(template={"driver_config": claim(path=path)}), settings(pod))


def test_workspace_path_is_free_where_there_is_no_workspace() -> None:
    config = settings({"workspace": {"volume": "none"}})
    spec = request(template={"driver_config": claim(path="/sandbox")})

    validate(spec, config)
    assert mount(made(spec, config), "data") == {"mountPath": "/sandbox", "readOnly": True}
