"""Create: what is there after it, after a second one, and after one that fails."""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
import time
from typing import Any

from tests.conformance.bare.driver import Driver
from tests.conformance.bare.errors import (
    AlreadyExists,
    FailedPrecondition,
    NotFound,
    Refusal,
    Unavailable,
)
from tests.conformance.bare.faults._tools import fault, override
from tests.conformance.bare.resources import FAILED, REFUSED, SLOW, STARTING


class Exhausted(Refusal):
    code = "RESOURCE_EXHAUSTED"


def leave(driver: Driver) -> None:
    """Leave something at the platform that the driver does not know."""
    driver.platform.resources.create_foreign(f"left-{secrets.token_hex(4)}")


@fault("new-sandboxes-are-not-found", kills=("COMP-CREATE-01.a",), also=("COMP-CREATE-03.b",))
def _(driver: Driver) -> None:
    """Get knows a sandbox only half a second after its create."""
    made: dict[str, float] = {}

    @override(driver.compute, "make")
    async def _(original: Any, sandbox: Any) -> Any:
        made[sandbox.id] = time.monotonic()
        return await original(sandbox)

    @override(driver.compute, "get_sandbox")
    async def _(original: Any, request: Any) -> Any:
        if time.monotonic() - made.get(request.sandbox_id, 0) < 0.5:
            raise NotFound("there is no sandbox with this id")
        return await original(request)


@fault(
    "new-sandboxes-are-not-listed",
    kills=("COMP-CREATE-01.b",),
    also=("COMP-LIST-01", "COMP-GET-07"),
)
def _(driver: Driver) -> None:
    """The list is an hour behind."""
    made: set[str] = set()

    @override(driver.compute, "make")
    async def _(original: Any, sandbox: Any) -> Any:
        made.add(sandbox.id)
        return await original(sandbox)

    @override(driver.compute, "list_sandboxes")
    async def _(original: Any, request: Any) -> Any:
        answer = await original(request)
        kept = [each for each in answer.sandboxes if each.id not in made]
        return driver.compute.messages.ListSandboxesResponse(sandboxes=kept)


@fault("new-sandboxes-are-not-told", kills=("COMP-CREATE-01.c",), also=("COMP-GET-07",))
def _(driver: Driver) -> None:
    """Open watches hear of a sandbox eight seconds late."""

    @override(driver.hub, "sandbox")
    def _(original: Any, sandbox_id: str) -> None:
        asyncio.get_running_loop().call_later(8, original, sandbox_id)


@fault(
    "refused-create-leaves-a-sandbox",
    kills=("COMP-CREATE-02.a", "COMP-CREATE-02.d"),
    also=("COMP-WATCH-06.b",),
)
def _(driver: Driver) -> None:
    """What the platform refuses has been made by then."""

    @override(driver.compute, "make")
    async def _(original: Any, sandbox: Any) -> Any:
        image = sandbox.spec.template.image
        if image != REFUSED:
            return await original(sandbox)
        sandbox.spec.template.image = "bare/default"
        made = await original(sandbox)
        driver.platform.admit(dataclasses.replace(made, image=image))
        return made


@fault("refused-create-leaves-a-resource", kills=("COMP-CREATE-02.d",))
def _(driver: Driver) -> None:
    """What was made for a sandbox before the platform refused it stays."""

    @override(driver.compute, "make")
    async def _(original: Any, sandbox: Any) -> Any:
        try:
            return await original(sandbox)
        except FailedPrecondition:
            leave(driver)
            raise


@fault("malformed-create-leaves-a-sandbox", kills=("COMP-CREATE-02.b",))
def _(driver: Driver) -> None:
    """A sandbox is recorded before it is looked at."""

    @override(driver.compute, "create_sandbox")
    async def _(original: Any, request: Any) -> Any:
        try:
            return await original(request)
        except Refusal:
            sandbox = request.sandbox
            if sandbox.id and sandbox.spec.template.image != REFUSED:
                driver.platform.create(sandbox.id, sandbox.name, sandbox.workspace, "bare", {})
                driver.observer.apply()
            raise


