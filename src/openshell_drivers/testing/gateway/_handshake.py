"""What a gateway asks of a driver before it starts: the handshake and the listeners.

Independent of the driver's half in the codec, so that a mistake there does not hide here.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import Final

from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers._wire.extension_pb2 import PeerMetadata, ProtocolVersion
from openshell_drivers.testing.gateway._errors import GatewayRefused
from openshell_drivers.testing.gateway._preset import Preset

LAUNCH: Final = "openshell.compute.launch-authentication"
_LONGEST: Final = 128
_MOST: Final = 128
_SEGMENT: Final = re.compile(r"[a-z0-9-]+", re.ASCII)


def metadata(preset: Preset, family: str) -> PeerMetadata | None:
    """Say who the gateway is; None for a line that does not."""
    offered = preset.offers(family)
    if not offered:
        return None
    return PeerMetadata(
        protocol_version=ProtocolVersion(major=1, minor=0),
        implementation_name="openshell/gateway",
        implementation_version=preset.release,
        supported_capabilities=offered,
        required_capabilities=[f"openshell.{family}.contract"],
    )


def judge_extension(peer: PeerMetadata | None, preset: Preset, family: str) -> None:
    """Refuse a driver by the first of the nine rules that it breaks (COMP01-NEG, CREDU01-NEG)."""
    if peer is None:
        raise GatewayRefused("extension is missing")
    if not peer.HasField("protocol_version"):
        raise GatewayRefused("protocol_version is missing")
    if peer.protocol_version.major != 1:
        raise GatewayRefused("protocol major version is not 1")
    for field in ("implementation_name", "implementation_version"):
        _judge_text(field, getattr(peer, field))
    for judge in (_judge_length, _judge_names, _judge_unique):
        judge("supported_capabilities", peer.supported_capabilities)
        judge("required_capabilities", peer.required_capabilities)
    if f"openshell.{family}.contract" not in peer.supported_capabilities:
        raise GatewayRefused(f"supported_capabilities lacks openshell.{family}.contract")
    if not set(preset.offers(family)).issuperset(peer.required_capabilities):
        raise GatewayRefused("required_capabilities names what this gateway does not offer")


def _judge_text(field: str, text: str) -> None:
    if not text.strip():
        raise GatewayRefused(f"{field} is blank")
    if len(text.encode()) > _LONGEST:
        raise GatewayRefused(f"{field} is longer than {_LONGEST} bytes")
    if any(ord(c) < 0x20 or 0x7F <= ord(c) <= 0x9F for c in text):
        raise GatewayRefused(f"{field} has a control character")


def _judge_length(field: str, names: Sequence[str]) -> None:
    if len(names) > _MOST:
        raise GatewayRefused(f"{field} has more than {_MOST} entries")


def _judge_names(field: str, names: Sequence[str]) -> None:
    if not all(map(_well_formed, names)):
        raise GatewayRefused(f"{field} has a malformed entry")


def _judge_unique(field: str, names: Sequence[str]) -> None:
    if len(set(names)) != len(names):
        raise GatewayRefused(f"{field} has a duplicate")


def _well_formed(name: str) -> bool:
    parts = name.split(".")
    return (
        len(name.encode()) <= _LONGEST
        and parts[0] == "openshell"
        and len(parts) >= 3
        and all(_SEGMENT.fullmatch(part) for part in parts)
    )


def judge_listeners(
    requirements: Sequence[wire.GatewayListenerRequirement], port: int
) -> tuple[str, ...]:
    """Read where the gateway has to listen as well, or refuse (COMP-LSN-02).

    `port` is that of the gateway's own listener.
    """
    return tuple(_listener(each, port) for each in requirements)


def _listener(requirement: wire.GatewayListenerRequirement, port: int) -> str:
    match requirement.WhichOneof("selector"):
        case None:
            raise GatewayRefused("a listener requirement has no selector")
        case "exact_bind_address":
            return _address(requirement.exact_bind_address, port)
        case selector:
            return selector


def _address(text: str, port: int) -> str:
    host, colon, number = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        address = ipaddress.ip_address(host[1:-1] if bracketed else host)
    except ValueError:
        raise GatewayRefused("a listener address is not IP:port") from None
    if not colon or not re.fullmatch(r"[0-9]{1,5}", number) or bracketed != (address.version == 6):
        raise GatewayRefused("a listener address is not IP:port")
    if address.is_unspecified or address.is_multicast:
        raise GatewayRefused("a listener address is not a concrete unicast one")
    if int(number) != port:
        raise GatewayRefused("a listener address has another port than the gateway")
    return text
