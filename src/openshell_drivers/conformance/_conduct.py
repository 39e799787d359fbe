"""`Conductor`: runs units against instances of the target: many at once, the rough ones apart."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from openshell_drivers.conformance._backend import Backend
from openshell_drivers.conformance._caller import Transcript
from openshell_drivers.conformance._checks import NEEDS, Check
from openshell_drivers.conformance._instances import Instance, TargetNotReady, accepts
from openshell_drivers.conformance._judge import Ending, ending, result
from openshell_drivers.conformance._outcomes import (
    Blocked,
    Broken,
    NotObservable,
    NotTestable,
    TooSlow,
)
from openshell_drivers.conformance._targets import Target
from openshell_drivers.conformance._units import Unit
from openshell_drivers.conformance.benches._base import Bench, World
from openshell_drivers.conformance.benches.compute import ComputeBench
from openshell_drivers.conformance.benches.credentials import CredentialsBench
from openshell_drivers.conformance.benches.store import StoreBench
from openshell_drivers.conformance.report.model import Leak, Result
from openshell_drivers.testing.gateway import PRESETS

BENCHES: Final[dict[str, type[Bench]]] = {
    "compute": ComputeBench,
    "credentials": CredentialsBench,
    "credential-store": StoreBench,
}
#: How many checks are under way at once, and how many driver processes.
_AT_ONCE: Final = 16
_PROCESSES: Final = 4
#: How many sandboxes most checks have at once.
_EACH: Final = 4
#: How many checks that took too long at an instance of many are tried once more, each alone.
_AGAIN: Final = 4
_CLEANING: Final = 120.0
_ENDING: Final = 15.0
"""For a process that is on its way out."""
#: Milliseconds after which a call that was under way when a check was given up has hung.
_HUNG: Final = 20_000
_FROM_PROFILE: Final = {
    "unpullable": "compute",
    "refused": "compute",
    "lengthy": "compute",
    "known": "credentials",
    "expiring": "credentials",
}


class Conductor:
    """One run's instances, and what was left behind."""

    def __init__(
        self, target: Target, world: World, folder: Path, *, repeat: Callable[[Unit], str]
    ) -> None:
        self._target = target
        self._world = world
        self.folder = folder
        self._repeat = repeat
        self._shared: dict[str, Instance] = {}
        self.instances: list[Instance] = []
        self.leaks: list[Leak] = []
        self._before: dict[Instance, set[str] | None] = {}
        self._alone: defaultdict[Instance, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._processes = asyncio.Semaphore(_PROCESSES)
        room = world.profile.compute.max_sandboxes // _EACH
        self._many = asyncio.Semaphore(min(_AT_ONCE, max(1, room)))

    async def instance(self) -> Instance:
        """Start one more. Raises `TargetNotReady`."""
        made = self._new()
        await made.start()
        return made

    def _new(self) -> Instance:
        folder = self.folder / f"i{len(self.instances)}"
        folder.mkdir(mode=0o700)
        made = Instance(self._target, self._world.profile, folder, self._world.ledger)
        self.instances.append(made)
        return made

    async def shared(self, preset: str) -> Instance:
        """The instance of all checks that leave it as they found it."""
        key = preset if self._world.profile.target.isolated and not self._target.attached else ""
        if key not in self._shared:
            # The first one that was started to look at serves for the first preset.
            first = not self._shared and bool(self.instances)
            made = self.instances[0] if first else await self.instance()
            self._shared[key] = made
            self._before[made] = await self._resources(made)
        return self._shared[key]

    async def _resources(self, instance: Instance) -> set[str] | None:
        """What exists at the platform; None where nobody can tell."""
        backend = Backend(self._world.profile.backend, instance, Transcript(lambda text: text))
        if not backend.can("resources"):
            return None
        try:
            return set(await backend.resources())
        except Blocked:
            return None

    async def look_for_leaks(self) -> None:
        """Compare what exists at the platform with what was there before."""
        for instance, before in self._before.items():
            now = await self._resources(instance)
            if before is not None and now is not None:
                self.leaks += [Leak(kind="resource", name=name) for name in sorted(now - before)]

    # Running

    async def run(self, units: Sequence[Unit], say: Callable[[Result], None]) -> None:
        """Run all; every unit gets exactly one result."""
        groups = sorted(_groups(units), key=_long)
        last = [group for group in groups if group[0].check.last]
        rough = [group for group in groups if self._rough(group[0].check) and group not in last]
        gentle = [group for group in groups if group not in rough and group not in last]
        if gentle and self._world.profile.target.isolated and not self._target.attached:
            presets = dict.fromkeys(group[0].preset for group in gentle)
            await asyncio.gather(*(self.shared(preset) for preset in presets))
        elif gentle:
            await self.shared(gentle[0][0].preset)
        own = [group for group in rough if not self._exclusive(group[0].check)]
        exclusive = [group for group in rough if self._exclusive(group[0].check)]
        again = await self._all([*own, *gentle], say)
        self._world.vain.clear()  # what was waited for in vain may come when nothing else goes on
        for group in [*again, *exclusive, *last]:
            await self._group(group, say)
        await self.look_for_leaks()

    async def _all(
        self, groups: Iterable[list[Unit]], say: Callable[[Result], None]
    ) -> list[list[Unit]]:
        """Run them at once; those that were too slow in the crowd are given back unsaid."""
        crowded: list[list[Unit]] = []
        async with asyncio.TaskGroup() as tasks:
            for group in groups:
                tasks.create_task(self._group(group, say, crowded))
        return crowded

    async def _group(
        self,
        group: list[Unit],
        say: Callable[[Result], None],
        crowded: list[list[Unit]] | None = None,
    ) -> None:
        end = await self._execute(group[-1])
        late = isinstance(end.problem, TooSlow) and not self._rough(group[0].check)
        if late and crowded is not None and len(crowded) < _AGAIN:
            crowded.append(group)
            return
        for unit in group:
            say(result(unit, end, repeat=self._repeat(unit)))

    def _rough(self, check: Check) -> bool:
        """Whether it would disturb others at the same instance."""
        return check.own or bool({"outage", "slow"} & set(check.needs))

    def _exclusive(self, check: Check) -> bool:
        """Whether it disturbs the platform of all instances, or the only instance."""
        if self._target.attached:
            return True
        verbs = self._world.profile.backend
        given = ("outage" in check.needs and verbs.outage_begin) or (
            "slow" in check.needs and verbs.slow
        )
        return bool(given) and not self._world.profile.target.isolated

    async def _execute(self, unit: Unit) -> Ending:
        own = self._rough(unit.check) and not self._target.attached
        async with self._processes if own else self._many:
            try:
                instance = await self.instance() if own else await self.shared(unit.preset)
            except TargetNotReady as error:
                return Ending(problem=Blocked(f"no driver to try it on: {error}"), milliseconds=0)
            try:
                return await self._on(instance, unit)
            finally:
                if own:
                    await self._closed(instance)

    async def execute_on(self, instance: Instance, unit: Unit) -> Ending:
        """Run one unit at an instance that is there, and clean up after it."""
        return await self._on(instance, unit)

    async def calls_of(self, unit: Unit) -> list[str]:
        """Run one unit and give the methods that it called, in order."""
        bench = await self._tried(await self.shared(unit.preset), unit)
        return [call.rpc for call in bench[0].transcript.calls]

    async def _on(self, instance: Instance, unit: Unit) -> Ending:
        bench, problem, seconds, log = await self._tried(instance, unit)
        return ending(bench, problem, seconds, log)

    async def _tried(
        self, instance: Instance, unit: Unit
    ) -> tuple[Bench, BaseException | None, float, list[str]]:
        kind = BENCHES[unit.check.service]
        bench = kind(self._world, unit.check, PRESETS[unit.preset], instance)
        began, logged = time.monotonic(), instance.logged
        try:
            problem = await _attempt(bench)
            seconds = time.monotonic() - began
            problem = self._died(instance, bench, problem)
            bench.transcript.end()  # what follows is not the check's
            return bench, problem, seconds, bench.log(logged) if problem is not None else []
        finally:  # when the run is told to stop, too
            await self._clean(bench, instance)

    def _died(
        self, instance: Instance, bench: Bench, problem: BaseException | None
    ) -> BaseException | None:
        if instance.running or bench.check.own or isinstance(problem, Broken):
            return problem
        return Blocked("the driver's process has ended" + instance.tail_text())

    async def _clean(self, bench: Bench, instance: Instance) -> None:
        async def clean() -> None:
            async with self._alone[instance]:
                await _serving(instance)
            async with asyncio.timeout(_CLEANING):
                self.leaks.extend(await bench.clean())

        try:
            problem = await _outcome(clean())
            if problem is not None:  # an unclean end is a leak, not a verdict
                kind = type(problem).__name__
                name = f"what {bench.check.id} made could not be removed: {kind}"
                self.leaks.append(Leak(kind="resource", name=name, attributed=bench.check.id))
        finally:
            with contextlib.suppress(Exception):
                await bench.end()

    async def close(self) -> None:
        """End every process."""
        ends = [self._closed(each) for each in self.instances]
        await asyncio.gather(*ends, return_exceptions=True)

    async def _closed(self, instance: Instance) -> None:
        await instance.close()
        if instance.unclean:
            self.leaks.append(Leak(kind="resource", name=instance.unclean, attributed=""))
            instance.unclean = ""


async def _serving(instance: Instance) -> None:
    """Make sure that somebody answers, also after a check that has told the driver to end."""
    if instance.attached:
        return
    if instance.running and not instance.leaving and accepts(instance.socket):
        return
    if instance.running and await instance.ended(_ENDING) is None:
        instance.kill()
    await instance.restart()


async def _attempt(bench: Bench) -> BaseException | None:
    """Run a check to its end, and give what it raised."""
    check = bench.check

    async def attempt() -> None:
        _supplied(bench)
        await bench.begin()
        async with asyncio.timeout(check.limit):
            await check.run(bench)

    problem = await _outcome(attempt())
    if isinstance(problem, TimeoutError):
        return _too_long(bench)
    return _single(problem) if isinstance(problem, Exception) else problem


async def _outcome(work: Coroutine[Any, Any, None]) -> BaseException | None:
    """What it raised, a cancellation that nobody asked for included.

    In a task of its own: a task group takes no notice of a child that ends cancelled, and the
    result of a check must not be lost because a call of it was cancelled by a channel that closed.
    """
    task = asyncio.create_task(work)
    try:
        await asyncio.wait({task})
    except asyncio.CancelledError:  # the run is told to stop
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        raise
    try:
        task.result()
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # it is what is asked for
        return error
    return None


def _single(error: Exception) -> Exception:
    """What a task group of a check was ended by."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def _too_long(bench: Bench) -> BaseException:
    """What it means that a check was given up: a call that hung, or a driver that is slow."""
    limit = bench.check.limit
    hung = [c for c in bench.transcript.calls if c.code == "CANCELLED" and c.milliseconds > _HUNG]
    if not hung:
        calls = len(bench.transcript.calls)
        return TooSlow(f"it was given up after {limit:g} s; its last {calls} calls were answered")
    words = f"{hung[-1].rpc} had no answer for {hung[-1].milliseconds / 1000:.0f} s"
    return Broken(f"every call is answered, and the check ends within {limit:g} s", words)


def _groups(units: Iterable[Unit]) -> list[list[Unit]]:
    """Put the presets of a check that needs only one of them together."""
    groups: dict[str, list[Unit]] = defaultdict(list)
    for unit in units:
        groups[unit.check.id if unit.check.once else unit.key].append(unit)
    return list(groups.values())


def _long(group: list[Unit]) -> tuple[bool, float]:
    """Order by what takes long, so that nothing is waited for alone at the end."""
    check = group[0].check
    return "slow" not in check.needs, -check.limit


def _supplied(bench: Bench) -> None:
    """Raise `NotTestable` or `NotObservable` for the first need that is not met."""
    for need in bench.check.needs:
        if need == "spawned":
            if bench.instance.attached:
                raise NotObservable(NEEDS[need])
        elif need in _FROM_PROFILE:
            if not getattr(getattr(bench.profile, _FROM_PROFILE[need]), need):
                raise NotTestable(NEEDS[need])
        elif not bench.backend.can(need):
            raise NotTestable(NEEDS[need])
