"""A connection made by another user: a relay whose outgoing side has another effective user id."""

from __future__ import annotations

import asyncio
import ctypes
import os
import platform
import shutil
import socket
import stat
import tempfile
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Final

from openshell_drivers.conformance._instances import Instance
from openshell_drivers.conformance._outcomes import Blocked, NotObservable

STRANGER: Final = 65_534
_SETRESUID: Final = {"x86_64": 117, "aarch64": 147}
_KEEP: Final = ctypes.c_uint(0xFFFFFFFF)


@asynccontextmanager
async def relayed_as_stranger(instance: Instance) -> AsyncIterator[Path]:
    """Open the instance's socket to all, and give a socket whose connections come from `STRANGER`.

    Raises `NotObservable` where another user cannot be played.
    """
    modes = open_to_all(instance)
    folder = Path(tempfile.mkdtemp(prefix="osd-relay-"))
    path = folder / "s"
    relays: set[asyncio.Task[None]] = set()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # asyncio made one for this connection
        relays.add(task)
        with suppress(OSError, asyncio.CancelledError), closing(writer):
            inward, outward = await _connected(_short(instance))
            with closing(outward):
                await asyncio.gather(_copy(reader, outward), _copy(inward, writer))

    await asyncio.to_thread(_tried)
    server = await asyncio.start_unix_server(relay, path)
    try:
        yield path
    finally:
        server.close()
        for task in relays:
            task.cancel()
        await asyncio.gather(*relays, return_exceptions=True)
        shutil.rmtree(folder, ignore_errors=True)
        for each, mode in modes.items():
            each.chmod(mode)


async def _connected(path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect as the stranger; a socket that comes when nobody waits any more is closed."""
    connecting = asyncio.ensure_future(asyncio.to_thread(connect_as, STRANGER, path))
    try:
        there = await asyncio.shield(connecting)
    except asyncio.CancelledError:
        with suppress(OSError):
            (await connecting).close()
        raise
    try:
        return await asyncio.open_unix_connection(sock=there)
    except BaseException:
        there.close()
        raise


def open_to_all(instance: Instance) -> dict[Path, int]:
    """Give the modes that an accident would: the driver's own check is all that is left.

    Gives the modes that the folders had.
    """
    folders = (instance.folder.parent, instance.folder, instance.socket.parent)
    modes = {each: stat.S_IMODE(each.stat().st_mode) for each in folders}
    for each in folders:
        each.chmod(0o711)
    try:
        instance.socket.chmod(0o666)
    except OSError as error:
        raise Blocked(f"the socket's mode cannot be changed: {error.strerror}") from None
    return modes


def _short(instance: Instance) -> str:
    return str(instance.socket)


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while data := await source.read(65_536):
        target.write(data)
        await target.drain()
    target.close()


def _tried() -> None:
    """Raise `NotObservable` unless a thread can take on another user id."""
    if platform.machine() not in _SETRESUID:
        raise NotObservable("it is not known how to connect as another user on this machine")
    here, there = socket.socketpair()
    with here, there, tempfile.TemporaryDirectory(prefix="osd-try-") as folder:
        Path(folder).chmod(0o711)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"{folder}/s")
            Path(f"{folder}/s").chmod(0o666)
            listener.listen()
            try:
                connect_as(STRANGER, f"{folder}/s").close()
            except OSError as error:
                raise NotObservable(f"cannot act as another user: {error.strerror}") from None


def connect_as(uid: int, path: str) -> socket.socket:
    """Connect from a thread with that effective user id, which ends with it. Raises OSError."""
    found: list[socket.socket | OSError] = []

    def connect() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        # The raw call changes this thread alone; libc's own would change all of them.
        if libc.syscall(_SETRESUID[platform.machine()], _KEEP, ctypes.c_uint(uid), _KEEP):
            found.append(OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno())))
            return
        made = socket.socket(socket.AF_UNIX)
        try:
            made.connect(path)
        except OSError as error:
            made.close()
            found.append(error)
        else:
            made.setblocking(False)
            found.append(made)

    thread = threading.Thread(target=connect)
    thread.start()
    thread.join()
    if isinstance(found[0], OSError):
        raise found[0]
    return found[0]
