"""The reference drivers as the platforms of a test: served, killed, blinded, robbed."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psutil

from openshell_drivers import ComputeDriver, SandboxFeed, SandboxSpec
from openshell_drivers.compute import ComputeResources, SandboxTemplate
from openshell_drivers.reference.memory import Memory, MemoryConfig
from openshell_drivers.reference.process import Process, ProcessConfig


class SwitchableMemory(Memory):
    """`Memory` whose platform can be out of sight."""

    async def observe(self, feed: SandboxFeed) -> None:
        self.feed = feed
        await super().observe(feed)

    def vanish(self) -> None:
        self.feed.blind("switched off")

    async def appear(self) -> None:
        self.feed.replace(await self.list_sandboxes())


class Platform(ABC):
    """One reference driver, and what can happen to its platform."""

    name: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    def driver(self) -> ComputeDriver[Any]:
        """Build it, for a server in this process."""

    @abstractmethod
    def arguments(self) -> list[str]:
        """What ``openshell-drivers run`` needs, for a process of its own."""

    @abstractmethod
    def outage(self) -> Any:
        """Take the platform out of sight for as long as the context is open."""

    @abstractmethod
    def rob(self, sandbox_id: str) -> None:
        """Take a sandbox away behind the driver's back."""

    #: a wish that the platform refuses, and what its user reads of why
    refused: Mapping[str, Any]
    refusal: str


class MemoryPlatform(Platform):
    name = "memory"
    refused = MappingProxyType({"image": "memory/refused"})
    refusal = "refused on purpose"

    def driver(self) -> ComputeDriver[Any]:
        self._driver = SwitchableMemory(MemoryConfig(ready_seconds=0.02))
        return self._driver

    def arguments(self) -> list[str]:
        return ["memory", "--set", f"state={self.folder}/state.db", "--set", "ready_seconds=0.02"]

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        self._driver.vanish()
        yield
        await self._driver.appear()

    def rob(self, sandbox_id: str) -> None:
        self._driver.lose(sandbox_id)


class ProcessPlatform(Platform):
    name = "process"
    refused = MappingProxyType(
        {
            "spec": SandboxSpec(
                id="",
                name="",
                template=SandboxTemplate(resources=ComputeResources(cpu_limit="1")),
            )
        }
    )
    refusal = "cpu_limit"

    @property
    def root(self) -> Path:
        return self.folder / "root"

    def driver(self) -> ComputeDriver[Any]:
        return Process(ProcessConfig(root=self.root))

    def arguments(self) -> list[str]:
        return ["process", "--set", f"root={self.root}"]

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        elsewhere = self.root.with_name("elsewhere")
        self.root.rename(elsewhere)
        yield
        elsewhere.rename(self.root)

    def rob(self, sandbox_id: str) -> None:
        (self.root / sandbox_id).rename(self.folder / "stolen")

    def kill(self, sandbox_id: str) -> None:
        """Kill a sandbox's main process, as somebody with a shell would."""
        workspace = str(self.root / sandbox_id / "workspace")
        for process in psutil.process_iter(["cwd"]):
            if process.info["cwd"] == workspace:
                process.kill()
                return
        raise AssertionError("its main process is not there")


def sweep(folder: Path) -> None:
    """Kill whatever runs below a folder: sandboxes outlive their driver."""
    for process in psutil.process_iter(["cwd", "cmdline"]):
        words = [process.info["cwd"] or "", *(process.info["cmdline"] or [])]
        if any(word == str(folder) or word.startswith(f"{folder}/") for word in words):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


PLATFORMS = {kind.name: kind for kind in (MemoryPlatform, ProcessPlatform)}
