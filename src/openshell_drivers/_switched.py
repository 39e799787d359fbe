"""`switched`: a driver's class whose every way to its backend leads over the test switch."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import anyio

from openshell_drivers._testswitch import Switch, turn_on
from openshell_drivers.driver import Driver
from openshell_drivers.feed import SandboxFeed

#: What of a driver goes to its backend. Validation does not, by its contract.
_REACHING: Final = (
    *("create_sandbox", "delete_sandbox", "list_sandboxes", "get_sandbox"),
    *("stop_sandbox", "start_sandbox", "ensure_workspace", "delete_workspace"),
    *("authenticate_sandbox", "list_stored_credentials"),
    *("store_credential", "resolve_stored_credential", "delete_credential"),
)
_LOOK_EVERY: Final = 0.02

DriverT = TypeVar("DriverT", bound=Driver[Any])


def switched(driver: type[DriverT], path: Path) -> type[DriverT]:
    """Give a class that is the driver in everything, and obeys the switch."""
    switch = turn_on(path)
    body: dict[str, Any] = {"__module__": driver.__module__, "__qualname__": driver.__qualname__}
    for name in _REACHING:
        if _implemented(driver, name):
            body[name] = _reaching(getattr(driver, name), switch)
    if _implemented(driver, "resolve_credential"):
        body["resolve_credential"] = _resolving(driver.resolve_credential, switch)  # type: ignore[attr-defined]
    if hasattr(driver, "observe"):
        body["observe"] = _observing(getattr(driver, "observe"), switch)  # noqa: B009  # not of all
    return type(driver.__name__, (driver,), body)


def _implemented(driver: type, name: str) -> bool:
    """Whether an author wrote it: what a driver does not override is not there for a gateway."""
    owner = next((kind for kind in driver.__mro__ if name in vars(kind)), None)
    return owner is not None and owner.__module__ not in {
        "openshell_drivers.compute",
        "openshell_drivers.credentials",
        "openshell_drivers.credential_store",
    }


def _reaching(method: Callable[..., Awaitable[Any]], switch: Switch) -> Callable[..., Any]:
    @functools.wraps(method)
    async def reach(self: Any, *args: Any, **kwargs: Any) -> Any:
        await switch.reach()
        return await method(self, *args, **kwargs)

    return reach


def _resolving(method: Callable[..., Awaitable[Any]], switch: Switch) -> Callable[..., Any]:
    @functools.wraps(method)
    async def resolve(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not switch.behind_cache:  # the cache's own fetch reaches out instead
            await switch.reach()
        return await method(self, *args, **kwargs)

    return resolve


def _observing(method: Callable[..., Awaitable[None]], switch: Switch) -> Callable[..., Any]:
    @functools.wraps(method)
    async def observe(self: Any, feed: SandboxFeed) -> None:
        while True:
            await _until(switch, out=False)
            if await _observe(method, self, feed, switch):
                return

    return observe


async def _until(switch: Switch, *, out: bool) -> None:
    while switch.out is not out:  # noqa: ASYNC110  # a file has no event
        await anyio.sleep(_LOOK_EVERY)


async def _observe(
    method: Callable[..., Awaitable[None]], driver: Any, feed: SandboxFeed, switch: Switch
) -> bool:
    """Observe until the next outage, or until the author's code ends: then give True."""
    failure: Exception | None = None
    ended = False
    async with anyio.create_task_group() as tasks:

        async def end() -> None:
            await _until(switch, out=True)
            feed.blind("the test switch says so")
            tasks.cancel_scope.cancel()

        tasks.start_soon(end)
        try:
            await method(driver, feed)
        except Exception as error:  # noqa: BLE001  # goes on as it is, not in a group
            failure = error
        ended = True
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return ended
