"""`Folder`: the directory in which a `Process` driver keeps its sandboxes, one directory each.

Everything here blocks. A sandbox's directory appears with its record in it, by a rename, and the
record is the last thing to go: there is no half of one. Names with ``~`` are on their way in or
out; no sandbox's id has one.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

from openshell_drivers import AlreadyExists, ConfigError, Secret, Unavailable
from openshell_drivers.reference import _keeper

TOKEN: Final = "token"
SUPERVISOR: Final = "supervisor.json"
WORKLOAD: Final = "workload.json"
RECORD: Final = "record.json"
PASSING: Final = "~"
_SECRETS: Final = (TOKEN, SUPERVISOR, WORKLOAD, _keeper.LAUNCH)

Phase = Literal["running", "stopping", "stopped", "deleting"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is known of a sandbox over a restart. No secrets, and none of its environment."""

    id: str
    name: str
    workspace: str
    mark: str
    phase: Phase = "running"
    run: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What a keeper needs to run the command; its environment may hold a user's secrets."""

    command: tuple[str, ...]
    tty: bool
    environment: Mapping[str, str]
    delay: float = 0.0
    """Seconds until the command begins."""


class Folder:
    """The directory as it was when the driver began. Methods raise `Unavailable` without it."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    def of(self, sandbox_id: str) -> Path:
        """Where a sandbox is kept."""
        return self._path / sandbox_id

    def require(self) -> None:
        """Refuse to go on with another directory, or none, in its place."""
        try:
            same = os.path.samestat(self._path.stat(), os.fstat(self._descriptor))
        except OSError:
            same = False
        if not same:
            raise Unavailable("the root directory is not in its place")

    def ids(self) -> set[str]:
        """Find the sandboxes that are there, and be sure of those that are not."""
        self.require()
        try:
            names = {name for name in os.listdir(self._path) if PASSING not in name}  # noqa: PTH208
        except OSError as error:
            raise Unavailable(f"the root directory cannot be read (errno {error.errno})") from None
        self.require()
        return names

    def records(self) -> list[Record]:
        """Read all. Raises `ConfigError` for one that is damaged: a list without it would be a
        list of the others (COMP-LIST-02)."""
        found = []
        for sandbox_id in sorted(self.ids()):
            try:
                text = (self.of(sandbox_id) / RECORD).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                continue  # not made by a driver
            try:
                found.append(Record(**json.loads(text)))
            except (ValueError, TypeError):
                raise ConfigError(f"root: the record of {sandbox_id!r} is damaged") from None
        return found

    def add(self, record: Record, launch: Launch, files: Mapping[str, Secret]) -> None:
        """Make a sandbox's directory, with all that belongs to it, at once. Raises
        `AlreadyExists`."""
        self.require()
        staged = self._staged(record.id)
        remove_tree(staged)
        staged.mkdir(mode=0o700)
        (staged / _keeper.WORKSPACE).mkdir(mode=0o700)
        _write_launch(staged, launch)
        _write_secrets(staged, files)
        _write(staged / RECORD, json.dumps(asdict(record)))
        _sync(staged)
        try:
            staged.rename(self.of(record.id))
        except OSError:
            remove_tree(staged)
            if self.of(record.id).exists():
                raise AlreadyExists("the directory of this sandbox is there already") from None
            raise
        os.fsync(self._descriptor)

    def write(self, record: Record) -> None:
        """Replace a sandbox's record; on disk when this returns."""
        self.require()
        folder = self.of(record.id)
        _write(folder / RECORD, json.dumps(asdict(record)))
        _sync(folder)

    def launch(self, sandbox_id: str) -> Launch:
        """Read what the run before was launched with."""
        self.require()
        return Launch(**json.loads((self.of(sandbox_id) / _keeper.LAUNCH).read_bytes()))

    def renew(self, sandbox_id: str, launch: Launch, files: Mapping[str, Secret]) -> None:
        """Prepare another run, with these files in place of those that came with a start before.

        The sandbox's token, which comes only once, stays.
        """
        self.require()
        folder = self.of(sandbox_id)
        for name in (SUPERVISOR, WORKLOAD):
            (folder / name).unlink(missing_ok=True)
        _write_launch(folder, launch)
        _write_secrets(folder, files)

    def remove(self, sandbox_id: str) -> None:
        """Remove a sandbox's directory: secrets first, the record last."""
        self.require()
        folder = self.of(sandbox_id)
        for name in _SECRETS:
            (folder / name).unlink(missing_ok=True)
        for each in folder.iterdir():
            if each.name != RECORD:
                remove_tree(each)
        staged = self._staged(sandbox_id)
        remove_tree(staged)
        folder.rename(staged)
        remove_tree(staged)
        os.fsync(self._descriptor)

    def discard(self, sandbox_id: str) -> bool:
        """Remove what a failed `add` has left; say whether there was anything."""
        self.require()
        staged = self._staged(sandbox_id)
        existed = staged.exists()
        remove_tree(staged)
        return existed

    def tidy(self) -> None:
        """Remove what was on its way in or out when a driver was killed."""
        for each in self._path.iterdir():
            if each.name.endswith(PASSING):
                with suppress(OSError):  # in nobody's way
                    remove_tree(each)

    def _staged(self, sandbox_id: str) -> Path:
        return self._path / f"{sandbox_id}{PASSING}"


@contextmanager
def open_folder(path: Path) -> Iterator[Folder]:
    """Open the directory, made with mode 0700 if it is not there (its parent must be).

    Only for one driver at a time: the kernel frees it when that one ends in any way. Raises
    `ConfigError` if it cannot be used, or is open to others than its owner.
    """
    path = path.absolute()
    try:
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(f"root: {type(error).__name__}") from None
    try:
        _require_private(descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError("root: another driver uses this directory") from None
        yield Folder(path, descriptor)
    finally:
        os.close(descriptor)


def new_mark() -> str:
    """Make what the processes of one sandbox are known by."""
    return secrets.token_hex(16)


def _require_private(descriptor: int) -> None:
    status = os.fstat(descriptor)
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise ConfigError("root: must be the driver's own, with mode 0700")


def _write_launch(folder: Path, launch: Launch) -> None:
    _write(folder / _keeper.LAUNCH, json.dumps(asdict(launch)))


def _write_secrets(folder: Path, files: Mapping[str, Secret]) -> None:
    for name, secret in files.items():
        _write(folder / name, secret.reveal())


def _write(path: Path, text: str) -> None:
    """Replace a file, with mode 0600, by one that is whole."""
    staged = path.with_name(f"{path.name}{PASSING}")
    staged.unlink(missing_ok=True)
    descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    staged.replace(path)


def _sync(folder: Path) -> None:
    """Have what was made, replaced or removed in a directory so on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_tree(path: Path) -> None:
    """Remove a file or a directory, if it is there, whatever the modes of what is in it."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(status.st_mode):
        path.unlink()
        return
    path.chmod(0o700)
    for folder, names, _ in os.walk(path):
        for name in names:
            each = Path(folder) / name
            if not each.is_symlink():
                each.chmod(0o700)
    shutil.rmtree(path)
