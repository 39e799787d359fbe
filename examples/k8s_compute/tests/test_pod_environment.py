"""The variables of the sandbox's container (COMP-IN-03, COMP-IN-08, COMP-SEC-01)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openshell_compute_k8s._environment import for_restart
from openshell_compute_k8s._pod import validate

from examples.k8s_compute.tests.pods import agent, environment, made, request, settings
from openshell_drivers import InvalidArgument

TOKEN_FILE = "/var/run/secrets/openshell/token"


def test_supervisor_learns_who_and_where_it_is() -> None:
    variables = environment(made(config=settings({"endpoint": "https://gateway.example:8080"})))

    assert variables == {
        "OPENSHELL_ENDPOINT": "https://gateway.example:8080",
        "OPENSHELL_K8S_SA_TOKEN_FILE": TOKEN_FILE,
        "OPENSHELL_LAUNCH_FILE": "/run/openshell/launch/supervisor.json",
        "OPENSHELL_LAUNCH_PUBLIC_FILE": "/run/openshell/public/launch.json",
        "OPENSHELL_MAIN_PROCESS_SPEC": '{"version":1,"command":["/bin/bash","-l"],"tty":true}',
        "OPENSHELL_NETWORK_RUNTIME_CAPABILITIES": "",
        "OPENSHELL_SANDBOX": "one",
        "OPENSHELL_SANDBOX_COMMAND": "sleep infinity",
        "OPENSHELL_SANDBOX_GID": "1000",
        "OPENSHELL_SANDBOX_ID": "3c0ffee0-id",
        "OPENSHELL_SANDBOX_UID": "1000",
        "OPENSHELL_SSH_SOCKET_PATH": "/run/openshell/ssh.sock",
        "OPENSHELL_TELEMETRY_ENABLED": "false",
    }


def test_user_has_the_template_below_the_spec_and_nothing_of_the_drivers() -> None:
    spec = request(
        template={"environment": {"A": "template", "B": "template"}},
        environment={"B": "spec", "OPENSHELL_SANDBOX_ID": "another", "OPENSHELL_X": "y"},
    )
    variables = environment(made(spec))

    assert (variables["A"], variables["B"]) == ("template", "spec")
    assert variables["OPENSHELL_SANDBOX_ID"] == "3c0ffee0-id"
    assert "OPENSHELL_X" not in variables
    assert json.loads(variables["OPENSHELL_USER_ENVIRONMENT"]) == {"A": "template", "B": "spec"}


def test_command_goes_to_the_supervisor_exactly() -> None:
    spec = request(command=("sh", "-c", "echo $(HOME) $$"), tty=True)

    assert json.loads(environment(made(spec))["OPENSHELL_MAIN_PROCESS_SPEC"]) == {
        "version": 1,
        "command": ["sh", "-c", "echo $(HOME) $$"],
        "tty": True,
    }


def test_kubelet_is_kept_from_reading_dollars_in_the_users_text() -> None:
    spec = request(environment={"A": "$(OPENSHELL_SANDBOX_ID) $$ $"})
    listed = {each["name"]: each.get("value") for each in agent(made(spec))["env"]}

    assert listed["A"] == "$$(OPENSHELL_SANDBOX_ID) $$$$ $$"


def test_extra_variables_of_the_configuration_go_over_the_users() -> None:
    config = settings({"environment": {"ANTHROPIC_BASE_URL": "https://inference.local"}})
    spec = request(environment={"ANTHROPIC_BASE_URL": "https://elsewhere.example"})

    assert environment(made(spec, config))["ANTHROPIC_BASE_URL"] == "https://inference.local"


def test_variable_from_a_secret_holds_a_reference_only() -> None:
    ref = {"secret": "openshell-gateway-secrets", "key": "ssh-handshake-secret"}
    names = {"OPENSHELL_SSH_HANDSHAKE_SECRET": ref, "API_KEY": ref}
    spec = request(environment={"API_KEY": "of the user"})
    listed = agent(made(spec, settings({"environment_from_secrets": names})))["env"]

    expected = {
        "secretKeyRef": {"name": "openshell-gateway-secrets", "key": "ssh-handshake-secret"}
    }
    for name in names:
        assert [each for each in listed if each["name"] == name] == [
            {"name": name, "valueFrom": expected}
        ]


@pytest.mark.parametrize(
    ("pod", "name", "value"),
    [
        ({"ssh_socket_path": "/tmp/ssh.sock"}, "OPENSHELL_SSH_SOCKET_PATH", "/tmp/ssh.sock"),
        ({"sandbox_command": ""}, "OPENSHELL_SANDBOX_COMMAND", None),
        ({"telemetry": True}, "OPENSHELL_TELEMETRY_ENABLED", "true"),
        ({"log_level": "debug"}, "OPENSHELL_LOG_LEVEL", "debug"),
        ({"sa_token": {"audience": ""}}, "OPENSHELL_K8S_SA_TOKEN_FILE", None),
        ({"sa_token": {"path": "/var/tok/sa"}}, "OPENSHELL_K8S_SA_TOKEN_FILE", "/var/tok/sa"),
    ],
)
def test_setting_becomes_a_variable(pod: dict[str, Any], name: str, value: str | None) -> None:
    assert environment(made(config=settings(pod))).get(name) == value


def test_log_level_of_the_request_is_over_the_settings() -> None:
    template = made(request(log_level="warn"), settings({"log_level": "debug"}))

    assert environment(template)["OPENSHELL_LOG_LEVEL"] == "warn"


@pytest.mark.parametrize(
    ("tls", "paths"),
    [
        ({}, {}),
        (
            {"layout": "single", "secret": "client-tls"},
            {
                "CA": "/etc/openshell-tls/client/ca.crt",
                "CERT": "/etc/openshell-tls/client/tls.crt",
                "KEY": "/etc/openshell-tls/client/tls.key",
            },
        ),
        (
            {"layout": "split", "ca_secret": "ca", "client_secret": "client"},
            {
                "CA": "/tls/ca/ca.crt",
                "CERT": "/tls/client/tls.crt",
                "KEY": "/tls/client/tls.key",
            },
        ),
        ({"layout": "split", "ca_secret": "ca"}, {"CA": "/tls/ca/ca.crt"}),
    ],
)
def test_supervisor_learns_where_its_certificates_are(
    tls: dict[str, str], paths: dict[str, str]
) -> None:
    variables = environment(made(config=settings({"client_tls": tls})))
    prefix = "OPENSHELL_TLS_"

    assert {k.removeprefix(prefix): v for k, v in variables.items() if k.startswith(prefix)} == (
        paths
    )


@pytest.mark.parametrize("name", ["1X", "A B", "A-ä", "..", "..x", "."])
def test_name_that_kubernetes_refuses_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument, match=r"template\.environment") as caught:
        validate(request(environment={name: "CANARY-value"}), settings())

    assert "CANARY" not in caught.value.message


def test_more_than_a_process_can_get_is_refused() -> None:
    most = 128 * 1024 - len("A=") - 1 - len('{"A":""}') - len("OPENSHELL_USER_ENVIRONMENT")
    validate(request(environment={"A": "x" * (most - 16)}), settings())

    for environment_ in ({"A": "x" * 128 * 1024}, {f"A{n}": "x" * 8192 for n in range(16)}):
        with pytest.raises(InvalidArgument, match="128 KiB"):
            validate(request(environment=environment_), settings())


def test_restart_does_not_wait_for_the_creating_client_again() -> None:
    spec = request(command=("echo", "$$ $(A)"), await_main_process_attachment=True)
    template = made(spec)
    again = for_restart(template)

    assert '"await_main_process_attachment":true' in json.dumps(environment(template)).replace(
        "\\", ""
    )
    assert again == made(request(command=("echo", "$$ $(A)")))
    assert template == made(spec), "the template that was given is left alone"
