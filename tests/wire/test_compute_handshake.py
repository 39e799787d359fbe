"""Who is answered by compute's GetCapabilities, who is refused, and that it never changes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import pytest

from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers._wire.extension_pb2 import PeerMetadata, ProtocolVersion
from openshell_drivers.compute import AdmissionPolicy
from openshell_drivers.server import ServerOptions, running
from tests.fakes.compute import Pushed
from tests.wire.compute_gateway import COMPUTE, CONTRACT, call, memory, peer
from tests.wire.gateway import Gateway, dial, refusal

CANARY = "openshell.peer-said.this"


@pytest.fixture
async def gateway(socket_path: Path) -> AsyncIterator[Gateway]:
    async with running(memory(), socket=socket_path), dial(socket_path) as to:
        yield to


def asking(metadata: PeerMetadata | None) -> wire.GetCapabilitiesRequest:
    return wire.GetCapabilitiesRequest(gateway=metadata)


def names(count: int) -> list[str]:
    return [CONTRACT, *(f"openshell.x.n{number}" for number in range(count - 1))]


REFUSED: dict[str, Callable[[], PeerMetadata]] = {
    "1 no version": lambda: peer(protocol_version=None),
    "2 major 0": lambda: peer(protocol_version=ProtocolVersion(major=0)),
    "2 major 2": lambda: peer(protocol_version=ProtocolVersion(major=2)),
    "4 blank name": lambda: peer(implementation_name=" \u2003"),
    "4 name of 129 bytes": lambda: peer(implementation_name="é" * 64 + "x"),
    "4 version with a control character": lambda: peer(implementation_version="peer-said\x85"),
    "5 129 supported": lambda: peer(supported_capabilities=names(129)),
    "5 129 required": lambda: peer(required_capabilities=names(129)),
    "6 malformed": lambda: peer(supported_capabilities=[CONTRACT, "openshell.peer-said"]),
    "6 capitals": lambda: peer(required_capabilities=[CONTRACT, "openshell.x.Peer-said"]),
    "7 twice": lambda: peer(supported_capabilities=[CONTRACT, CANARY, CANARY]),
    "8 another family": lambda: peer(supported_capabilities=["openshell.credentials.contract"]),
    "9 more required than there is": lambda: peer(required_capabilities=[CONTRACT, CANARY]),
    "empty": PeerMetadata,
}
SERVED: dict[str, Callable[[], PeerMetadata | None]] = {
    "no metadata": lambda: None,
    "as 0.1.2 sends it": peer,
    "as 0.1-latest sends it": lambda: peer(
        supported_capabilities=[CONTRACT, "openshell.compute.launch-authentication"]
    ),
    "minor 7": lambda: peer(protocol_version=ProtocolVersion(major=1, minor=7)),
    "a capability more": lambda: peer(supported_capabilities=[CONTRACT, "openshell.compute.x-y"]),
    "unknown fields": lambda: PeerMetadata.FromString(
        peer().SerializeToString() + b"\xf8\x06\x01" + b"\x82\x07\x03new"
    ),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_a_gateway_that_breaks_a_rule_is_refused_without_an_echo(
    gateway: Gateway, case: str
) -> None:
    code, message = await refusal(call(gateway, "GetCapabilities", asking(REFUSED[case]())))

    assert code == "FAILED_PRECONDITION"
    assert "eer-said" not in message
    assert message.isprintable()


@pytest.mark.parametrize("case", SERVED)
async def test_a_gateway_that_keeps_the_rules_is_served(gateway: Gateway, case: str) -> None:
    answer = await call(gateway, "GetCapabilities", asking(SERVED[case]()))

    assert answer.driver_name == "memory"


async def test_a_strict_driver_refuses_a_gateway_without_metadata(socket_path: Path) -> None:
    strict = ServerOptions(require_handshake=True)
    async with running(memory(), socket=socket_path, options=strict), dial(socket_path) as to:
        missing = await refusal(call(to, "GetCapabilities", asking(None)))
        answer = await call(to, "GetCapabilities", asking(peer()))

    assert missing == ("FAILED_PRECONDITION", "gateway metadata refused: it is missing")
    assert answer.driver_name == "memory"


async def test_the_answer_is_the_same_bytes_every_time(socket_path: Path) -> None:
    answers: set[bytes] = set()
    requests = [asking(each).SerializeToString() for each in (peer(), None)]

    async def ask(to: Gateway, times: int) -> None:
        method = to.raw(COMPUTE + "GetCapabilities")
        for number in range(times):
            answers.add(await method(requests[number % 2], timeout=30))

    for _ in range(2):  # across a restart
        async with running(memory(), socket=socket_path), dial(socket_path) as to:
            await ask(to, 1000)
            async with anyio.create_task_group() as tasks:
                for _ in range(50):
                    tasks.start_soon(ask, to, 2)

    assert len(answers) == 1


async def test_capabilities_do_not_need_the_backend(socket_path: Path) -> None:
    driver = Pushed()
    driver.platform.gate("observe")  # it never sees anything
    async with running(driver, socket=socket_path), dial(socket_path) as to:
        with anyio.fail_after(5):
            answer = await call(to, "GetCapabilities", asking(peer()))

    assert answer.driver_name == "pushed"
    assert answer.resource_capabilities.gpu.default_selection_supported
    assert not answer.resource_capabilities.gpu.count_selection_supported
    assert not answer.resource_capabilities.cpu.limit_supported
    assert not answer.supports_sandbox_authentication


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        (AdmissionPolicy(), "v1:{}"),
        (AdmissionPolicy(allow_driver_config=True), 'v1:{"allow_driver_config":true}'),
        (AdmissionPolicy(enabled=False), 'v1:{"resource_admission":{"enabled":false}}'),
        (
            AdmissionPolicy(enabled=True, required_labels={"b": "${workspace}", "a": "ü"}),
            'v1:{"resource_admission":{"enabled":true,'
            '"required_labels":{"a":"ü","b":"${workspace}"}}}',
        ),
        (AdmissionPolicy(required_labels={}), 'v1:{"resource_admission":{"required_labels":{}}}'),
    ],
)
def test_the_admission_policy_is_written_without_what_is_default(
    policy: AdmissionPolicy, said: str
) -> None:
    assert policy.acknowledgement() == said
    assert isinstance(json.loads(said.removeprefix("v1:")), dict)


async def test_an_operator_that_allows_driver_config_says_so(socket_path: Path) -> None:
    driver = memory(allow_driver_config=True)
    async with running(driver, socket=socket_path), dial(socket_path) as to:
        answer = await call(to, "GetCapabilities", asking(peer()))

    assert answer.resource_admission_policy == 'v1:{"allow_driver_config":true}'
