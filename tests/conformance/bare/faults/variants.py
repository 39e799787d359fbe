"""Legal but odd: no check may object to any of these."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from typing import Any

from tests.conformance.bare.driver import Driver
from tests.conformance.bare.errors import Unavailable, Unimplemented
from tests.conformance.bare.faults._tools import override, variant
from tests.conformance.bare.hub import SANDBOX, Note
from tests.conformance.bare.resources import RUNNING, STARTING

_LONG = " (a long explanation follows, as some platforms like to give it)" * 48


@variant("null")
def _(_driver: Driver) -> None:
    """Nothing is changed."""


@variant("lagging-list")
def _(driver: Driver) -> None:
    """List calls a sandbox Starting for two seconds after Get calls it Ready."""

    @override(driver.compute, "listed")
    def _(original: Any, resource: Any) -> Any:
        late = resource.state == RUNNING and time.time() - resource.since < 2
        return original(dataclasses.replace(resource, state=STARTING) if late else resource)


@variant("coalesce")
def _(driver: Driver) -> None:
    """Watches are told every 200 ms of what there is then; states in between are not seen."""

    @override(driver.hub, "new_watcher")
    def _(original: Any) -> Any:
        watcher = original()

        @override(watcher, "rest")
        async def _(rest: Any) -> None:
            await rest()
            await asyncio.sleep(0.2)

        return watcher


@variant("unavailable-every-2s")
def _(driver: Driver) -> None:
    """A watch ends with UNAVAILABLE after two seconds; the next has everything."""

    @override(driver.compute, "greet")
    async def _(original: Any, watcher: Any) -> None:
        await original(watcher)
        error = Unavailable("the platform's stream has ended")
        asyncio.get_running_loop().call_later(2.0, watcher.end, error)


@variant("reverse-batches")
def _(driver: Driver) -> None:
    """A batch is answered from its end."""

    @override(driver.store, "ordered")
    def _(_original: Any, answers: list[Any]) -> list[Any]:
        return answers[::-1]


@variant("foreign-sandboxes")
def _(driver: Driver) -> None:
    """Three sandboxes of somebody else's session are there from the beginning."""
    for number in range(3):
        driver.platform.resources.create(
            f"somebody-s-{number}", f"elsewhere-{number}", "another", "bare/default", {}
        )


@variant("300ms")
def _(driver: Driver) -> None:
    """Every call takes 300 ms longer."""

    @override(driver.calls, "before")
    async def _(original: Any, rpc: str, request: Any) -> None:
        await asyncio.sleep(0.3)
        await original(rpc, request)


@variant("unknown-future-fields")
def _(driver: Driver) -> None:
    """Every answer has fields of a later revision, and the driver a capability more."""
    driver.compute.handshake.supported.append("openshell.compute.of-the-future")
    driver.store.handshake.supported.append("openshell.credentials.of-the-future")

    @override(driver.calls, "encode")
    def _(original: Any, rpc: str, answer: Any) -> bytes:
        number_1000_varint, number_1001_text = b"\xc0\x3e\x07", b"\xca\x3e\x06future"
        data: bytes = original(rpc, answer)
        return data + number_1000_varint + number_1001_text


@variant("optional-rpcs-missing")
def _(driver: Driver) -> None:
    """What may be UNIMPLEMENTED is, and nothing claims otherwise."""

    async def missing(_request: Any) -> Any:
        raise Unimplemented("this method is not offered")

    compute: Any = driver.compute
    compute.get_gateway_listener_requirements = missing
    compute.ensure_workspace = missing
    compute.delete_workspace = missing
    compute.authenticate_sandbox = missing
    driver.compute.authenticates = False
    driver.store.supports_list = False


@variant("upper-case-ids")
def _(driver: Driver) -> None:
    """The driver's own ids, of runs and of durable objects, are in capitals."""

    @override(driver.snapshots, "instance_id")
    def _(original: Any, resource: Any) -> str:
        return str(original(resource)).upper()

    @override(driver.snapshots, "runtime_identity")
    def _(original: Any, resource: Any) -> str:
        return str(original(resource)).upper()


@variant("no-spec")
def _(driver: Driver) -> None:
    """Snapshots hold no more than they must: id, name, status."""

    @override(driver.snapshots, "of")
    def _(original: Any, resource: Any) -> Any:
        made = original(resource)
        made.ClearField("workspace")
        made.ClearField("spec")
        return made


@variant("resend-snapshot")
def _(driver: Driver) -> None:
    """A new watch is told of everything twice."""

    @override(driver.compute, "greet")
    async def _(original: Any, watcher: Any) -> None:
        await original(watcher)
        for sandbox_id in sorted(driver.observer.view):
            watcher.add(Note(SANDBOX, sandbox_id, 1))


@variant("long-errors")
def _(driver: Driver) -> None:
    """Messages of errors have about 3000 characters."""

    @override(driver.calls, "bounded")
    def _(original: Any, message: str) -> str:
        return str(original(message)) + _LONG[:3000]