@fault("outage-create-leaves-a-sandbox", kills=("COMP-CREATE-02.c",))
def _(driver: Driver) -> None:
    """A create that runs into an outage is done later, though it was refused."""

    @override(driver.compute, "make")
    async def _(original: Any, sandbox: Any) -> Any:
        try:
            return await original(sandbox)
        except Unavailable:
            driver.platform.create(sandbox.id, sandbox.name, sandbox.workspace, "bare", {})
            raise


@fault("second-create-is-internal", kills=("COMP-CREATE-03.a", "COMP-CREATE-03.c"))
def _(driver: Driver) -> None:
    """A second create of an id is an internal error."""

    @override(driver.compute, "make")
    async def _(original: Any, sandbox: Any) -> Any:
        try:
            return await original(sandbox)
        except AlreadyExists as error:
            raise Refusal(error.message) from None


@fault("second-create-replaces", kills=("COMP-CREATE-03.b",), also=("COMP-CREATE-03.a",))
def _(driver: Driver) -> None:
    """A second create of an id takes the place of the first."""

    @override(driver.compute, "make")
    async def _(original: Any, sandbox: Any) -> Any:
        if driver.compute.find(sandbox.id) is not None:
            driver.platform.resources.remove(sandbox.id)
        return await original(sandbox)


@fault("second-create-renames", kills=("COMP-CREATE-03.b",))
def _(driver: Driver) -> None:
    """A second create of an id gives the first sandbox its name."""

    @override(driver.compute, "make")
    async def _(original: Any, sandbox: Any) -> Any:
        change = "UPDATE resources SET name = ? WHERE id = ?"
        driver.ledger.execute(change, sandbox.name, sandbox.id)
        return await original(sandbox)


@fault("creates-race", kills=("COMP-CREATE-03.c",))
def _(driver: Driver) -> None:
    """Two creates of an id at once do not see each other."""

    @override(driver.compute, "create_sandbox")
    async def _(_original: Any, request: Any) -> Any:
        sandbox = driver.compute.judge.judge(request)
        if driver.compute.find(sandbox.id) is not None:
            raise AlreadyExists("there is a sandbox with this id")
        await asyncio.sleep(0.01)
        if driver.compute.find(sandbox.id) is not None:
            raise RuntimeError("the platform has it already")
        made = await driver.compute.make(sandbox)
        identity = driver.snapshots.runtime_identity(made)
        return driver.compute.messages.CreateSandboxResponse(runtime_identity=identity)


@fault("second-create-makes-a-second-resource", kills=("COMP-CREATE-03.d",))
def _(driver: Driver) -> None:
    """What a second create of an id has made stays, though it is refused."""

    @override(driver.compute, "make")
    async def _(original: Any, sandbox: Any) -> Any:
        try:
            return await original(sandbox)
        except AlreadyExists:
            leave(driver)
            raise


@fault("taken-name-is-internal", kills=("COMP-CREATE-04.a",))
def _(driver: Driver) -> None:
    """A name that is taken is an internal error."""

    @override(driver.compute, "make")
    async def _(original: Any, sandbox: Any) -> Any:
        for each in driver.platform.resources.all():
            same = (each.name, each.workspace) == (sandbox.name, sandbox.workspace)
            if same and each.id != sandbox.id:
                raise Refusal("the name is taken")
        return await original(sandbox)


@fault("taken-name-is-taken-over", kills=("COMP-CREATE-04.b",))
def _(driver: Driver) -> None:
    """A second sandbox of a name takes over the first one's object."""

    @override(driver.compute, "make")
    async def _(original: Any, sandbox: Any) -> Any:
        for each in driver.platform.resources.all():
            same = (each.name, each.workspace) == (sandbox.name, sandbox.workspace)
            if same and each.id != sandbox.id:
                driver.platform.resources.remove(each.id)
        return await original(sandbox)


