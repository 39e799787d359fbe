"""Who is answered by GetCapabilities, who is refused, and that the answer never changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from openshell_drivers._codec import extension
from openshell_drivers._wire import credential_driver_pb2 as wire
from openshell_drivers._wire.extension_pb2 import PeerMetadata, ProtocolVersion
from openshell_drivers.server import ServerOptions, running
from tests.wire.gateway import STORE, Gateway, dial, peer, refusal
from tests.wire.vault import Vault

CONTRACT = "openshell.credentials.contract"
CANARY = "openshell.peer-said.this"


def names(count: int) -> list[str]:
    return [CONTRACT, *(f"openshell.x.n{number}" for number in range(count - 1))]


REFUSED: dict[str, Callable[[], PeerMetadata]] = {
    "major 0": lambda: peer(protocol_version=ProtocolVersion(major=0, minor=9)),
    "major 2": lambda: peer(protocol_version=ProtocolVersion(major=2)),
    "name empty": lambda: peer(implementation_name=""),
    "name blank": lambda: peer(implementation_name=" \u2003 "),
    "name of 129 bytes": lambda: peer(implementation_name="é" * 64 + "x"),
    "name with a control character": lambda: peer(implementation_name="peer-said\x1b[2J"),
    "version blank": lambda: peer(implementation_version=" "),
    "version of 129 bytes": lambda: peer(implementation_version="9" * 129),
    "version with a control character": lambda: peer(implementation_version="peer-said\x85"),
    "129 supported": lambda: peer(supported_capabilities=names(129)),
    "129 required": lambda: peer(required_capabilities=names(129)),
    "other prefix": lambda: peer(supported_capabilities=[CONTRACT, "peer-said.a.b"]),
    "two segments": lambda: peer(supported_capabilities=[CONTRACT, "openshell.peer-said"]),
    "empty segment": lambda: peer(supported_capabilities=[CONTRACT, "openshell..peer-said"]),
    "capitals": lambda: peer(supported_capabilities=[CONTRACT, "openshell.x.Peer-said"]),
    "line break": lambda: peer(supported_capabilities=[CONTRACT, CANARY + "\n"]),
    "capability of 129 bytes": lambda: peer(
        supported_capabilities=[CONTRACT, "openshell.x." + "y" * 117]
    ),
    "malformed required": lambda: peer(required_capabilities=[CONTRACT, "peer-said"]),
    "supported twice": lambda: peer(supported_capabilities=[CONTRACT, CANARY, CANARY]),
    "required twice": lambda: peer(required_capabilities=[CONTRACT, CONTRACT]),
    "contract not supported": lambda: peer(supported_capabilities=["openshell.compute.contract"]),
    "nothing supported": lambda: peer(supported_capabilities=[]),
    "more required than there is": lambda: peer(required_capabilities=[CONTRACT, CANARY]),
    "no version": lambda: peer(protocol_version=None),
}

SERVED: dict[str, Callable[[], PeerMetadata | None]] = {
    "no metadata": lambda: None,
    "as 0.1.2 sends it": peer,
    "minor 7": lambda: peer(protocol_version=ProtocolVersion(major=1, minor=7)),
    "a capability more": lambda: peer(supported_capabilities=[CONTRACT, CANARY]),
    "128 supported": lambda: peer(supported_capabilities=names(128)),
    "capability of 128 bytes": lambda: peer(
        supported_capabilities=[CONTRACT, "openshell.x." + "y" * 116]
    ),
    "nothing required": lambda: peer(required_capabilities=[]),
    "name of 128 bytes": lambda: peer(implementation_name="é" * 64),
    "unknown fields": lambda: PeerMetadata.FromString(
        peer().SerializeToString() + b"\xf8\x06\x01" + b"\x82\x07\x03new"
    ),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_a_gateway_that_breaks_a_rule_is_refused_without_an_echo(
    gateway: Gateway, case: str
) -> None:
    code, message = await refusal(gateway.capabilities(REFUSED[case]()))

    assert code == "FAILED_PRECONDITION"
    assert message.startswith("gateway metadata refused: ")
    assert "eer-said" not in message
    assert message.isprintable()


@pytest.mark.parametrize("case", SERVED)
async def test_a_gateway_that_keeps_the_rules_is_served(gateway: Gateway, case: str) -> None:
    answer = await gateway.capabilities(SERVED[case]())

    assert answer.driver_name == "vault"


async def test_a_refused_gateway_is_served_when_it_mends_its_ways(gateway: Gateway) -> None:
    await refusal(gateway.capabilities(REFUSED["major 2"]()))

    assert (await gateway.capabilities(peer())).driver_name == "vault"


async def test_a_strict_driver_refuses_a_gateway_without_metadata(
    vault: Vault, socket_path: Path
) -> None:
    strict = ServerOptions(require_handshake=True)
    async with running(vault, socket=socket_path, options=strict), dial(socket_path) as gateway:
        missing = await refusal(gateway.capabilities(None))
        empty = await refusal(gateway.capabilities(PeerMetadata()))
        answer = await gateway.capabilities(peer())

    assert missing == ("FAILED_PRECONDITION", "gateway metadata refused: it is missing")
    assert empty[0] == "FAILED_PRECONDITION"
    assert answer.driver_name == "vault"


async def test_the_answer_says_what_the_class_implements(gateway: Gateway) -> None:
    answer = await gateway.capabilities(peer())

    assert (answer.driver_name, answer.driver_version) == ("vault", "1.2.3")
    assert (answer.backend_kind, answer.supports_list, answer.supports_expires_at) == (
        "memory",
        True,
        True,
    )
    assert answer.extension.implementation_version == answer.driver_version
    assert answer.extension.implementation_name == "openshell-drivers/vault"
    assert list(answer.extension.supported_capabilities) == [CONTRACT]
    assert list(answer.extension.required_capabilities) == [CONTRACT]
    assert (answer.extension.protocol_version.major, answer.extension.protocol_version.minor) == (
        1,
        0,
    )


@pytest.mark.parametrize("family", ["credentials", "compute"])
@pytest.mark.parametrize("name", ["vault", "v" * 63])
@pytest.mark.parametrize("version", ["1.2.3", "9" * 200, "ü" * 100])
def test_what_the_driver_says_of_itself_keeps_the_rules_it_judges_by(
    family: str, name: str, version: str
) -> None:
    extension.judge(extension.metadata(family, name, version), family)


async def test_the_answer_is_the_same_bytes_every_time(vault: Vault, socket_path: Path) -> None:
    answers: set[bytes] = set()
    request = wire.GetCredentialDriverCapabilitiesRequest(gateway=peer()).SerializeToString()

    async def ask(gateway: Gateway, times: int) -> None:
        call = gateway.raw(STORE + "GetCapabilities")
        for _ in range(times):
            answers.add(await call(request, timeout=30))

    for _ in range(2):  # across a restart
        async with running(Vault(), socket=socket_path), dial(socket_path) as gateway:
            await ask(gateway, 1000)
            async with anyio.create_task_group() as tasks:
                for _ in range(50):
                    tasks.start_soon(ask, gateway, 1)

    assert len(answers) == 1


async def test_metadata_or_none_gives_the_same_bytes(gateway: Gateway) -> None:
    with_metadata = await gateway.capabilities(peer())
    without = await gateway.capabilities(None)

    assert with_metadata.SerializeToString() == without.SerializeToString()


async def test_capabilities_do_not_need_the_backend(gateway: Gateway, vault: Vault) -> None:
    vault.pause = 3600

    with anyio.fail_after(5):
        await gateway.capabilities(peer())
