"""The driver on bare grpcio: what its services and its verbs say."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.conformance.bare.caller import Caller
from tests.conformance.bare.process import Bare, bare
from tests.fakes.process import PATIENCE, eventually

READY: Final = ("Ready", "True", "Running")


@pytest.fixture
def served(short_dir: Path) -> Iterator[Bare]:
    with bare(short_dir) as found:
        yield found


@pytest.fixture
def caller(served: Bare) -> Iterator[Caller]:
    with Caller(served.path) as found:
        yield found


def test_three_services_are_on_one_socket_and_none_is_mistaken_for_another(
    caller: Caller,
) -> None:
    named = caller.call("named", "ListCredentials").credentials
    handle = caller.call(
        "store", "StoreCredential", provider="p", credential_key="K", value="v"
    ).handle
    kept = caller.call("store", "ListCredentials").credentials

    assert [each.name for each in named] == ["bare-one", "bare-short", "bare-slow", "bare-two"]
    assert [(each.handle, list(each.keys)) for each in kept] == [(handle.handle, ["K"])]
    assert caller.call("compute", "GetCapabilities").driver_name


def test_an_outage_is_an_error_and_never_an_absence(served: Bare, caller: Caller) -> None:
    sandbox_id = caller.create()
    caller.comes_to(sandbox_id, *READY)
    watch = caller.watch()
    watch.initial_metadata()
    served.verb("outage_begin")
    served.verb("remove", id=sandbox_id)
    other = {"id": "other", "name": "other"}

    assert caller.code("compute", "GetCapabilities") == "OK"
    assert caller.code("compute", "ValidateSandboxCreate", sandbox=other) == "OK"
    for rpc in ("GetSandbox", "DeleteSandbox", "StopSandbox", "StartSandbox"):
        assert caller.code("compute", rpc, sandbox_id=sandbox_id) == "UNAVAILABLE"
    assert caller.code("compute", "ListSandboxes") == "UNAVAILABLE"
    assert caller.code("compute", "CreateSandbox", sandbox=other) == "UNAVAILABLE"
    assert caller.code("named", "ResolveCredential", name="bare-one") == "UNAVAILABLE"
    assert caller.code("named", "ListCredentials") == "OK"
    for opened in (watch, later := caller.watch()):
        assert next(opened).sandbox.sandbox.id == sandbox_id  # in the snapshot, of the last view
    later.cancel()
    served.verb("outage_end")
    assert next(watch).deleted.sandbox_id == sandbox_id
    watch.cancel()
    assert caller.gone(sandbox_id)


def test_the_verbs_show_and_change_what_is_behind_the_driver(served: Bare, caller: Caller) -> None:
    sandbox_id = caller.create(
        environment={"A": "spec", "OPENSHELL_SANDBOX_ID": "x", "OPENSHELL_SANDBOX_TOKEN": "x"},
        template={"environment": {"A": "template", "B": "b"}, "labels": {"l": "1"}},
        command=["/bin/echo", "a b"],
    )
    caller.comes_to(sandbox_id, *READY)
    foreign = served.verb("foreign")["id"]
    workload = served.verb("environment", id=sandbox_id)
    credential = served.verb("credential", id=sandbox_id)["credential"]
    shown = caller.call("compute", "AuthenticateSandbox", credential=credential)
    served.verb("exit_main", id=sandbox_id)

    assert sorted(served.verb("list_resources")["resources"]) == sorted([sandbox_id, foreign])
    listed = caller.call("compute", "ListSandboxes").sandboxes
    assert [each.id for each in listed] == [sandbox_id]
    assert (workload["command"], workload["tty"]) == (["/bin/echo", "a b"], False)
    environment = workload["environment"]
    assert (environment["A"], environment["B"]) == ("spec", "b")
    assert environment["OPENSHELL_SANDBOX_ID"] == sandbox_id
    assert "OPENSHELL_SANDBOX_TOKEN" not in environment
    assert workload["labels"]["l"] == "1"
    assert (shown.sandbox_id, bool(shown.runtime_identity)) == (sandbox_id, True)
    for wrong in ("", foreign, credential[:-1], credential + "0"):
        code = caller.code("compute", "AuthenticateSandbox", credential=wrong)
        assert code == "UNAUTHENTICATED"
    caller.comes_to(sandbox_id, "Ready", "False", "ContainerExited")
    assert served.verb("instance", id=sandbox_id) == {"starts": 1, "state": "exited"}


def test_calls_at_once_share_one_fetch(served: Bare, caller: Caller) -> None:
    tokens: list[str] = []

    def resolve() -> None:
        tokens.append(caller.call("named", "ResolveCredential", name="bare-slow").token)

    threads = [threading.Thread(target=resolve) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)

    assert len(tokens) == 8
    assert len(set(tokens)) == 1
    assert served.verb("fetches") == {"fetches": {"bare-slow": 1}}


def test_special_images_fail_as_they_should(caller: Caller) -> None:
    failed = caller.create(image="bare/unpullable")
    refused = {"id": "refused", "name": "refused", "spec": {"template": {"image": "bare/refused"}}}

    caller.comes_to(failed, "Ready", "False", "ImagePullFailed")
    assert caller.code("compute", "ValidateSandboxCreate", sandbox=refused) == "OK"
    assert caller.code("compute", "CreateSandbox", sandbox=refused) == "FAILED_PRECONDITION"
    assert caller.gone("refused")
    caller.call("compute", "DeleteSandbox", sandbox_id=failed)
    assert eventually(lambda: caller.gone(failed))


def owned(**changed: str) -> dict[str, str]:
    owner = {"workspace": "w", "provider": "p", "provider_id": "i", "credential_key": "K"}
    return {**owner, **changed}


def test_a_handle_is_worth_nothing_to_another_owner(caller: Caller) -> None:
    handle = caller.call("store", "StoreCredential", value="v", **owned()).handle
    for changed in (
        *({"workspace": "x"}, {"provider": "x"}, {"provider_id": "x"}, {"credential_key": "X"}),
    ):
        other = owned(**changed)
        item = {"request_id": "1", "handle": handle, **other}
        overwrite = {"value": "x", "existing_handle": handle, **other}
        assert caller.code("store", "ResolveCredentials", credentials=[item]) == "INVALID_ARGUMENT"
        assert caller.code("store", "DeleteCredential", handle=handle, **other) == (
            "INVALID_ARGUMENT"
        )
        assert caller.code("store", "StoreCredential", **overwrite) == "INVALID_ARGUMENT"


def test_an_overwrite_keeps_the_handle_also_when_the_object_has_vanished(caller: Caller) -> None:
    handle = caller.call("store", "StoreCredential", value="1", **owned()).handle
    staged = caller.call("store", "StoreCredential", value="s", object_id="o", **owned()).handle
    caller.call("store", "DeleteCredential", handle=handle, **owned())
    caller.call("store", "DeleteCredential", handle=handle, **owned())
    item = {"request_id": "1", "handle": handle, **owned()}

    assert caller.code("store", "ResolveCredentials", credentials=[item]) == "NOT_FOUND"
    again = caller.call("store", "StoreCredential", value="2", existing_handle=handle, **owned())
    items = [item, {"request_id": "2", "handle": staged, **owned()}]
    answer = caller.call("store", "ResolveCredentials", credentials=items)
    caller.call("store", "StoreCredential", value="3", existing_handle=handle, **owned())
    newest = caller.call("store", "ResolveCredentials", credentials=[item])
    assert again.handle.handle == handle.handle
    assert newest.credentials[0].value == "3"
    assert {each.request_id: each.value for each in answer.credentials} == {"1": "2", "2": "s"}
