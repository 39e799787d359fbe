"""The engine: a process of its own that starts drivers, runs checks and writes reports.

``python -m openshell_drivers.conformance.engine FILE`` reads a `Request` from a file and appends
events to another one. It waits for one line on standard input before it runs: ``go`` for all that
was planned, or ``go`` and a JSON list of units. When standard input ends it stops and cleans up: so
it never outlives the pytest or the terminal that wanted it, nor is disturbed by what they patch.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from openshell_drivers.conformance._assemble import Course, assemble
from openshell_drivers.conformance._canaries import Canaries
from openshell_drivers.conformance._conduct import Conductor
from openshell_drivers.conformance._detect import Found, detect
from openshell_drivers.conformance._instances import TargetNotReady, began_at
from openshell_drivers.conformance._ledger import Ledger
from openshell_drivers.conformance._offers import profile_for
from openshell_drivers.conformance._publish import publish
from openshell_drivers.conformance._request import Request
from openshell_drivers.conformance._sweep import FRONT
from openshell_drivers.conformance._units import Selection, Unit, plan
from openshell_drivers.conformance._waivers import Waiver, WaiverError, read_waivers, waived
from openshell_drivers.conformance.benches._base import Stall, World
from openshell_drivers.conformance.report.model import Result
from openshell_drivers.conformance.report.verdicts import gateway_verdicts
from openshell_drivers.errors import ConfigError

_TICK: Final = 0.02
USAGE, HARNESS, NOT_READY, WAIVERS = 2, 3, 4, 7


class Events:
    """The file of events; a reader sees each line as soon as it is written."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")

    def say(self, event: str, **what: Any) -> None:
        """Append one."""
        self._file.write(json.dumps({"event": event, **what}) + "\n")
        self._file.flush()

    def close(self) -> None:
        """No more events."""
        self._file.close()


class Engine:
    """One run."""

    def __init__(self, request: Request, events: Events) -> None:
        self._request = request
        self._events = events
        self._selection: Selection = request.selection()
        self._results: list[Result] = []
        self._began = time.monotonic()
        self._started = datetime.now(UTC).isoformat(timespec="seconds")
        self._stopped = ""
        self._waivers: list[Waiver] = []

    async def run(self) -> int:
        """Do all of it; the exit status."""
        self._selection.judge()
        request = self._request
        self._waivers = [] if request.waivers is None else read_waivers(request.waivers)
        profile, source = profile_for(request)
        # Names of sandboxes begin with it, and there may be 12 characters for all of a name.
        identity = f"cf{secrets.token_hex(3)}"
        ledger = Ledger(request.ledgers, identity)
        folder = Path(tempfile.mkdtemp(prefix="osd-"))
        ledger.write(
            "run",
            engine=os.getpid(),
            began=began_at(os.getpid()),
            folder=str(folder),
            events=str(request.events),
            target=request.target.model_dump(mode="json", exclude={"environment"}),
            environment=sorted(request.target.environment),  # names; values may be secrets
            profile=profile.model_dump(mode="json"),
        )
        world = World(
            run=identity,
            profile=profile,
            canaries=Canaries(),
            ledger=ledger,
            stall=Stall(),
            seed=request.seed or int(time.time()),
        )
        self._events.say("start", run=identity, profile=source, seed=world.seed)
        conductor = Conductor(request.target.target(), world, folder, repeat=self._repeat)
        try:
            async with metered(world.stall):
                return await self._with(conductor, world)
        finally:
            await conductor.close()
            clean = not conductor.leaks
            if clean:
                shutil.rmtree(folder, ignore_errors=True)
            ledger.close(clean=clean)

    async def _with(self, conductor: Conductor, world: World) -> int:
        instance = await conductor.instance()
        found = await detect(instance)
        wanted = self._selection.services or found.services
        services = [service for service in found.services if service in wanted]
        units = plan(self._selection, services)
        self._events.say(
            "planned",
            name=found.name,
            version=found.version,
            services=found.services,
            units=[_described(unit) for unit in units],
        )
        go = await _line()
        if go is None:
            self._stopped = "told to stop"
            return await self._finish(conductor, world, found, units)
        keys = json.loads(go.removeprefix("go")) if go != "go" else None
        if keys is not None:
            chosen = frozenset(keys)
            if len(chosen) < len(units):
                self._selection = self._request.selection(chosen)
            units = [unit for unit in units if unit.key in chosen]
        await self._conduct(conductor, units)
        return await self._finish(conductor, world, found, units)

    async def _conduct(self, conductor: Conductor, units: list[Unit]) -> None:
        """Run until done, told to stop, or out of time."""
        work = asyncio.create_task(conductor.run(units, self._say))
        told = asyncio.create_task(_line())
        done, _ = await asyncio.wait(
            {work, told},
            return_when=asyncio.FIRST_COMPLETED,
            timeout=self._request.time_budget,
        )
        told.cancel()
        if work in done:
            await work
            if self._request.sensitivity:
                await self._prove(conductor, units)
            return
        self._stopped = "told to stop" if told in done else "out of its time budget"
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work

    async def _prove(self, conductor: Conductor, units: list[Unit]) -> None:
        """Run what passed again, over spoilt answers."""
        from openshell_drivers.conformance._sensitivity import downgraded, prove

        def say(check: str, spoil: str) -> None:
            self._events.say("proof", check=check, spoil=spoil)

        found = await prove(conductor, units, self._results, conductor.folder, say)
        self._results = [downgraded(result, found) for result in self._results]

    def _say(self, result: Result) -> None:
        result = waived(result, self._waivers, datetime.now(UTC).date())
        self._results.append(result)
        self._events.say("result", **result.model_dump(mode="json"))

    def _repeat(self, unit: Unit) -> str:
        again = self._request.repeat or f"openshell-drivers verify '{self._request.target.read_as}'"
        return f"{again} --check {unit.check.id} --preset {unit.preset}"

    async def _finish(
        self, conductor: Conductor, world: World, found: Found, units: list[Unit]
    ) -> int:
        course = Course(
            world=world,
            found=found,
            units=units,
            results=self._results,
            leaks=conductor.leaks,
            started=self._started,
            seconds=time.monotonic() - self._began,
            waivers=self._waivers,
            stopped=self._stopped,
            full=self._selection.full,
        )
        report = assemble(self._request, course)
        files = publish(report, self._request, world.canaries)
        self._events.say(
            "finished",
            verdict=report.verdict,
            exit_status=report.exit_status,
            verdicts=[each.model_dump(mode="json") for each in report.verdicts],
            gateways=gateway_verdicts(report.results, complete=report.run.complete),
            leaks=[each.model_dump(mode="json") for each in report.leaks],
            warnings=report.warnings,
            seconds=report.run.seconds,
            files=[str(file) for file in files],
        )
        return report.exit_status


