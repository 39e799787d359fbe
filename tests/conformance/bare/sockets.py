"""`SocketPlace`: the path of the socket, claimed and given back (COMP-SOCK-02, -04, -05).

grpcio takes over live sockets, follows the umask and removes its successor's socket. So it binds in
a private directory beside the path, and the socket is renamed to its place when it can answer.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.conformance.bare.errors import CannotServe

_LONGEST: Final = 107
_PREFIX: Final = ".bare-"
_NAME: Final = "s"
_BEHIND: Final = "g"


class SocketPlace:
    """Claims a path, publishes a socket there, withdraws it. Every rule is a method."""

    mode = 0o600
    directory_mode = 0o700
    probe_seconds = 1.0

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.private: Path | None = None
        self._handle = -1
        self._published = -1

    def claim(self) -> str:
        """Check everything and give the address to bind to; raises `CannotServe`."""
        try:
            self.check_path()
            self.make_directory()
            self.check_directory(self.path.parent.lstat())
            self.check_free()
            self.sweep()
            self.make_private()
        except OSError as error:
            raise CannotServe(f"cannot use {self.path}: {os.strerror(error.errno or 0)}") from None
        # Short whatever the path's length, and worth nothing to another process.
        return f"unix:{self.behind}"

    @property
    def behind(self) -> Path:
        """Where the server itself listens, seen from this process alone."""
        return Path(f"/proc/self/fd/{self._handle}/{_BEHIND}")

    @property
    def before(self) -> Path:
        """Where the relay listens that is to be published."""
        return Path(f"/proc/self/fd/{self._handle}/{_NAME}")

    def check_path(self) -> None:
        """Refuse what no client could dial."""
        if len(os.fsencode(self.path)) > _LONGEST or "%" in str(self.path):
            raise CannotServe(f"socket path {self.path} is too long or has a '%' in it")

    def make_directory(self) -> None:
        """Make the directory if there is none; a symbolic link is not followed."""
        parent = self.path.parent
        if not parent.is_symlink() and not parent.exists():
            parent.mkdir(parents=True, mode=self.directory_mode)
            parent.chmod(self.directory_mode)  # mkdir follows the umask

    def check_directory(self, status: os.stat_result) -> None:
        """Whoever may write there may put another socket in the place of ours."""
        if not stat.S_ISDIR(status.st_mode):
            raise CannotServe(f"{self.path.parent} is a symbolic link or no directory")
        if status.st_uid != os.geteuid():
            raise CannotServe(f"{self.path.parent} belongs to another user")
        if stat.S_IMODE(status.st_mode) & 0o777 & ~self.directory_mode:
            raise CannotServe(f"{self.path.parent} is open to others; it must have mode 0700")

    def check_free(self) -> None:
        """Nothing may be in the way but a stale socket of our own."""
        try:
            status = self.path.lstat()
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(status.st_mode):
            raise CannotServe(f"{self.path} exists and is not a socket; not touched")
        if status.st_uid != os.geteuid():
            raise CannotServe(f"{self.path} is a socket of another user; not touched")
        if self.is_live():
            raise CannotServe(f"another server listens on {self.path}; not touched")

    def is_live(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(self.probe_seconds)
            try:
                probe.connect(str(self.path))
            except (ConnectionRefusedError, FileNotFoundError):
                return False
            except OSError:
                return True  # a full backlog: somebody is there
            return True

    def make_private(self) -> None:
        """Make the place to bind in."""
        self.private = self.path.parent / f"{_PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
        self.private.mkdir(mode=0o700)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        self._handle = os.open(self.private, flags)

    def sweep(self) -> None:
        """Remove the private places of processes that were killed before they published."""
        for found in self.path.parent.glob(f"{_PREFIX}*-*"):
            pid = found.name.removeprefix(_PREFIX).partition("-")[0]
            if pid.isdecimal() and not Path(f"/proc/{pid}").exists():
                with contextlib.suppress(OSError):
                    for name in (_NAME, _BEHIND):
                        (found / name).unlink(missing_ok=True)
                    found.rmdir()

    def publish(self) -> None:
        """Let the socket appear, with its mode, now that it can answer."""
        assert self.private is not None
        bound = self.private / _NAME
        try:
            bound.chmod(self.mode)
            with self.locked():
                self.check_free()
                # While it is open, no other socket can get the number of this inode.
                self._published = os.open(bound, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
                bound.rename(self.path)
            (self.private / _BEHIND).unlink()
            self.private.rmdir()
        except OSError as error:
            raise CannotServe(f"cannot use {self.path}: {os.strerror(error.errno or 0)}") from None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Two servers never look and rename at once."""
        handle = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def withdraw(self) -> None:
        """Remove the socket if it is still ours, and the private place."""
        with contextlib.suppress(OSError):
            if self._published >= 0:
                with self.locked():
                    if os.path.samestat(self.path.lstat(), os.fstat(self._published)):
                        self.path.unlink()
        with contextlib.suppress(OSError):
            if self.private is not None:
                for name in (_NAME, _BEHIND):
                    (self.private / name).unlink(missing_ok=True)
                self.private.rmdir()