@fault("create-nothing-is-internal", kills=("COMP-CREATE-05.a",))
def _(driver: Driver) -> None:
    """A create of no sandbox is an internal error."""

    @override(driver.compute, "create_sandbox")
    async def _(original: Any, request: Any) -> Any:
        if not request.HasField("sandbox"):
            raise RuntimeError("no sandbox")
        return await original(request)


@fault("empty-id-is-made-up", kills=("COMP-CREATE-05.b",))
def _(driver: Driver) -> None:
    """A sandbox without an id gets one of the driver's."""

    @override(driver.compute, "create_sandbox")
    async def _(original: Any, request: Any) -> Any:
        if request.HasField("sandbox"):
            request.sandbox.id = request.sandbox.id or secrets.token_hex(8)
        return await original(request)


@fault("empty-name-is-made-up", kills=("COMP-CREATE-05.c",))
def _(driver: Driver) -> None:
    """A sandbox without a name gets one of the driver's."""

    @override(driver.compute, "create_sandbox")
    async def _(original: Any, request: Any) -> Any:
        if request.HasField("sandbox"):
            request.sandbox.name = request.sandbox.name or secrets.token_hex(8)
        return await original(request)


@fault("any-id-will-do", kills=("COMP-CREATE-05.d",))
def _(driver: Driver) -> None:
    """Ids are not looked at, as long as there is one."""

    @override(driver.compute.judge, "judge_id")
    def _(original: Any, sandbox_id: str) -> None:
        if not sandbox_id:
            original(sandbox_id)


@fault("refusals-are-resource-exhausted", kills=("COMP-CREATE-06",))
def _(driver: Driver) -> None:
    """What the platform refuses has a code that gateways turn into an internal error."""

    @override(driver.platform, "admit")
    def _(original: Any, resource: Any) -> None:
        try:
            original(resource)
        except FailedPrecondition as error:
            raise Exhausted(error.message) from None


@fault("create-asks-often", kills=("COMP-CREATE-07.a",))
def _(driver: Driver) -> None:
    """A create asks the platform seven times, one after the other."""

    @override(driver.compute, "make")
    async def _(original: Any, sandbox: Any) -> Any:
        for _ in range(6):
            await driver.platform.reach()
        return await original(sandbox)


@fault("create-waits-until-ready", kills=("COMP-CREATE-07.b",))
def _(driver: Driver) -> None:
    """A create is answered when the sandbox has started."""

    @override(driver.compute, "make")
    async def _(original: Any, sandbox: Any) -> Any:
        made = await original(sandbox)

        def started() -> bool:
            found = driver.platform.resources.get(made.id)
            return found is None or found.state != STARTING

        await driver.platform.until(started)
        return made


def half_made(driver: Driver, rest: Any) -> None:
    """Let a sandbox start only when the rest of its create is done."""

    @override(driver.compute, "make")
    async def _(original: Any, sandbox: Any) -> Any:
        made = await original(sandbox)
        change = "UPDATE resources SET due = ? WHERE id = ?"
        driver.ledger.execute(change, time.time() + 3600, made.id)
        await rest()
        driver.ledger.execute(change, time.time(), made.id)
        driver.platform.ring()
        return made


@fault(
    "cancelled-create-stops-halfway",
    kills=("COMP-CREATE-08.a", "COMP-CREATE-08.b"),
    also=("COMP-CREATE-08.c", "COMP-STAT-04.b"),
)
def _(driver: Driver) -> None:
    """A create that is cancelled leaves a sandbox that never starts."""
    half_made(driver, lambda: asyncio.sleep(0.1))


@fault(
    "cancelled-create-stops-halfway-when-slow",
    kills=("COMP-CREATE-08.c",),
    also=("COMP-STAT-04.b",),
)
def _(driver: Driver) -> None:
    """The same, if the platform is slow."""
    half_made(driver, driver.platform.reach)


