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
    """The clauses that it breaks; a variant, and the null fault, break none."""

    @property
    def text(self) -> str:
        """What it does, in one line."""
        return (self.change.__doc__ or "").strip().split("\n")[0]


FOUND: Final[dict[str, Fault]] = {}


def fault(name: str, *, kills: Sequence[str]) -> Callable[[Change], Change]:
    """Register a change that breaks these clauses."""

    def register(change: Change) -> Change:
        if name in FOUND:
            raise ValueError(f"two faults are called {name!r}")
        FOUND[name] = Fault(name, change, tuple(kills))
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