@asynccontextmanager
async def metered(stall: Stall) -> AsyncIterator[None]:
    """Measure for how long this loop is kept from running."""

    async def meter() -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(_TICK)
            late = time.monotonic() - before - _TICK
            if late > _TICK:
                stall.total += late

    task = asyncio.create_task(meter())
    try:
        yield
    finally:
        task.cancel()


_lines: asyncio.Queue[str | None] | None = None


async def _line() -> str | None:
    """The next line of standard input; None at its end."""
    global _lines  # noqa: PLW0603  # there is one standard input
    if _lines is None:
        _lines = asyncio.Queue()
        reader = asyncio.StreamReader(limit=2**24)
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        queue = _lines
        # Told by a signal it cleans up as well: its drivers are in sessions of their own.
        loop.add_signal_handler(signal.SIGTERM, queue.put_nowait, None)

        async def read() -> None:
            while line := await reader.readline():
                queue.put_nowait(line.decode().strip())
            queue.put_nowait(None)

        _keep.append(asyncio.create_task(read()))
    return await _lines.get()


_keep: list[asyncio.Task[None]] = []


def _described(unit: Unit) -> dict[str, str]:
    check = unit.check
    return {
        "key": unit.key,
        "check": check.id,
        "preset": unit.preset,
        "title": check.title,
        "service": check.service,
        "profile": check.profile,
        "level": unit.level,
    }


def main(path: str) -> int:
    """Run the request in the file; the exit status."""
    request = Request.model_validate_json(Path(path).read_text("utf-8"))
    parent = os.getppid()
    events = Events(request.events)
    # Its parent gets it too, and closes our input. A driver would inherit SIG_IGN.
    signal.signal(signal.SIGINT, lambda *_: None)
    try:
        return asyncio.run(Engine(request, events).run())
    except WaiverError as error:
        events.say("refused", exit_status=WAIVERS, why=str(error))
        return WAIVERS
    except ConfigError as error:
        events.say("refused", exit_status=USAGE, why=str(error))
        return USAGE
    except TargetNotReady as error:
        events.say("refused", exit_status=NOT_READY, why=str(error))
        return NOT_READY
    except Exception as error:
        from openshell_drivers.conformance._judge import described

        events.say("refused", exit_status=HARNESS, why=f"the suite broke: {described(error)}")
        raise
    finally:
        events.close()
        folder = request.events.parent
        if os.getppid() != parent and folder.name.startswith(FRONT):
            shutil.rmtree(folder, ignore_errors=True)  # nobody is left to read it


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
