"""`sweep`: remove what a run that was killed has left behind, by its ledger."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from google.protobuf.message import Message
from pydantic import ValidationError

from openshell_drivers._services.names import COMPUTE, CREDENTIAL_STORE
from openshell_drivers._wire import compute_driver_pb2 as compute
from openshell_drivers._wire import credential_driver_pb2 as store
from openshell_drivers.conformance._caller import Caller, Transcript, channel_to
from openshell_drivers.conformance._instances import Instance, TargetNotReady, accepts, began_at
from openshell_drivers.conformance._ledger import Ledger, ledgers, read_ledger
from openshell_drivers.conformance._profile import Profile
from openshell_drivers.conformance._request import TargetRequest
from openshell_drivers.settings import inherited
from openshell_drivers.testing.gateway import PRESETS

_GONE: Final = 60.0
FRONT: Final = "osd-run-"
"""How the folder of a front is called."""
_Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """One run that did not finish."""

    run: str
    path: Path
    """Its ledger."""
    began: float
    """Seconds since the epoch."""
    folder: Path
    events: Path
    """What its front was reading, in a folder of the front's own."""
    target: TargetRequest
    profile: Profile
    processes: tuple[int, ...]
    """Drivers that still live."""
    sandboxes: tuple[_Row, ...]
    """Created, and not seen gone."""
    credentials: tuple[_Row, ...]

    def __str__(self) -> str:
        parts = [
            f"{len(self.processes)} processes",
            f"{len(self.sandboxes)} sandboxes",
            f"{len(self.credentials)} stored credentials",
        ]
        return f"{self.run} at {self.target.read_as}: " + ", ".join(parts)


def leftovers(folder: Path) -> tuple[list[Leftover], list[Path]]:
    """Find the runs that did not finish, oldest first, and the ledgers that cannot be read.

    A run that still runs is none of them.
    """
    found: list[Leftover] = []
    strange: list[Path] = []
    for path in ledgers(folder):
        try:
            leftover = _read(path)
        except (KeyError, ValidationError):
            strange.append(path)
            continue
        if leftover is not None:
            found.append(leftover)
    return sorted(found, key=lambda each: each.began), strange


def _read(path: Path) -> Leftover | None:
    rows = read_ledger(path)
    head = next((row for row in rows if row["step"] == "run"), None)
    if head is None or began_at(head["engine"]) == head["began"]:
        return None
    gone = {row["id"] for row in rows if row["step"] == "gone"}
    removed = {row["handle"] for row in rows if row["step"] == "removed"}
    return Leftover(
        run=path.stem,
        path=path,
        began=path.stat().st_mtime,
        folder=Path(head["folder"]),
        events=Path(head["events"]),
        target=TargetRequest.model_validate(
            {**head["target"], "environment": inherited(head["environment"])}
        ),
        profile=Profile.model_validate(head["profile"]),
        processes=tuple(
            row["pid"]
            for row in rows
            if row["step"] == "process" and row["began"] and began_at(row["pid"]) == row["began"]
        ),
        sandboxes=tuple(r for r in rows if r["step"] == "create" and r["id"] not in gone),
        credentials=tuple(r for r in rows if r["step"] == "store" and r["handle"] not in removed),
    )


async def sweep(leftover: Leftover) -> list[str]:
    """End its processes, delete its sandboxes and credentials, drop its folder and its ledger.

    Gives what could not be done; then the ledger stays, for another try.
    """
    for pid in leftover.processes:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
    problems: list[str] = []
    for socket, rows in _by_socket([*leftover.sandboxes, *leftover.credentials]).items():
        problems += await _at(leftover, socket, rows)
    problems += await _tear_down(leftover)
    if not problems:
        shutil.rmtree(leftover.folder, ignore_errors=True)
        if leftover.events.parent.name.startswith(FRONT):
            shutil.rmtree(leftover.events.parent, ignore_errors=True)
        leftover.path.unlink(missing_ok=True)
    return problems


async def _tear_down(leftover: Leftover) -> list[str]:
    """Have the backends removed that the run has made, where the profile says how."""
    target, problems = leftover.target.target(), []
    if target.attached or not leftover.folder.exists():
        return []
    ledger = Ledger(leftover.path.parent, leftover.run)
    for home in sorted(each for each in leftover.folder.iterdir() if (each / "keep").is_dir()):
        instance = Instance(target, leftover.profile, home, ledger)
        await instance.tear_down()
        if instance.unclean:
            problems.append(instance.unclean)
    ledger.close(clean=False)
    return problems


def _by_socket(rows: Sequence[_Row]) -> dict[Path, list[_Row]]:
    found: dict[Path, list[_Row]] = defaultdict(list)
    for row in rows:
        found[Path(row["socket"])].append(row)
    return found


async def _at(leftover: Leftover, socket: Path, rows: Sequence[_Row]) -> list[str]:
    """Remove what was made at one socket, with a driver started anew where it was ours."""
    target = leftover.target.target()
    home = leftover.folder if target.attached else socket.parent.parent
    if not home.exists():
        return []  # its backend was in there
    ledger = Ledger(leftover.path.parent, leftover.run)
    instance = Instance(target, leftover.profile, home, ledger)
    if instance.torn_down:
        ledger.close(clean=False)
        return []
    if not target.attached:
        _drop_stale(socket)
    try:
        await instance.start()
        return await _remove(socket, rows, leftover.profile)
    except TargetNotReady as error:
        return [f"the driver cannot be started to clean up: {error}"]
    finally:
        await instance.close()
        ledger.close(clean=False)


def _drop_stale(socket: Path) -> None:
    """Remove a socket that nobody serves: not every driver replaces its own."""
    if not accepts(socket):
        socket.unlink(missing_ok=True)


async def _remove(socket: Path, rows: Sequence[_Row], profile: Profile) -> list[str]:
    preset = PRESETS["0.1-latest"]
    channel = channel_to(socket, preset.authority)
    transcript = Transcript(lambda text: text)
    try:
        one = Caller(channel, COMPUTE, preset, transcript)
        two = Caller(channel, CREDENTIAL_STORE, preset, transcript)
        steps = [
            _sandbox(one, row) if row["step"] == "create" else _stored(two, row) for row in rows
        ]
        return [problem for problem in await asyncio.gather(*steps) if problem]
    finally:
        await channel.close(None)


async def _sandbox(caller: Caller, row: _Row) -> str:
    deadline = time.monotonic() + _GONE
    request = compute.DeleteSandboxRequest(sandbox_id=row["id"], name=row["name"])
    look = compute.GetSandboxRequest(sandbox_id=row["id"], name=row["name"])
    while True:
        reply = await caller.ask("DeleteSandbox", request, compute.DeleteSandboxResponse)
        seen = await caller.ask("GetSandbox", look, compute.GetSandboxResponse)
        if (reply.ok and not reply.answer.deleted) or seen.code in {
            "NOT_FOUND",
            "INVALID_ARGUMENT",
        }:
            return ""
        if time.monotonic() > deadline:
            return f"sandbox {row['name']} ({row['id']}): {reply}"
        await asyncio.sleep(0.1)


async def _stored(caller: Caller, row: _Row) -> str:
    request = store.DeleteCredentialRequest(
        provider=row["provider"],
        credential_key=row["key"],
        workspace=row["workspace"],
        provider_id=row["provider_id"],
    )
    request.handle.handle = row["handle"]
    request.handle.metadata.update(row["metadata"])
    answer: type[Message] = store.DeleteCredentialResponse
    reply = await caller.ask("DeleteCredential", request, answer, deadline=30)
    return "" if reply.ok else f"credential {row['provider']}/{row['key']}: {reply}"
