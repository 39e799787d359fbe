"""Start."""

from __future__ import annotations

from typing import Any

from tests.conformance.bare.driver import Driver
from tests.conformance.bare.errors import (
    AlreadyExists,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from tests.conformance.bare.faults._refusals import refuses
from tests.conformance.bare.faults._tools import fault, override
from tests.conformance.bare.resources import EXITED, FAILED, RUNNING, STARTING, STOPPED


@fault("start-restarts-what-runs", kills=("COMP-START-01.a",), also=("COMP01-START-01.a",))
def _(driver: Driver) -> None:
    """Start of a running sandbox gives it another run."""

    @override(driver.compute, "begin")
    def _(original: Any, found: Any, generation: str) -> None:
        if found.state == RUNNING and found.generation != generation:
            driver.platform.resources.begin_start(found.id, generation)
        original(found, generation)


@fault("start-unknown-is-ok", kills=("COMP-START-01.b",), also=("COMP01-START-02",))
def _(driver: Driver) -> None:
    """Start of what is not there is OK."""

    @override(driver.compute, "start_sandbox")
    async def _(original: Any, request: Any) -> Any:
        try:
            return await original(request)
        except NotFound:
            return driver.compute.messages.StartSandboxResponse(runtime_identity="bare://0")


@fault("start-of-what-starts-is-refused", kills=("COMP-START-01.c",))
def _(driver: Driver) -> None:
    """What is being made cannot be started."""
    refuses(driver, "start_sandbox", STARTING)


@fault("start-gives-another-name", kills=("COMP-START-03.a",), also=("COMP-START-03.b",))
def _(driver: Driver) -> None:
    """After a start the sandbox has another name."""

    @override(driver.snapshots, "name")
    def _(original: Any, resource: Any) -> str:
        return str(original(resource)) + ("" if resource.instance == 1 else "-again")


@fault("start-repeats-a-generation", kills=("COMP01-START-01.a",))
def _(driver: Driver) -> None:
    """The same generation_id again gives another run."""

    @override(driver.compute, "begin")
    def _(original: Any, found: Any, generation: str) -> None:
        if generation and found.generation == generation:
            driver.platform.resources.begin_start(found.id, generation)
        original(found, generation)


@fault("start-wants-a-generation", kills=("COMP01-START-01.b",))
def _(driver: Driver) -> None:
    """Start without a generation_id is refused."""

    @override(driver.compute, "start_sandbox")
    async def _(original: Any, request: Any) -> Any:
        if not request.generation_id:
            raise InvalidArgument("generation_id is empty")
        return await original(request)


@fault(
    "start-happens-once",
    kills=("COMP01-START-01.c",),
    also=("COMP-STOP-02.b", "COMP-STAT-07"),
)
def _(driver: Driver) -> None:
    """Only the first start of a sandbox is carried out."""
    started: set[str] = set()

    @override(driver.compute, "begin")
    def _(original: Any, found: Any, generation: str) -> None:
        if found.id not in started:
            original(found, generation)
        if found.state == STOPPED:
            started.add(found.id)


@fault("start-of-the-lost-is-ok", kills=("COMP01-START-02.a",))
def _(driver: Driver) -> None:
    """Start of what was there once is OK, whether it is still there or not."""
    made: set[str] = set()

    @override(driver.compute, "make")
    async def _(original: Any, sandbox: Any) -> Any:
        found = await original(sandbox)
        made.add(sandbox.id)
        return found

    @override(driver.compute, "start_sandbox")
    async def _(original: Any, request: Any) -> Any:
        try:
            return await original(request)
        except NotFound:
            if request.sandbox_id not in made:
                raise
            return driver.compute.messages.StartSandboxResponse(runtime_identity="bare://0")


@fault(
    "lost-ids-are-taken",
    kills=("COMP01-START-02.b",),
    also=("COMP01-CREATE-03", "COMP-SOCK-11.d"),
)
def _(driver: Driver) -> None:
    """An id that was used once cannot be used again."""
    made: set[str] = set()

    @override(driver.compute, "make")
    async def _(original: Any, sandbox: Any) -> Any:
        if sandbox.id in made:
            raise AlreadyExists("there is a sandbox with this id")
        found = await original(sandbox)
        made.add(sandbox.id)
        return found


@fault("exited-is-started-again", kills=("COMP01-START-03.a",), also=("COMP01-START-03.b",))
def _(driver: Driver) -> None:
    """The platform is told to start a main process that has ended."""

    @override(driver.observer, "take")
    def _(original: Any, change: Any, *, first: bool) -> None:
        original(change, first=first)
        if change.resource is not None and change.resource.state == EXITED:
            driver.platform.start(change.id, "")


@fault("exited-cannot-be-stopped", kills=("COMP01-START-03.b",))
def _(driver: Driver) -> None:
    """What has exited cannot be stopped, and so not started again."""
    refuses(driver, "stop_sandbox", EXITED)


@fault("start-in-an-outage-is-not-found", kills=("COMP-START-02.a",), also=("COMP-START-04",))
def _(driver: Driver) -> None:
    """A start that cannot reach the platform is NOT_FOUND."""
    driver.compute.patience.seconds = 0.5

    @override(driver.compute, "start_sandbox")
    async def _(original: Any, request: Any) -> Any:
        try:
            return await original(request)
        except Unavailable:
            raise NotFound("there is no sandbox with this id") from None


@fault("start-does-not-wait", kills=("COMP-START-02.b",))
def _(driver: Driver) -> None:
    """A platform that takes more than a second is given up."""
    driver.platform.patient_limit = 1.0
    driver.compute.patience.seconds = 0.0


@fault("failed-start-condemns", kills=("COMP-START-04",))
def _(driver: Driver) -> None:
    """After a start that could not reach the platform, the sandbox can only be deleted."""
    driver.compute.patience.seconds = 0.5

    @override(driver.compute, "start_sandbox")
    async def _(original: Any, request: Any) -> Any:
        try:
            return await original(request)
        except Unavailable:
            driver.platform.resources._move(request.sandbox_id, FAILED, None)
            raise
