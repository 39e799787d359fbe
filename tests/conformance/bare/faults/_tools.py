"""What faults are written with: `fault`, `variant`, `override`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from tests.conformance.bare.driver import Driver

Change = Callable[[Driver], None]
AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])


@dataclass(frozen=True)
class Fault:
    """A change that can be applied by name."""

    name: str
    change: Change
    kills: tuple[str, ...]
    """The checks, or all of a clause, that must fail; none for a variant and the null fault."""
    also: tuple[str, ...] = ()
    """Those that may fail as well, since it truly breaks them too."""

    @property
    def text(self) -> str:
        """What it does, in one line."""
        return (self.change.__doc__ or "").strip().split("\n")[0]


FOUND: Final[dict[str, Fault]] = {}


def fault(
    name: str, *, kills: Sequence[str], also: Sequence[str] = ()
) -> Callable[[Change], Change]:
    """Register a change that these checks, or those of these clauses, must find."""

    def register(change: Change) -> Change:
        if name in FOUND:
            raise ValueError(f"two faults are called {name!r}")
        FOUND[name] = Fault(name, change, tuple(kills), tuple(also))
        return change

    return register


def variant(name: str) -> Callable[[Change], Change]:
    """Register a change that breaks nothing."""
    return fault(name, kills=())


def override(target: object, name: str) -> Callable[[AnyFunction], AnyFunction]:
    """Replace a method of one object; the replacement is called with the original first."""
    original = getattr(target, name)

    def replace(replacement: AnyFunction) -> AnyFunction:
        setattr(target, name, functools.partial(replacement, original))
        return replacement

    return replace
