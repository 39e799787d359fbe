"""`Backend`: the platform behind one instance, as far as its profile or the SDK lets us at it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from openshell_drivers.conformance._caller import Transcript
from openshell_drivers.conformance._instances import Instance
from openshell_drivers.conformance._outcomes import Blocked, NotTestable
from openshell_drivers.conformance._profile import BackendProfile
from openshell_drivers.conformance._verbs import VerbFailed, run_verb

#: Which verbs a need of a check stands for.
_VERBS: Final = {
    "outage": ("outage_begin", "outage_end"),
    "slow": ("slow", "fast"),
    "remove": ("remove",),
    "resources": ("list_resources",),
    "foreign": ("foreign",),
    "workload": ("workload",),
    "credential": ("credential",),
    "exit_main": ("exit_main",),
}
#: What the SDK's test switch can do for a driver that is built on it.
_SWITCHED: Final = frozenset({"outage", "slow"})


class Backend:
    """Runs verbs. Every one that is begun here is ended here."""

    def __init__(self, profile: BackendProfile, instance: Instance, transcript: Transcript) -> None:
        self._profile = profile
        self._instance = instance
        self._transcript = transcript

    def can(self, need: str) -> bool:
        """Whether a need is met, by the profile or by the SDK's test switch."""
        return self._given(need) or self._switched(need)

    def _given(self, need: str) -> bool:
        return all(getattr(self._profile, verb) for verb in _VERBS[need])

    def _switched(self, need: str) -> bool:
        return need in _SWITCHED and self._instance.target.kind == "driver"

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        """Have the platform out of reach for as long as the context is open."""
        await self._begin("outage", {"outage": True}, {})
        try:
            yield
        finally:
            await self._end("outage")

    @asynccontextmanager
    async def slow(self, seconds: float) -> AsyncIterator[None]:
        """Have every access to the platform take that much longer."""
        await self._begin("slow", {"delay": seconds}, {"seconds": seconds})
        try:
            yield
        finally:
            await self._end("slow")

    async def _begin(self, need: str, switch: dict[str, Any], words: dict[str, Any]) -> None:
        self._transcript.note("backend", f"{need} begins")
        if self._given(need):
            await self._run(_VERBS[need][0], words)
        elif self._switched(need):
            self._write(switch)
        else:
            raise NotTestable(f"no backend verbs {' and '.join(_VERBS[need])}")

    async def _end(self, need: str) -> None:
        if self._given(need):
            try:
                await self._run(_VERBS[need][1], {})
            except Blocked:
                if self._instance.running:
                    raise
                # A backend that ends with its driver cannot be told any more.
        else:
            self._write({})
        self._transcript.note("backend", f"{need} ends")

    def _write(self, switch: dict[str, Any]) -> None:
        part = self._instance.switch.with_suffix(".part")
        part.write_text(json.dumps(switch))
        part.replace(self._instance.switch)

    async def remove(self, sandbox_id: str, name: str, workspace: str) -> None:
        """Remove a sandbox behind the driver's back."""
        self._transcript.note("backend", "a sandbox is removed behind the driver's back")
        await self._run("remove", {"id": sandbox_id, "name": name, "workspace": workspace})

    async def resources(self) -> list[str]:
        """Everything that exists at the platform because of this driver."""
        answer = await self._run("list_resources", {})
        return sorted(map(str, answer.get("resources", [])))

    async def foreign(self) -> None:
        """Make something on the platform that is not the driver's."""
        self._transcript.note("backend", "a stranger makes something on the platform")
        await self._run("foreign", {})

    async def workload(self, sandbox_id: str) -> dict[str, Any]:
        """What a sandbox's software was given: environment, command, tty."""
        return await self._run("workload", {"id": sandbox_id})

    async def credential(self, sandbox_id: str) -> str:
        """A sandbox's own credential."""
        answer = await self._run("credential", {"id": sandbox_id})
        return str(answer.get("credential", ""))

    async def exit_main(self, sandbox_id: str) -> None:
        """End a sandbox's main process."""
        self._transcript.note("backend", "the main process ends")
        await self._run("exit_main", {"id": sandbox_id})

    async def _run(self, verb: str, words: dict[str, Any]) -> dict[str, Any]:
        command = getattr(self._profile, verb)
        if not command:
            raise NotTestable(f"no backend verb {verb}")
        instance, timeout = self._instance, self._profile.timeout
        try:
            return await run_verb(
                verb, command, words, instance.fill, instance.environment(), timeout
            )
        except VerbFailed as error:
            raise Blocked(str(error)) from None
