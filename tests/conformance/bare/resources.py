"""`Resources`: the sandboxes that the simulated platform holds, and how they change by themselves.

Nothing here waits. Starting, stopping and removing take until `due`; `advance` does what is due,
whichever process calls it, so a driver that was killed in between finds nothing stuck.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tests.conformance.bare.ledger import Ledger

STARTING: Final = "starting"
RUNNING: Final = "running"
FAILED: Final = "failed"
EXITED: Final = "exited"
STOPPING: Final = "stopping"
STOPPED: Final = "stopped"
DELETING: Final = "deleting"
UNPULLABLE: Final = "bare/unpullable"
SLOW: Final = "bare/slow"
REFUSED: Final = "bare/refused"
#: What the condition Ready says in each state; its time is that of the last change here.
READY: Final = {
    STARTING: "False",
    RUNNING: "True",
    FAILED: "False",
    EXITED: "False",
    STOPPING: "Unknown",
    STOPPED: "",
    DELETING: "Unknown",
}


@dataclass(frozen=True, kw_only=True)
class Resource:
    """One sandbox as the platform sees it."""

    id: str
    uid: str
    """Of the durable object: a sandbox made again under an old id has another."""
    name: str
    workspace: str
    image: str
    managed: int
    """0 for what others made on the same platform."""
    state: str
    since: float
    due: float | None
    instance: int
    generation: str
    rev: int


@dataclass(frozen=True, kw_only=True)
class Change:
    """What happened to an id: it looks like this now, or it is gone."""

    id: str
    rev: int
    at: float
    resource: Resource | None


class Resources:
    """All sandboxes of the platform."""

    ready_seconds = 0.05
    slow_seconds = 3.0
    stop_seconds = 0.01
    delete_seconds = 0.03

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def get(self, sandbox_id: str) -> Resource | None:
        row = self.ledger.row("SELECT * FROM resources WHERE id = ?", sandbox_id)
        return None if row is None else _resource(row)

    def all(self) -> list[Resource]:
        return list(map(_resource, self.ledger.rows("SELECT * FROM resources ORDER BY id")))

    def changes(self, after: int) -> list[Change]:
        """What changed after a revision, in order."""
        live = self.ledger.rows("SELECT * FROM resources WHERE rev > ?", after)
        gone = self.ledger.rows("SELECT id, rev, at FROM tombstones WHERE rev > ?", after)
        found = [
            Change(id=row["id"], rev=row["rev"], at=row["since"], resource=_resource(row))
            for row in live
        ]
        found += [Change(id=r["id"], rev=r["rev"], at=r["at"], resource=None) for r in gone]
        return sorted(found, key=lambda change: change.rev)

    def create(
        self, sandbox_id: str, name: str, workspace: str, image: str, workload: Mapping[str, Any]
    ) -> Resource | None:
        """Begin to make a sandbox; None if there is one with this id."""
        return self._insert(sandbox_id, name, workspace, image, json.dumps(workload), managed=1)

    def create_foreign(self, sandbox_id: str) -> None:
        """Make something on the platform that is not the driver's."""
        self._insert(sandbox_id, f"foreign-{sandbox_id}", "", "foreign", "{}", managed=0)

    def _insert(
        self, sandbox_id: str, name: str, workspace: str, image: str, body: str, *, managed: int
    ) -> Resource | None:
        seconds = self.slow_seconds if image == SLOW else self.ready_seconds
        now, uid = time.time(), secrets.token_hex(8)
        with self.ledger.writing():
            made = self.ledger.execute(
                "INSERT OR IGNORE INTO resources VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 1, '', ?)",
                *(sandbox_id, uid, name, workspace, image, managed, STARTING, now, now + seconds),
                self.ledger.next_rev(),
            )
            if made:
                self.ledger.execute("INSERT INTO workloads VALUES (?, ?)", sandbox_id, body)
        return self.get(sandbox_id) if made else None

    def begin_start(self, sandbox_id: str, generation: str) -> None:
        """Begin a new run of the same object."""
        self._move(sandbox_id, STARTING, self.ready_seconds, generation=generation, run=1)

    def note_generation(self, sandbox_id: str, generation: str) -> None:
        """Remember the start that found it running."""
        query = "UPDATE resources SET generation = ? WHERE id = ?"
        self.ledger.execute(query, generation, sandbox_id)

    def begin_stop(self, sandbox_id: str) -> None:
        self._move(sandbox_id, STOPPING, self.stop_seconds)

    def begin_delete(self, sandbox_id: str) -> None:
        self._move(sandbox_id, DELETING, self.delete_seconds)

    def exit_main(self, sandbox_id: str) -> None:
        """The main process ends by itself; nobody starts it again (COMP01-START-03)."""
        self._move(sandbox_id, EXITED, None)

    def _move(
        self,
        sandbox_id: str,
        state: str,
        seconds: float | None,
        *,
        generation: str = "",
        run: int = 0,
    ) -> None:
        now = time.time()
        due = None if seconds is None else now + seconds
        with self.ledger.writing():
            before = self.get(sandbox_id)
            if before is None:
                return
            since = before.since if READY[before.state] == READY[state] else now
            if not generation and state != STOPPING:  # a stop ends it, so that it can be retried
                generation = before.generation
            self.ledger.execute(
                "UPDATE resources SET state = ?, since = ?, due = ?, generation = ?,"
                " instance = instance + ?, rev = ? WHERE id = ?",
                *(state, since, due, generation, run, self.ledger.next_rev(), sandbox_id),
            )

    def remove(self, sandbox_id: str) -> None:
        """Take it away with all that belongs to it."""
        with self.ledger.writing():
            found = self.get(sandbox_id)
            self.ledger.execute("DELETE FROM resources WHERE id = ?", sandbox_id)
            self.ledger.execute("DELETE FROM workloads WHERE id = ?", sandbox_id)
            if found is not None and found.managed:
                self.ledger.execute(
                    "INSERT OR REPLACE INTO tombstones VALUES (?, ?, ?)",
                    *(sandbox_id, time.time(), self.ledger.next_rev()),
                )

    def advance(self) -> float | None:
        """Do what is due; gives the time of what is due next."""
        now = time.time()
        if (soonest := self._soonest()) is not None and soonest <= now:
            due = "SELECT * FROM resources WHERE due <= ? ORDER BY due"
            with self.ledger.writing():  # looked at again, since another process may be first
                for row in self.ledger.rows(due, now):
                    self.finish(_resource(row))
            soonest = self._soonest()
        return soonest

    def _soonest(self) -> float | None:
        row = self.ledger.row("SELECT min(due) FROM resources")
        return None if row is None else row[0]

    def finish(self, resource: Resource) -> None:
        """What was begun is done."""
        if resource.state == STARTING:
            self._move(resource.id, self.outcome(resource), None)
        elif resource.state == STOPPING:
            self._move(resource.id, STOPPED, None)
        elif resource.state == DELETING:
            self.remove(resource.id)

    def outcome(self, resource: Resource) -> str:
        """How a start ends."""
        return FAILED if resource.image == UNPULLABLE else RUNNING

    def workload(self, sandbox_id: str) -> dict[str, Any] | None:
        """What the workload was given: environment, command, labels and the like."""
        row = self.ledger.row("SELECT body FROM workloads WHERE id = ?", sandbox_id)
        return None if row is None else json.loads(row["body"])

    def credential(self, resource: Resource) -> str:
        """What a sandbox shows to prove who it is (COMP01-AUTH-03)."""
        text = f"{resource.id}\0{resource.uid}".encode()
        return f"{resource.id}:{hmac.new(self.ledger.key, text, hashlib.sha256).hexdigest()}"


def _resource(row: sqlite3.Row) -> Resource:
    return Resource(**dict(zip(row.keys(), row, strict=True)))
