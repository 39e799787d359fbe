"""Claim a Unix socket path safely, publish a listening socket under it, and give it back.

grpcio takes over live sockets, removes its successor's and follows the umask, so it never sees the
real path: a server binds inside a private directory, and `Claim.publish` renames the socket to its
place when the service can answer. Knows nothing of gRPC.
"""

from __future__ import annotations

import contextlib
import fcntl
import grp
import logging
import os
import re
import secrets
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from openshell_drivers.errors import SocketError

_log: Final = logging.getLogger("openshell_drivers.socket")
_LONGEST: Final = 107  # sun_path holds 108 bytes, the last of them a zero
_PRIVATE: Final = ".openshell-"
_LEFTOVER: Final = re.compile(r"\.openshell-[0-9a-f]+-[0-9a-f]{8}")
_PROBE_SECONDS: Final = 1.0
_LOCK_SECONDS: Final = 2.0
_PIN: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LEFTOVER_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketPolicy:
    """Who may reach the socket."""

    group: int | str | None = None
    """A group, by number or name, that may connect too: the socket gets mode 0660 and that group,
    a directory made for it 0750. None: only the driver's own user, 0600 and 0700 (COMP-SOCK-05).
    There is no mode that lets everybody in."""
    allowed_uids: frozenset[int] | None = None
    """Strict peers: only processes of these users get a byte through, whatever the modes say
    (COMP-SOCK-06). Costs a relay in front of the server. None: the modes decide."""

    @property
    def mode(self) -> int:
        """The socket's mode."""
        return 0o600 if self.group is None else 0o660

    @property
    def directory_mode(self) -> int:
        """The mode of a directory that the server makes for the socket."""
        return 0o700 if self.group is None else 0o750

    def gid(self) -> int:
        """The group's number, -1 for none. Raises `SocketError` if there is no such group."""
        if self.group is None:
            return -1
        if isinstance(self.group, int):
            return self.group
        if self.group.isdecimal():
            return int(self.group)
        try:
            return grp.getgrnam(self.group).gr_gid
        except KeyError:
            raise SocketError(f"there is no group {self.group!r}") from None


def check_path(path: Path) -> None:
    """Refuse a path that no client could dial, who may stand in another directory."""
    if str(path).startswith("unix:"):
        raise SocketError(f"socket path {str(path)!r} is a gRPC target; give the path alone")
    raw = os.fsencode(path.absolute())
    if len(raw) > _LONGEST:
        raise SocketError(
            f"socket path {str(path)!r} has {len(raw)} bytes, the kernel's limit is {_LONGEST}"
        )
    if b"%" in raw:
        raise SocketError(f"socket path {str(path)!r} has a '%', which gRPC clients decode")
    if "\0" in str(path):
        raise SocketError(f"socket path {str(path)!r} has a NUL in it")
    if not path.name or path.name in {".", ".."}:
        raise SocketError(f"socket path {str(path)!r} names a directory")


@dataclass(slots=True)
class Claim:
    """A private place to bind in, and the right to publish what was bound.

    Made by `claim`. Between the two, nothing exists under the real path.
    """

    path: Path
    policy: SocketPolicy
    private: Path
    handle: int
    _published: int | None = field(default=None)
    """A descriptor of the published socket's inode: while it is open, no other socket can get the
    inode's number."""

    def bind_path(self, name: str) -> str:
        """Where to bind: a short path into the private directory, whatever the real one's length.

        It goes through this process's own descriptor, so it means nothing to another process, and
        a server that removes it on its way out can never meet a file it did not make.
        """
        return f"/proc/self/fd/{self.handle}/{name}"

    def publish(self, name: str) -> None:
        """Give a bound socket its mode and move it to the real path, atomically.

        Raises `SocketError` if a live socket is there, or anything that is not our own stale one.
        """
        try:
            # By descriptor throughout: in a directory that is open to everybody, somebody else may
            # have put a link in the private directory's place.
            self._set_mode(name)
            with _locked(self.path.parent):
                _refuse_unless_free(self.path)
                self._published = os.open(name, _PIN, dir_fd=self.handle)
                os.rename(name, self.path, src_dir_fd=self.handle)
        except OSError as error:
            raise SocketError(f"cannot publish {str(self.path)!r}: {_reason(error)}") from None
        with contextlib.suppress(OSError):  # stays if another socket is still bound in it
            self.private.rmdir()

    def _set_mode(self, name: str) -> None:
        gid = self.policy.gid()
        if gid != -1:
            os.chown(name, -1, gid, dir_fd=self.handle, follow_symlinks=False)
        os.chmod(name, self.policy.mode, dir_fd=self.handle)

    def withdraw(self) -> None:
        """Remove the socket if it is still ours; a successor's stays. Never raises."""
        published, self._published = self._published, None
        if published is None:
            return
        with contextlib.suppress(OSError, SocketError), _locked(self.path.parent):
            if os.path.samestat(self.path.lstat(), os.fstat(published)):
                self.path.unlink()
        os.close(published)


@contextmanager
def claim(path: Path, policy: SocketPolicy) -> Iterator[Claim]:
    """Check the path and its directory, and make a private place beside it.

    Raises `SocketError`, saying which rule is broken: path too long, ``%`` in it, directory a
    symlink, foreign or open to everybody, something other than a socket in the way, a foreign
    socket, a live one. Nothing that is in the way is touched. On leaving, the published socket is
    withdrawn and the private place removed.
    """
    check_path(path)
    path = path.absolute()  # the process may go elsewhere before it gives the socket back
    policy.gid()  # no such group: better said now than when all is ready
    _prepare_directory(path.parent, policy)
    _refuse_unless_free(path)
    _sweep(path.parent)
    private = path.parent / f"{_PRIVATE}{os.getpid():x}-{secrets.token_hex(4)}"
    try:
        private.mkdir(mode=0o700)
        private.chmod(0o700)  # mkdir followed the umask
        handle = os.open(private, _DIRECTORY)
        _try_lock(handle)  # held for life: it tells a place in use from a leftover
    except OSError as error:
        raise SocketError(f"cannot write in {str(path.parent)!r}: {_reason(error)}") from None
    made = Claim(path, policy, private, handle)
    try:
        yield made
    finally:
        made.withdraw()
        _remove(private, handle)
        os.close(handle)


