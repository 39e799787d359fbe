"""How a process ends, how it bears many calls, and what it holds on to."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
from typing import Any

from google.protobuf.message import DecodeError

from tests.conformance.bare.driver import Driver
from tests.conformance.bare.errors import InvalidArgument
from tests.conformance.bare.faults._tools import fault, override


@fault("sigterm-is-a-crash", kills=("COMP-SOCK-07.a",), also=("COMP-SOCK-07.c",))
def _(driver: Driver) -> None:
    """SIGTERM ends the process at once."""

    @override(driver, "listen_to_signals")
    def _(_original: Any) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, driver.stopping.set)


@fault("sigint-is-a-crash", kills=("COMP-SOCK-07.b",))
def _(driver: Driver) -> None:
    """SIGINT ends the process at once."""

    @override(driver, "listen_to_signals")
    def _(_original: Any) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, driver.stopping.set)


@fault("running-calls-are-cut-off", kills=("COMP-SOCK-07.c",))
def _(driver: Driver) -> None:
    """At SIGTERM no call is waited for."""
    driver.drain_seconds = 0


@fault("a-helper-stays-behind", kills=("PROC-EXIT-01",))
def _(driver: Driver) -> None:
    """A helper process is started and never ended."""

    @override(driver, "bind")
    def _(original: Any) -> Any:
        subprocess.Popen(["sleep", "60"])
        return original()


@fault("open-watches-hold-up-the-end", kills=("PROC-EXIT-02.a",))
def _(driver: Driver) -> None:
    """Watches are not ended, and are waited for."""
    driver.drain_seconds = 60

    @override(driver.hub, "close")
    def _(_original: Any) -> None:
        return


@fault("a-hanging-backend-holds-up-the-end", kills=("PROC-EXIT-02.b",), also=("COMP-GET-05",))
def _(driver: Driver) -> None:
    """Calls to the platform are waited for, however long they take."""
    driver.drain_seconds = 60
    driver.platform.quick_limit = 60


@fault("late-calls-hang", kills=("PROC-EXIT-03",), also=("COMP-SOCK-07.a", "PROC-EXIT-02.a"))
def _(driver: Driver) -> None:
    """What comes during shutdown is not answered."""

    @override(driver.calls, "before")
    async def _(original: Any, rpc: str, request: Any) -> None:
        if driver.stopping.is_set():
            await asyncio.sleep(60)
        await original(rpc, request)

    @override(driver, "drain")
    async def _(original: Any) -> None:
        await asyncio.sleep(9)
        driver.drain_seconds = 0
        await original()


@fault(
    "seven-watches-are-served",
    kills=("COMP-SOCK-08.a",),
    also=("COMP-GET-07", "COMP-WATCH-02", "COMP-WATCH-05", "COMP-WATCH-08"),
)
def _(driver: Driver) -> None:
    """More than seven watches are opened, and hear nothing."""

    @override(driver.hub, "tell")
    def _(_original: Any, note: Any) -> None:
        for watcher in sorted(driver.hub.watchers, key=order.index)[:7]:
            watcher.add(note)

    order: list[Any] = []

    @override(driver.hub, "new_watcher")
    def _(original: Any) -> Any:
        order.append(original())
        return order[-1]


@fault("one-call-at-a-time", kills=("COMP-SOCK-08.b",), also=("CREDF-RES-05", "CREDU-RES-04"))
def _(driver: Driver) -> None:
    """One lock is held over every call."""
    lock = asyncio.Lock()

    @override(driver.calls, "method")
    def _(original: Any, implementation: object, rpc: str) -> Any:
        found = original(implementation, rpc)
        if rpc == "WatchSandboxes":
            return found

        async def locked(request: Any) -> Any:
            async with lock:
                return await found(request)

        return locked


@fault("lists-are-garbled", kills=("PROC-WIRE-01.a",))
def _(driver: Driver) -> None:
    """ListSandboxes answers with bytes that are no message."""

    @override(driver.calls, "encode")
    def _(original: Any, rpc: str, answer: Any) -> bytes:
        return b"\xff\xff\xff" if rpc == "ListSandboxes" else bytes(original(rpc, answer))


@fault("watch-sends-empty-events", kills=("PROC-WIRE-01.b",))
def _(driver: Driver) -> None:
    """A watch begins with an event that says nothing."""

    @override(driver.compute, "watch_sandboxes")
    async def _(original: Any, request: Any) -> Any:
        yield driver.compute.messages.WatchSandboxesEvent()
        async for event in original(request):
            yield event


@fault("errors-quote-long-input", kills=("PROC-WIRE-02",))
def _(driver: Driver) -> None:
    """An odd text stands whole in the message about it."""
    driver.calls.longest_message = 10**9

    @override(driver.calls, "before")
    async def _(original: Any, rpc: str, request: Any) -> None:
        if rpc == "GetSandbox" and len(request.sandbox_id) > 128:
            raise InvalidArgument(f"there is no sandbox {request.sandbox_id}")
        await original(rpc, request)


@fault("big-requests-are-fatal", kills=("PROC-WIRE-03",))
def _(driver: Driver) -> None:
    """A request of more than two MiB ends the process."""

    @override(driver.calls, "parse")
    def _(original: Any, request_class: Any, raw: bytes) -> Any:
        if len(raw) > 2 * 1024 * 1024:
            os._exit(3)
        return original(request_class, raw)


@fault("damaged-requests-are-empty-ones", kills=("PROC-WIRE-04",))
def _(driver: Driver) -> None:
    """What cannot be parsed counts as an empty request."""

    @override(driver.calls, "parse")
    def _(_original: Any, request_class: Any, raw: bytes) -> Any:
        try:
            return request_class.FromString(raw)
        except DecodeError:
            return request_class()


@fault("odd-text-is-unknown", kills=("PROC-WIRE-05",))
def _(driver: Driver) -> None:
    """A NUL in a name is an exception that nobody maps."""

    @override(driver.calls, "before")
    async def _(original: Any, rpc: str, request: Any) -> None:
        if rpc == "GetSandbox" and "\0" in request.sandbox_id:
            raise RuntimeError
        await original(rpc, request)

    @override(driver.calls, "status")
    def _(original: Any, error: Exception) -> tuple[str, str]:
        return ("UNKNOWN", "") if isinstance(error, RuntimeError) else original(error)


@fault("foreign-bytes-are-fatal", kills=("PROC-WIRE-06",))
def _(driver: Driver) -> None:
    """A connection that does not speak HTTP/2 ends the process."""

    @override(driver.relay, "passes")
    def _(_original: Any, data: bytes) -> bool:
        if data.startswith((b"GET", b"\x16")):
            os._exit(3)
        return True


@fault("cancelled-calls-keep-their-place", kills=("PROC-CALL-01",))
def _(driver: Driver) -> None:
    """A call that is cancelled does not give its place back; there are 100."""
    places = asyncio.Semaphore(100)

    @override(driver.calls, "before")
    async def _(original: Any, rpc: str, request: Any) -> None:
        await places.acquire()
        await original(rpc, request)

    @override(driver.calls, "record")
    def _(original: Any, rpc: str, code: str, message: str, started: float) -> None:
        if code != "CANCELLED":
            places.release()
        original(rpc, code, message, started)


@fault("answers-are-mixed-up", kills=("PROC-CALL-03.a",), also=("*",))
def _(driver: Driver) -> None:
    """Under load the id that is looked for stands in a variable that all calls share."""
    now: dict[str, Any] = {"id": "", "calls": 0}

    @override(driver.compute, "get_sandbox")
    async def _(original: Any, request: Any) -> Any:
        now["id"] = request.sandbox_id
        now["calls"] += 1
        try:
            await asyncio.sleep(0.05)
            if now["calls"] > 10:
                request.sandbox_id = now["id"]
            return await original(request)
        finally:
            now["calls"] -= 1


@fault("values-are-mixed-up", kills=("PROC-CALL-03.b",))
def _(driver: Driver) -> None:
    """Under load the batch that is resolved stands in a variable that all calls share."""
    now: dict[str, Any] = {"calls": 0}

    @override(driver.store, "resolve_credentials")
    async def _(original: Any, request: Any) -> Any:
        now["request"] = request
        now["calls"] += 1
        try:
            await asyncio.sleep(0.05)
            return await original(now["request"] if now["calls"] > 10 else request)
        finally:
            now["calls"] -= 1


@fault("files-stay-open", kills=("PROC-GROW-01",))
def _(driver: Driver) -> None:
    """Every call opens a file and does not close it."""

    @override(driver.calls, "record")
    def _(original: Any, *rest: Any) -> None:
        os.open("/dev/null", os.O_RDONLY)
        original(*rest)


@fault("threads-stay", kills=("PROC-GROW-02",))
def _(driver: Driver) -> None:
    """Every fourth call leaves a thread behind."""
    count = [0]

    @override(driver.calls, "record")
    def _(original: Any, *rest: Any) -> None:
        count[0] += 1
        if count[0] % 4 == 0:
            threading.Thread(target=threading.Event().wait, daemon=True).start()
        original(*rest)


@fault("never-rests", kills=("PROC-IDLE-01",))
def _(driver: Driver) -> None:
    """Something looks for news without a pause."""

    @override(driver.platform, "run")
    async def _(original: Any) -> None:
        async def spin() -> None:
            while True:  # noqa: ASYNC110
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(spin())
            tasks.create_task(original())


@fault("calls-leave-stack-traces", kills=("PROC-LOG-01",))
def _(driver: Driver) -> None:
    """A stack trace stands in the log for each call."""

    @override(driver.calls, "record")
    def _(original: Any, *rest: Any) -> None:
        driver.log.write("Traceback (most recent call last):\n  File x, line 1\nKeyError: 'x'")
        original(*rest)


@fault("no-health-service", kills=("PROC-HEALTH-01",))
def _(driver: Driver) -> None:
    """The standard health service is not there."""
    driver.healthy = False


@fault("record-is-made-last", kills=("PROC-KILL-01",))
def _(driver: Driver) -> None:
    """For a while there is compute that the driver would not know again after a crash."""

    @override(driver.compute, "make")
    async def _(original: Any, sandbox: Any) -> Any:
        made = await original(sandbox)
        query = "UPDATE resources SET managed = ? WHERE id = ?"
        driver.ledger.execute(query, 0, sandbox.id)
        await asyncio.sleep(0.06)
        driver.ledger.execute(query, 1, sandbox.id)
        return made
