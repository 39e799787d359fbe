"""Launch authentication: split in two, and the secret half never shown."""

from __future__ import annotations

import json
import sys
import traceback
from dataclasses import FrozenInstanceError
from typing import Any, Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from openshell_drivers import InvalidArgument, Secret
from openshell_drivers.launch import LaunchAuthentication, WorkloadAuthentication

CANARY: Final = "canary-2f60-hidden"
PEM: Final = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----\n"
SESSION: Final[dict[str, Any]] = {
    "session_id": "0f0e5c5e-6c1c-4f52-a0a9-6b4a5a0e2f11",
    "runtime_generation": "gen-3",
    "session_rotation": 2,
    "auth_epoch": 7,
}
SUPERVISOR: Final = {
    **SESSION,
    "gateway_token": f"{CANARY}-gateway",
    "gateway_expires_at": 1_800_000_000,
    "sandbox_token": f"{CANARY}-sandbox",
    "sandbox_expires_at": 1_800_000_000,
}
WHOLE: Final[dict[str, Any]] = {
    "supervisor": SUPERVISOR,
    "gateway_id": "gw-1",
    "verification_keys": [{"key_id": "k1", "public_key_pem": PEM}],
}
JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def parse(document: object) -> LaunchAuthentication:
    return LaunchAuthentication.parse(Secret(json.dumps(document)))


def refused(text: str) -> str:
    with pytest.raises(InvalidArgument, match=r"^launch_authentication") as caught:
        LaunchAuthentication.parse(Secret(text))
    error = caught.value
    assert error.__cause__ is error.__context__ is None
    assert CANARY not in "".join(traceback.format_exception(error))
    return error.message


def test_the_supervisor_gets_its_bundle_and_the_workload_what_is_public() -> None:
    launch = parse(WHOLE)

    assert launch.supervisor is not None
    assert json.loads(launch.supervisor.reveal()) == SUPERVISOR
    assert launch.workload == WorkloadAuthentication(
        gateway_id="gw-1", **SESSION, verification_keys={"k1": PEM}
    )
    assert json.loads(launch.workload.to_json()) == {
        "gateway_id": "gw-1",
        **SESSION,
        "verification_keys": [{"key_id": "k1", "public_key_pem": PEM}],
    }


def test_a_key_that_comes_as_a_list_of_bytes_is_text() -> None:
    keys = [{"key_id": "k1", "public_key_pem": list(PEM.encode())}]

    assert parse({**WHOLE, "verification_keys": keys}).workload.verification_keys == {"k1": PEM}


def test_unknown_keys_are_tolerated_and_reach_the_supervisor_only() -> None:
    launch = parse(
        {
            **WHOLE,
            "supervisor": {**SUPERVISOR, "new_secret": CANARY},
            "new_top_secret": CANARY,
            "verification_keys": [{"key_id": "k1", "public_key_pem": PEM, "note": CANARY}],
        }
    )

    assert launch.supervisor is not None
    assert json.loads(launch.supervisor.reveal())["new_secret"] == CANARY
    assert CANARY not in launch.workload.to_json()
    assert launch.workload == parse(WHOLE).workload


@pytest.mark.parametrize("part", sorted(WHOLE))
@pytest.mark.parametrize("absent", ["left out", "null"])
def test_a_missing_part_is_tolerated(part: str, absent: str) -> None:
    document = {**WHOLE, part: None}
    if absent == "left out":
        del document[part]
    launch = parse(document)

    assert (launch.supervisor is None) == (part == "supervisor")
    assert (launch.workload.session_id == "") == (part == "supervisor")
    assert (launch.workload.gateway_id == "") == (part == "gateway_id")
    assert (not launch.workload.verification_keys) == (part == "verification_keys")


def test_of_nothing_nothing_is_said() -> None:
    launch = parse({})

    assert launch.supervisor is None
    assert json.loads(launch.workload.to_json()) == {"verification_keys": []}


@pytest.mark.parametrize(
    "text",
    [
        "",
        CANARY,
        f'{{"supervisor": "{CANARY}',
        f'{{"a": "{CANARY}"}} x',
        f'{{"a": "{CANARY}", "b": NaN}}',
        f'{{"a": "{CANARY}", "b": 1e999}}',
        f'{{"a": "{CANARY}", "a": 1}}',
        f'{{"supervisor": {{"gateway_token": "{CANARY}", "gateway_token": "x"}}}}',
        '{"a":' * 100_000,
        "[" * 100_000,
        f'{{"a": {"9" * 5000}}}',
    ],
    ids=range(11),
)
def test_what_is_not_json_is_refused_without_its_text(text: str) -> None:
    assert refused(text) == "launch_authentication is not valid JSON"