def _prepare_directory(directory: Path, policy: SocketPolicy) -> None:
    try:
        _make(directory, policy)
        _judge(directory, directory.lstat(), policy)
    except OSError as error:
        raise SocketError(f"cannot use directory {str(directory)!r}: {_reason(error)}") from None


def _judge(directory: Path, status: os.stat_result, policy: SocketPolicy) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise SocketError(f"socket directory {str(directory)!r} is a symbolic link")
    if not stat.S_ISDIR(status.st_mode):
        raise SocketError(f"socket directory {str(directory)!r} is not a directory")
    if status.st_uid not in {0, os.geteuid()}:
        raise SocketError(
            f"socket directory {str(directory)!r} belongs to uid {status.st_uid}, "
            f"this process is uid {os.geteuid()}"
        )
    _judge_mode(directory, status, policy)


def _make(directory: Path, policy: SocketPolicy) -> None:
    if directory.exists() or directory.is_symlink():
        return
    _make(directory.parent, policy)
    # Two drivers of one pod may start together.
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o700)
        _give(directory, policy)


def _give(directory: Path, policy: SocketPolicy) -> None:
    if policy.group is not None:
        os.chown(directory, -1, policy.gid())
    directory.chmod(policy.directory_mode)  # mkdir followed the umask


def _judge_mode(directory: Path, status: os.stat_result, policy: SocketPolicy) -> None:
    mode = stat.S_IMODE(status.st_mode)
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        # Who may write here may put another socket in our place. The root of a pod's emptyDir
        # looks like this, and only the pod's containers see it; anything else is refused.
        if status.st_uid != 0:
            raise SocketError(f"socket directory {str(directory)!r} is writable by everybody")
        _log.warning(
            "socket directory is writable by everybody; prefer a subdirectory",
            extra={"directory": str(directory)},
        )
    elif not _fits(status, policy):
        if status.st_uid == os.geteuid() and not any(directory.iterdir()):
            # Ours and empty: made for us, before us, with another umask or group.
            _give(directory, policy)
        elif policy.group is not None and not _lets_in(status, policy.gid()):
            _log.warning(
                "the group cannot enter the socket's directory",
                extra={"directory": str(directory), "group": str(policy.group)},
            )


def _fits(status: os.stat_result, policy: SocketPolicy) -> bool:
    """Whether a directory is as narrow as one that is made, and lets the group in."""
    wider = stat.S_IMODE(status.st_mode) & ~policy.directory_mode & 0o777
    return not wider and (policy.group is None or _lets_in(status, policy.gid()))


def _lets_in(status: os.stat_result, gid: int) -> bool:
    mode = stat.S_IMODE(status.st_mode)
    return bool(mode & stat.S_IXOTH or (status.st_gid == gid and mode & stat.S_IXGRP))


def _refuse_unless_free(path: Path) -> None:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise SocketError(f"cannot look at {str(path)!r}: {_reason(error)}") from None
    if stat.S_ISLNK(status.st_mode):
        raise SocketError(f"{str(path)!r} is a symbolic link; not touched")
    if not stat.S_ISSOCK(status.st_mode):
        raise SocketError(f"{str(path)!r} exists and is not a socket; not touched")
    if status.st_uid != os.geteuid():
        raise SocketError(f"{str(path)!r} is a socket of uid {status.st_uid}; not touched")
    if is_live(path):
        raise SocketError(f"another server is listening on {str(path)!r}; not touched")


def is_live(path: Path) -> bool:
    """Say whether something accepts connections at the path."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_SECONDS)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True  # a full backlog, or not ours to reach: somebody is there
        return True


def _sweep(directory: Path) -> None:
    """Remove the private places that killed processes left behind."""
    with contextlib.suppress(OSError):
        for found in directory.iterdir():
            if _LEFTOVER.fullmatch(found.name):
                _remove_leftover(found)


def _remove_leftover(found: Path) -> None:
    try:
        handle = os.open(found, _DIRECTORY)
    except OSError:
        return
    try:
        status = os.fstat(handle)
        # Between its mkdir and its lock, a place in use looks like a leftover; not for long.
        old = time.time() - status.st_mtime > _LEFTOVER_SECONDS
        if old and status.st_uid == os.geteuid() and _try_lock(handle):
            _remove(found, handle)
    finally:
        os.close(handle)


def _remove(private: Path, handle: int) -> None:
    """Remove a private directory with its sockets, and nothing that anybody else has put there."""
    with contextlib.suppress(OSError):
        for name in os.listdir(handle):
            if stat.S_ISSOCK(os.lstat(name, dir_fd=handle).st_mode):
                os.unlink(name, dir_fd=handle)
        private.rmdir()


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold the directory's lock for a moment: two servers never look and rename at once."""
    try:
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise SocketError(f"cannot open {str(directory)!r}: {_reason(error)}") from None
    try:
        deadline = time.monotonic() + _LOCK_SECONDS
        while not _try_lock(handle):
            if time.monotonic() > deadline:
                raise SocketError(f"directory {str(directory)!r} is locked by another process")
            time.sleep(0.01)
        yield
    finally:
        os.close(handle)


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _reason(error: OSError) -> str:
    return os.strerror(error.errno or 0).lower()
