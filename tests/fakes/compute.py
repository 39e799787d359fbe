"""`Platform`: a pretended backend whose steps can be held, failed and hidden, and its drivers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import anyio
import anyio.lowlevel

from openshell_drivers import NotFound, Unavailable
from openshell_drivers.compute import (
    ComputeDriver,
    CreateScope,
    ObservedSandbox,
    SandboxFeed,
    SandboxRef,
    SandboxSpec,
    SandboxState,
    StartRequest,
    Support,
)


class Gate:
    """A place where a step waits: `reached` is set when it is there, `opened` lets it go on."""

    def __init__(self) -> None:
        self.reached = anyio.Event()
        self.opened = anyio.Event()


class Platform:
    """Sandboxes by id. `present` is the truth; `lagging`, if set, is what a list shows instead."""

    def __init__(self) -> None:
        self.present: dict[str, ObservedSandbox] = {}
        self.lagging: Sequence[ObservedSandbox] | None = None
        self.out: str | None = None
        self.steps: list[str] = []
        self.gates: dict[str, Gate] = {}
        self.faults: dict[str, list[Callable[[], BaseException]]] = defaultdict(list)
        self.stubborn = False
        """Deletes are accepted, and nothing goes away."""

    def gate(self, step: str) -> Gate:
        """Make the step wait from now on."""
        self.gates[step] = Gate()
        return self.gates[step]

    def fail(self, step: str, *errors: Callable[[], BaseException]) -> None:
        """Have the next calls of a step raise these, one after the other."""
        self.faults[step].extend(errors)

    async def step(self, name: str) -> None:
        """Note a step, wait at its gate, and fail if it is to."""
        self.steps.append(name)
        if name in self.gates:
            self.gates[name].reached.set()
            await self.gates[name].opened.wait()
        for _ in range(3):  # those who watch see what was before
            await anyio.lowlevel.checkpoint()
        if self.faults[name]:
            raise self.faults[name].pop(0)()

    def count(self, step: str) -> int:
        return self.steps.count(step)

    def put(self, sandbox_id: str, state: SandboxState, **changes: Any) -> ObservedSandbox:
        """Say how a sandbox is; make it if it is not there."""
        old = self.present.get(sandbox_id) or seen(sandbox_id, state)
        self.present[sandbox_id] = replace(old, state=state, **changes)
        return self.present[sandbox_id]

    def listed(self) -> list[ObservedSandbox]:
        """What a list shows now."""
        if self.out is not None:
            raise Unavailable(self.out)
        return list(self.present.values() if self.lagging is None else self.lagging)


def seen(sandbox_id: str, state: SandboxState, **more: Any) -> ObservedSandbox:
    """Make an observation."""
    return ObservedSandbox(
        id=sandbox_id,
        name=f"name-of-{sandbox_id}",
        state=state,
        **{"instance_id": f"{sandbox_id}.1", **more},
    )


def _next(instance: str) -> str:
    """Name the next run; a platform that names none goes on so."""
    base, _, number = instance.rpartition(".")
    return f"{base}.{int(number) + 1}" if instance else ""


class _OnPlatform(ComputeDriver):
    """What the drivers here share."""

    version = "1.0"
    default_image = "image"
    gateway_manages_lifecycle = True
    lifecycle_timeout = 20.0
    support = Support(gpu=True)

    def __init__(self, platform: Platform | None = None) -> None:
        super().__init__()
        self.platform = platform or Platform()
        self.work: Callable[[], Awaitable[None]] | None = None
        """What a create goes on with."""
        self.prepare: Callable[[CreateScope], Awaitable[None]] | None = None
        """What a create does first."""

    def told(self, sandbox_id: str) -> None:
        """The sandbox has changed."""

    async def create_sandbox(self, spec: SandboxSpec, scope: CreateScope) -> str | None:
        platform = self.platform
        if self.prepare is not None:
            await self.prepare(scope)
        await platform.step("reserve")
        platform.put(spec.id, SandboxState.starting(), name=spec.name, workspace=spec.workspace)
        self.told(spec.id)
        await platform.step("create")
        if self.work is not None:
            scope.in_background(self.work)
        else:
            platform.put(spec.id, SandboxState.ready())
            self.told(spec.id)
        await platform.step("created")
        return f"runtime-{spec.id}"

    async def delete_sandbox(self, ref: SandboxRef) -> bool:
        await self.platform.step("delete")
        existed = ref.id in self.platform.present
        if not self.platform.stubborn:
            self.platform.present.pop(ref.id, None)
            self.told(ref.id)
        return existed

    async def list_sandboxes(self) -> Sequence[ObservedSandbox]:
        listed = self.platform.listed()
        await self.platform.step("list")
        return listed

    async def stop_sandbox(self, ref: SandboxRef) -> None:
        await self.platform.step("stop")
        if ref.id not in self.platform.present:
            raise NotFound("it is not there")
        self.platform.put(ref.id, SandboxState.stopped())
        self.told(ref.id)
        await self.platform.step("stopped")

    async def start_sandbox(self, ref: SandboxRef, request: StartRequest) -> str | None:
        await self.platform.step("start")
        if ref.id not in self.platform.present:
            raise NotFound("it is not there")
        old = self.platform.present[ref.id]
        if old.state.kind in {"stopped", "exited", "failed"}:
            next_run = _next(old.instance_id)
            self.platform.put(ref.id, SandboxState.starting(), instance_id=next_run)
            self.told(ref.id)
        await self.platform.step("started")
        return f"runtime-{ref.id}"


class Polled(_OnPlatform):
    """Only its list says what there is. The interval is long: tests poll themselves."""

    name = "polled"
    poll_interval = 3600.0


class OneByOne(Polled):
    """Polled, and asked for one sandbox it looks at that alone."""

    name = "one-by-one"

    async def get_sandbox(self, ref: SandboxRef) -> ObservedSandbox:
        if self.platform.out is not None:
            raise Unavailable(self.platform.out)
        await self.platform.step("get")
        if ref.id not in self.platform.present:
            raise NotFound("it is not there")
        return self.platform.present[ref.id]


class Pushed(_OnPlatform):
    """Tells of every change at once, unless it is `mute`; `feed` is there while it observes."""

    name = "pushed"

    def __init__(self, platform: Platform | None = None) -> None:
        super().__init__(platform)
        self.feed: SandboxFeed | None = None
        self.mute = False
        self.end = anyio.Event()

    def told(self, sandbox_id: str) -> None:
        if self.feed is None or self.mute:
            return
        if sandbox_id in self.platform.present:
            self.feed.update(self.platform.present[sandbox_id])
        else:
            self.feed.delete(sandbox_id)

    async def observe(self, feed: SandboxFeed) -> None:
        await self.platform.step("observe")
        self.feed = feed
        feed.replace(self.platform.listed())
        self.end = anyio.Event()
        await self.end.wait()
        self.feed = None