def test_a_bundle_nested_as_deep_as_can_be_is_split_or_refused() -> None:
    limit = sys.getrecursionlimit()
    for depth in range(limit - 300, limit + 1):
        text = f'{{"supervisor": {{"a": {"[" * depth}{"]" * depth}}}}}'
        try:
            LaunchAuthentication.parse(Secret(text))
        except InvalidArgument as error:
            assert error.message.startswith("launch_authentication")  # noqa: PT017  # either will do


@pytest.mark.parametrize(
    ("document", "key"),
    [
        ([CANARY], "launch_authentication"),
        (CANARY, "launch_authentication"),
        (None, "launch_authentication"),
        ({"supervisor": CANARY}, "supervisor"),
        ({"supervisor": [CANARY]}, "supervisor"),
        ({"gateway_id": [CANARY]}, "gateway_id"),
        ({"supervisor": {"session_id": 1, "gateway_token": CANARY}}, "session_id"),
        ({"supervisor": {"session_rotation": [CANARY]}}, "session_rotation"),
        ({"supervisor": {"auth_epoch": True, "gateway_token": CANARY}}, "auth_epoch"),
        ({"supervisor": {"auth_epoch": 1.5, "gateway_token": CANARY}}, "auth_epoch"),
        ({"verification_keys": CANARY}, "verification_keys"),
        ({"verification_keys": {CANARY: 1}}, "verification_keys"),
        ({"verification_keys": 5}, "verification_keys"),
        ({"verification_keys": [CANARY]}, "verification_keys"),
        ({"verification_keys": [{"key_id": [CANARY]}]}, "key_id"),
        ({"verification_keys": [{"key_id": CANARY}, {"key_id": CANARY}]}, "verification_keys"),
        ({"verification_keys": [{"public_key_pem": {CANARY: 1}}]}, "public_key_pem"),
        ({"verification_keys": [{"public_key_pem": [CANARY]}]}, "public_key_pem"),
        ({"verification_keys": [{"public_key_pem": [256]}]}, "public_key_pem"),
        ({"verification_keys": [{"public_key_pem": [10**30]}]}, "public_key_pem"),
        ({"verification_keys": [{"public_key_pem": [255]}]}, "public_key_pem"),
    ],
)
def test_a_part_of_another_type_is_refused_by_its_key(document: object, key: str) -> None:
    message = refused(json.dumps(document))

    assert message.startswith(f"launch_authentication: {key} ")


@pytest.mark.parametrize("kind", ["", "EC ", "RSA ", "ENCRYPTED "])
@pytest.mark.parametrize("form", [str, lambda pem: list(pem.encode())], ids=["text", "bytes"])
def test_a_private_key_never_gets_to_the_workload(kind: str, form: Any) -> None:
    pem = f"-----BEGIN {kind}PRIVATE KEY-----\n{CANARY}\n-----END {kind}PRIVATE KEY-----\n"

    message = refused(json.dumps({"verification_keys": [{"public_key_pem": form(pem)}]}))

    assert message == "launch_authentication: public_key_pem is a private key"


def test_nothing_secret_is_shown() -> None:
    launch = parse(WHOLE)

    assert CANARY not in repr(launch) + str(launch) + f"{launch}" + launch.workload.to_json()


def test_the_parts_cannot_be_changed() -> None:
    launch = parse(WHOLE)

    with pytest.raises(FrozenInstanceError):
        launch.workload.gateway_id = "x"  # type: ignore[misc]
    with pytest.raises(TypeError):
        launch.workload.verification_keys["k2"] = PEM  # type: ignore[index]


def test_text_that_is_not_a_secret_is_refused() -> None:
    with pytest.raises(TypeError, match="launch_authentication must be a Secret"):
        LaunchAuthentication.parse(CANARY)  # type: ignore[arg-type]


@given(JSON | st.fixed_dictionaries({}, optional=dict.fromkeys(WHOLE, JSON)))
@example({"supervisor": {"gateway_token": "\ud800"}})
def test_any_json_is_split_without_loss_or_refused(document: object) -> None:
    try:
        launch = parse(document)
    except InvalidArgument as error:
        assert error.message.startswith("launch_authentication")  # noqa: PT017  # either will do
        return
    assert isinstance(document, dict)
    bundle = launch.supervisor
    assert (bundle and json.loads(bundle.reveal())) == document.get("supervisor")


@pytest.mark.parametrize("generation", ["gen-3", 3, None])
def test_a_generation_is_passed_on_as_the_gateway_wrote_it(generation: object) -> None:
    text = json.dumps({"supervisor": {"runtime_generation": generation}})

    parsed = LaunchAuthentication.parse(Secret(text))

    assert parsed.workload.runtime_generation == generation
