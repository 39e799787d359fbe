"""`check`: how a function becomes a check of the suite, and the register of all checks."""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal, TypeAlias

from openshell_drivers.conformance._clauses import clause_of

Profile = Literal["core", "lifecycle", "resilience", "security", "performance"]
ServiceName = Literal["compute", "credentials", "credential-store"]
Function: TypeAlias = Callable[[Any], Awaitable[None]]

PROFILES: Final = ("core", "lifecycle", "resilience", "security", "performance")
SERVICES: Final = ("compute", "credentials", "credential-store")

#: What a check may need beyond a socket, and what to supply where it is missing.
NEEDS: Final[Mapping[str, str]] = {
    "spawned": "a driver that the suite starts itself: give a name or cmd:, not unix:",
    "outage": "the backend verbs outage_begin and outage_end",
    "slow": "the backend verbs slow and fast",
    "remove": "the backend verb remove, which removes a sandbox behind the driver's back",
    "resources": "the backend verb list_resources, which names what exists at the platform",
    "foreign": "the backend verb foreign, which makes something that is not the driver's",
    "workload": "the backend verb workload, which tells what a sandbox's software was given",
    "credential": "the backend verb credential, which gives a sandbox's own credential",
    "exit_main": "the backend verb exit_main, which ends a sandbox's main process",
    "unpullable": "compute.unpullable, a template whose provisioning fails after its create",
    "refused": "compute.refused, a template that validate or create refuses",
    "lengthy": "compute.lengthy, a template that is long in provisioning (2 s and more)",
    "known": "credentials.known, names that the driver can resolve",
    "expiring": "credentials.expiring, a name whose tokens live for seconds only",
}

_MODULES: Final = (
    "sidecar",
    "sockets",
    "process",
    "concurrency",
    "transport",
    "capabilities",
    "negotiation",
    "admission",
    "validation",
    "inputs",
    "workload",
    "identity",
    "hints",
    "authentication",
    "creation",
    "creation_failures",
    "observation",
    "listing",
    "watch",
    "watch_removals",
    "watch_order",
    "watch_loads",
    "watch_leavers",
    "sizes",
    "status",
    "transitions",
    "times",
    "stopping",
    "starting",
    "deletion",
    "removal",
    "workspaces",
    "launch",
    "outage",
    "outage_changes",
    "survival",
    "second_instance",
    "phases",
    "credentials",
    "credentials_fetches",
    "credentials_listing",
    "store",
    "store_handles",
    "store_batches",
    "store_faults",
    "secrecy",
    "secrecy_kinds",
    "growth",
    "performance",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that is looked at, of one clause, for one service."""

    id: str
    title: str
    service: ServiceName
    services: tuple[ServiceName, ...]
    """Of those that the driver serves it looks at the first one of these; `service` is that one."""
    profile: Profile
    run: Function
    needs: tuple[str, ...]
    own: bool
    """Whether it wants a driver process of its own, to kill or to starve."""
    once: bool
    """Whether the gateway's line makes no difference: run under one preset, valid for all."""
    presets: tuple[str, ...]
    """The only presets under which it means something; empty: those of its clause."""
    last: bool
    """Whether it looks at what all others have left, and so comes after them."""
    limit: float
    """Seconds after which it is given up."""
    revision: int

    @property
    def clause(self) -> str:
        """The clause it holds."""
        return clause_of(self.id)


_register: dict[str, Check] = {}


def check(  # noqa: PLR0913  # a declaration, by keywords
    id: str,  # noqa: A002  # the field's word
    title: str,
    *,
    service: ServiceName = "compute",
    services: tuple[ServiceName, ...] = (),
    profile: Profile = "core",
    needs: tuple[str, ...] = (),
    own: bool = False,
    once: bool = False,
    presets: tuple[str, ...] = (),
    last: bool = False,
    limit: float = 120.0,
    revision: int = 1,
) -> Callable[[Function], Function]:
    """Make a coroutine function a check. It gets the bench of its service.

    `title` is the rule, as a sentence that is true of a conforming driver: "an unknown id is
    NOT_FOUND". What is true of every driver has `services`. `own` includes the need for a spawned
    driver. What needs an outage or a slow platform gets a driver of its own too, where the suite
    can spawn one.
    """
    unknown = set(needs) - set(NEEDS)
    if unknown:
        raise ValueError(f"{id}: unknown needs {sorted(unknown)}")

    def register(function: Function) -> Function:
        if id in _register:
            raise ValueError(f"two checks are called {id}")
        _register[id] = Check(
            id=id,
            title=title,
            service=services[0] if services else service,
            services=services or (service,),
            profile=profile,
            run=function,
            needs=("spawned", *needs) if own and "spawned" not in needs else needs,
            own=own,
            once=once,
            presets=presets,
            last=last,
            limit=limit,
            revision=revision,
        )
        return function

    return register


@cache
def checks() -> Mapping[str, Check]:
    """All checks, by id, in their modules' order."""
    for name in _MODULES:
        importlib.import_module(f"openshell_drivers.conformance.checks.{name}")
    return dict(_register)
