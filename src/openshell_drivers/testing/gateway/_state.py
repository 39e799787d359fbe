"""Records in a file, from one life of a gateway to the next. No token is in it.

Users' environments are: the file is its owner's alone.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Final, cast, get_args

from openshell_drivers.compute import (
    Condition,
    GpuRequest,
    SandboxSpec,
    SandboxStatus,
    SandboxTemplate,
    WorkloadIdentity,
)
from openshell_drivers.errors import ConfigError
from openshell_drivers.testing.gateway._phases import Phase
from openshell_drivers.testing.gateway._table import Record

_VERSION: Final = 1


def load(path: Path) -> list[Record]:
    """Read the records; none if there is no file. `ConfigError` for a file of something else."""
    try:
        return [_record(each) for each in _read(path)]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError("--state: the file does not hold a gateway's records") from None


def save(path: Path, records: Iterable[Record], gone: Iterable[str]) -> None:
    """Write the records, in place of those with their ids or names, and forget the ids in `gone`.

    What another gateway has written there of other sandboxes stays.
    """
    ours = {record.id: record for record in records}
    names = {(record.workspace, record.name) for record in ours.values()}
    lost = set(gone)
    with _locked(path.parent):
        kept = []
        with suppress(ValueError, KeyError, TypeError, AttributeError):
            for raw in _read(path):
                other = raw["id"] not in ours and raw["id"] not in lost
                if other and (raw["workspace"], raw["name"]) not in names:
                    kept.append(raw)
        table = kept + [_plain(record) for record in ours.values()]
        _replace(path, json.dumps({"version": _VERSION, "sandboxes": table}, indent=1))


def _read(path: Path) -> list[Mapping[str, Any]]:
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return []
    whole = json.loads(text)
    if whole["version"] != _VERSION:
        raise ValueError("another version")
    return list(whole["sandboxes"])


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other writers out for a moment, without a file that stays."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _replace(path: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _plain(record: Record) -> dict[str, Any]:
    return {
        "id": record.id,
        "name": record.name,
        "workspace": record.workspace,
        "phase": record.phase,
        "reason": record.reason,
        "message": record.message,
        "since": record.since.isoformat(),
        "created": record.created.isoformat(),
        "runtime_identity": record.runtime_identity,
        "generation": record.generation,
        "conditions": [] if record.status is None else _conditions(record.status),
        "spec": None if record.spec is None else _plain_spec(record.spec),
    }


def _conditions(status: SandboxStatus) -> list[list[str]]:
    return [[each.type, each.status, each.reason, each.message] for each in status.conditions]


def _plain_spec(spec: SandboxSpec) -> dict[str, Any]:
    """Keep what the command line can ask for, and what a gateway adds."""
    identity = spec.workload_identity
    return {
        "image": spec.template.image,
        "environment": dict(spec.environment),
        "command": list(spec.command),
        "tty": spec.tty,
        "gpu": None if spec.gpu is None else {"count": spec.gpu.count, "device": spec.gpu.device},
        "policy": spec.policy.hex(),
        "identity": None if identity is None else [identity.user, identity.group],
    }


def _record(raw: Mapping[str, Any]) -> Record:
    if raw["phase"] not in get_args(Phase):
        raise ValueError("not a phase")
    conditions = tuple(
        Condition(type=kind, status=status, reason=reason, message=message)
        for kind, status, reason, message in raw["conditions"]
    )
    return Record(
        id=str(raw["id"]),
        name=str(raw["name"]),
        workspace=str(raw["workspace"]),
        phase=cast("Phase", raw["phase"]),
        reason=str(raw["reason"]),
        message=str(raw["message"]),
        since=datetime.fromisoformat(raw["since"]),
        created=datetime.fromisoformat(raw["created"]),
        runtime_identity=str(raw["runtime_identity"]),
        generation=str(raw["generation"]),
        status=SandboxStatus(conditions=conditions) if conditions else None,
        spec=None if raw["spec"] is None else _spec(raw, raw["spec"]),
    )


def _spec(raw: Mapping[str, Any], spec: Mapping[str, Any]) -> SandboxSpec:
    gpu, identity = spec["gpu"], spec["identity"]
    return SandboxSpec(
        id=str(raw["id"]),
        name=str(raw["name"]),
        workspace=str(raw["workspace"]),
        template=SandboxTemplate(image=str(spec["image"])),
        environment={str(key): str(value) for key, value in spec["environment"].items()},
        command=tuple(map(str, spec["command"])),
        tty=bool(spec["tty"]),
        gpu=None if gpu is None else GpuRequest(count=gpu["count"], device=str(gpu["device"])),
        policy=bytes.fromhex(spec["policy"]),
        workload_identity=None
        if identity is None
        else WorkloadIdentity(user=identity[0], group=identity[1]),
    )