@fault("cancelled-create-leaves-a-resource", kills=("COMP-CREATE-08.d",))
def _(driver: Driver) -> None:
    """What was made for a sandbox before its create was cancelled stays."""

    @override(driver.compute, "make")
    async def _(original: Any, sandbox: Any) -> Any:
        try:
            return await original(sandbox)
        except asyncio.CancelledError:
            leave(driver)
            raise


@fault("failed-provisioning-vanishes", kills=("COMP-CREATE-09",))
def _(driver: Driver) -> None:
    """A sandbox whose image cannot be pulled is removed."""

    @override(driver.platform.resources, "finish")
    def _(original: Any, resource: Any) -> None:
        original(resource)
        found = driver.platform.resources.get(resource.id)
        if found is not None and found.state == FAILED:
            driver.platform.resources.remove(resource.id)


@fault("failed-provisioning-goes-on", kills=("COMP-CREATE-09",))
def _(driver: Driver) -> None:
    """A sandbox whose image cannot be pulled looks as if it were starting."""

    @override(driver.platform.resources, "outcome")
    def _(original: Any, resource: Any) -> str:
        state = str(original(resource))
        return STARTING if state == FAILED else state


@fault("workspaces-must-be-ensured", kills=("COMP-CREATE-10",))
def _(driver: Driver) -> None:
    """A workspace that nobody ensured has no sandboxes."""
    known = {"", "default"}

    @override(driver.compute, "ensure_workspace")
    async def _(original: Any, request: Any) -> Any:
        known.add(request.workspace)
        return await original(request)

    @override(driver.compute, "make")
    async def _(original: Any, sandbox: Any) -> Any:
        if sandbox.workspace not in known:
            raise FailedPrecondition("there is no such workspace")
        return await original(sandbox)


@fault("no-token-breaks-it", kills=("COMP-SEC-03",))
def _(driver: Driver) -> None:
    """A create without a token is an internal error."""

    @override(driver.compute, "make")
    async def _(original: Any, sandbox: Any) -> Any:
        if sandbox.workspace and not sandbox.spec.sandbox_token:
            raise RuntimeError("no token")
        return await original(sandbox)


@fault("create-hangs", kills=("COMP01-CREATE-01",), also=("COMP-CREATE-07.b",))
def _(driver: Driver) -> None:
    """A create of what takes long never ends."""
    driver.calls.limit = 3600.0

    @override(driver.compute, "make")
    async def _(original: Any, sandbox: Any) -> Any:
        if sandbox.spec.template.image == SLOW:
            await asyncio.sleep(3600)
        return await original(sandbox)


@fault("delete-overtakes-create", kills=("COMP01-CREATE-02.a",))
def _(driver: Driver) -> None:
    """A delete does not see a create that is under way."""

    @override(driver.compute, "delete_sandbox")
    async def _(original: Any, request: Any) -> Any:
        if request.sandbox_id and driver.compute.find(request.sandbox_id) is None:
            return driver.compute.messages.DeleteSandboxResponse()
        return await original(request)


@fault("failed-ids-cannot-be-deleted", kills=("COMP01-CREATE-02.b",))
def _(driver: Driver) -> None:
    """A delete of an id whose create has failed is an internal error."""
    failed: set[str] = set()

    @override(driver.compute, "make")
    async def _(original: Any, sandbox: Any) -> Any:
        try:
            return await original(sandbox)
        except FailedPrecondition:
            failed.add(sandbox.id)
            raise

    @override(driver.compute, "delete_sandbox")
    async def _(original: Any, request: Any) -> Any:
        if request.sandbox_id in failed:
            raise RuntimeError("nothing to delete")
        return await original(request)


@fault("ids-are-used-once", kills=("COMP01-CREATE-03",))
def _(driver: Driver) -> None:
    """An id that was deleted cannot be created again."""
    used: set[str] = set()

    @override(driver.compute, "make")
    async def _(original: Any, sandbox: Any) -> Any:
        if sandbox.id in used:
            raise AlreadyExists("there was a sandbox with this id")
        made = await original(sandbox)
        used.add(sandbox.id)
        return made
