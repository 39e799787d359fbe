"""What each gateway line has of the contract, read from ``proto/revisions.toml``.

For what imitates a gateway: it sends a revision only what that revision has. Knows nothing of
protobuf; the number of a field finds it in the superset messages of `_wire`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final

_FIELD: Final = re.compile(r"(\d+) (\w+) (.+?)(?: oneof (\w+))?")
_RPC: Final = re.compile(r"(\w+)(?:\((\w+)\) returns \((stream )?(\w+)\))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field as the revision publishes it."""

    number: int
    name: str
    type: str
    """As it stands in a proto: ``repeated string``, ``map<string, string>``, ``DriverSandbox``."""
    oneof: str = ""
    """The group of which at most one is set; empty outside of any."""

    @property
    def message(self) -> str:
        """The message it holds, or the scalar, without what says how many."""
        return self.type.rpartition(" ")[2] if not self.type.startswith("map<") else self.type


@dataclass(frozen=True, slots=True, kw_only=True)
class Rpc:
    """One method of a service."""

    name: str
    request: str
    response: str
    stream: bool
    """Whether it answers with a stream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """One proto file of a revision; its key is the name of the module in `_wire`."""

    package: str
    service: str
    """The service's name within the package; empty if there is none."""
    rpcs: Mapping[str, Rpc]
    messages: Mapping[str, Mapping[int, Field]]
    """By message name, then by field number. Only what an RPC of the revision leads to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """One gateway line at one moment."""

    name: str
    mark: str
    """``F``, ``U`` or ``N``, as in the comments of the protos."""
    handshake: Mapping[str, tuple[str, ...]]
    """What its gateway says it supports, by family; empty if it sends no metadata."""
    contracts: Mapping[str, Contract]


@cache
def revisions() -> Mapping[str, Revision]:
    """Give every known revision, oldest first."""
    text = resources.files("openshell_drivers._wire").joinpath("revisions.toml").read_text("utf-8")
    raw: dict[str, Any] = tomllib.loads(text)
    return {
        name: Revision(
            name=name,
            mark=table["mark"],
            handshake={k: tuple(v) for k, v in table.get("handshake", {}).items()},
            contracts=_reachable({key: _contract(raw, name, key) for key in _keys(raw, name)}),
        )
        for name, table in raw.items()
    }


def _keys(raw: Mapping[str, Any], revision: str) -> Sequence[str]:
    return list(raw[raw[revision].get("like", revision)]["contract"])


def _contract(raw: Mapping[str, Any], revision: str, key: str) -> Contract:
    table = raw[raw[revision].get("like", revision)]["contract"][key]
    base = _contract(raw, table["like"], key) if "like" in table else None
    rpcs = {rpc.name: rpc for rpc in map(_rpc, table.get("rpcs", ()))}
    messages = {
        name: {field.number: field for field in map(_field, fields)}
        for name, fields in table.get("messages", {}).items()
    }
    if base is None:
        return Contract(
            package=table["package"],
            service=table.get("service", ""),
            rpcs=rpcs,
            messages=messages,
        )
    return Contract(
        package=base.package,
        service=base.service,
        rpcs=rpcs or base.rpcs,
        messages={**base.messages, **messages},
    )


def _field(text: str) -> Field:
    match = _FIELD.fullmatch(text)
    if match is None:
        raise ValueError(f"not a field: {text!r}")
    number, name, kind, oneof = match.groups()
    return Field(number=int(number), name=name, type=kind, oneof=oneof or "")


def _rpc(text: str) -> Rpc:
    match = _RPC.fullmatch(text)
    if match is None:
        raise ValueError(f"not an RPC: {text!r}")
    name, request, stream, response = match.groups()
    return Rpc(
        name=name,
        request=request or f"{name}Request",
        response=response or f"{name}Response",
        stream=bool(stream),
    )


def _reachable(contracts: Mapping[str, Contract]) -> dict[str, Contract]:
    """Drop every message that no RPC leads to."""
    known = {
        f"{contract.package}.{name}": fields
        for contract in contracts.values()
        for name, fields in contract.messages.items()
    }
    seen: set[str] = set()
    pending = [
        f"{contract.package}.{name}"
        for contract in contracts.values()
        for rpc in contract.rpcs.values()
        for name in (rpc.request, rpc.response)
    ]
    while pending:
        name = pending.pop()
        if name not in seen:
            seen.add(name)
            pending.extend(_held(name, known))
    return {
        key: Contract(
            package=contract.package,
            service=contract.service,
            rpcs=contract.rpcs,
            messages={n: f for n, f in contract.messages.items() if _full(contract, n) in seen},
        )
        for key, contract in contracts.items()
    }


def _full(contract: Contract, message: str) -> str:
    return f"{contract.package}.{message}"


def _held(name: str, known: Mapping[str, Mapping[int, Field]]) -> Iterator[str]:
    package = name.rpartition(".")[0]
    for field in known[name].values():
        for candidate in (field.message, f"{package}.{field.message}"):
            if candidate in known:
                yield candidate
