"""What is in the way of a socket, who takes it away, and what a driver says that cannot have it."""

from __future__ import annotations

import os
import socket as sockets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from openshell_drivers.conformance._checks import SERVICES, check
from openshell_drivers.conformance._instances import Instance, accepts
from openshell_drivers.conformance._outcomes import NotObservable
from openshell_drivers.conformance.benches._base import Bench
from openshell_drivers.conformance.benches.store import StoreBench
from openshell_drivers.conformance.checks._foreign import STRANGER
from openshell_drivers.conformance.checks._spawning import (
    REFUSAL,
    Launch,
    answers,
    launched,
    must_refuse,
    takes_bind_socket,
    with_flag,
)

#: The longest path that a Unix socket can have on Linux.
LONGEST: Final = 107
_LIMIT_WORDS: Final = (
    *("107", "108", "104", "103", "long", "length", "limit", "shorter", "exceed", "maximum"),
    *("sun_path", "sun_len"),
)
_STOP: Final = 15.0

_process_check = partial(check, services=SERVICES, needs=("spawned",), once=True)


@_process_check("COMP-SOCK-04.a", "a stale socket of the driver's own user is replaced")
async def stale_socket(bench: Bench) -> None:
    async with bench.spare() as spare:
        with _listening(spare.socket):
            pass  # what stays is a socket on which nobody listens
        async with launched(spare, within=bench.profile.target.ready) as launch:
            bench.hold(
                launch.serving,
                "a driver whose socket's path holds a stale socket of its own user serves there",
                str(launch),
            )
            reply = await answers(bench, spare.socket)
            bench.hold(reply.ok, "the replaced socket answers", str(reply))


@_process_check(
    "COMP-SOCK-04.b", "a symbolic link in the socket's place is left alone", profile="security"
)
async def symbolic_link(bench: Bench) -> None:
    async with bench.spare() as spare:
        target = spare.folder / "elsewhere.sock"
        with _listening(target):
            pass
        spare.socket.symlink_to(target)
        async with launched(spare) as launch:
            must_refuse(bench, launch, "with a symbolic link to a stale socket at its path")
        _still(bench, spare.socket, stat.S_IFLNK, "the symbolic link")
        _still(bench, target, stat.S_IFSOCK, "the socket that the symbolic link names")


@_process_check("COMP-SOCK-04.c", "a file in the socket's place is left alone", profile="security")
async def regular_file(bench: Bench) -> None:
    async with bench.spare() as spare:
        spare.socket.write_text("not a socket")
        async with launched(spare) as launch:
            must_refuse(bench, launch, "with a regular file at its socket's path")
        _still(bench, spare.socket, stat.S_IFREG, "the regular file")


@_process_check("COMP-SOCK-04.d", "another user's socket is left alone", profile="security")
async def foreign_socket(bench: Bench) -> None:
    if os.geteuid() != 0:
        raise NotObservable("only root can give a socket to another user")
    async with bench.spare() as spare:
        with _listening(spare.socket):
            os.chown(spare.socket, STRANGER, STRANGER)
        async with launched(spare) as launch:
            must_refuse(bench, launch, "with a stale socket of another user at its path")
        _still(bench, spare.socket, stat.S_IFSOCK, "the other user's socket")


def _inode(path: Path) -> int:
    return path.lstat().st_ino if os.path.lexists(path) else 0


def _still(bench: Bench, path: Path, kind: int, what: str) -> None:
    here = os.path.lexists(path) and stat.S_IFMT(path.lstat().st_mode) == kind
    bench.hold(here, f"{what} is still there after the refused start", f"{what} is gone")


@contextmanager
def _listening(path: Path) -> Iterator[sockets.socket]:
    with sockets.socket(sockets.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        yield listener


@_process_check("PROC-BIND-01", "a driver that cannot bind its socket says so and ends")
async def cannot_bind(bench: Bench) -> None:
    async with bench.spare() as spare:
        blocking = spare.folder / "file"
        blocking.write_text("")
        async with launched(spare, socket=blocking / "d.sock") as launch:
            must_refuse(bench, launch, "with a socket path below a regular file")
            _says_something(bench, launch, "why it cannot bind")


def _says_something(bench: Bench, launch: Launch, what: str) -> None:
    bench.hold(launch.said.strip(), f"the process says {what}", "it ended without a word")


@check(
    "PROC-BIND-02.a",
    "--bind-socket PATH works as the last two arguments",
    service="credential-store",
    needs=("spawned",),
    once=True,
)
async def flag_in_two_words(bench: StoreBench) -> None:
    await _serves_with_flag(bench, "two words")


@check(
    "PROC-BIND-02.b",
    "--bind-socket=PATH works",
    service="credential-store",
    needs=("spawned",),
    once=True,
)
async def flag_in_one_word(bench: StoreBench) -> None:
    await _serves_with_flag(bench, "one word")


@check(
    "CREDU-SOCK-01",
    "a driver that is spawned like a gateway's, again after SIGKILL, answers",
    service="credential-store",
    needs=("spawned",),
    once=True,
)
async def spawned_by_a_gateway(bench: StoreBench) -> None:
    async with bench.spare() as spare:
        for when in ("at first", "after a SIGKILL"):
            command = _flagged(bench, spare, "two words")
            async with launched(
                spare, command=command, within=bench.profile.target.ready
            ) as launch:
                bench.hold(
                    launch.serving,
                    f"spawned as the gateway does, with --bind-socket PATH at the end and no"
                    f" standard input, the driver serves {when}",
                    str(launch),
                )
                reply = await answers(bench, spare.socket)
                bench.hold(reply.ok, f"GetCapabilities answers OK {when}", str(reply))


async def _serves_with_flag(bench: Bench, spelled: str) -> None:
    async with bench.spare() as spare:
        command = _flagged(bench, spare, spelled)
        async with launched(spare, command=command, within=bench.profile.target.ready) as launch:
            form = "--bind-socket PATH" if spelled == "two words" else "--bind-socket=PATH"
            bench.hold(
                launch.serving, f"with {form} after all other arguments it serves", str(launch)
            )


def _flagged(bench: Bench, spare: Instance, spelled: str) -> list[str]:
    bench.apply(
        takes_bind_socket(bench),
        "the driver is not given its socket by --bind-socket, so no gateway spawns it",
    )
    command = with_flag(spare, spelled)
    bench.apply(command, "the command line has no flag for the socket")
    return command or []


@_process_check("PROC-BIND-03", "the socket's path can be given by environment")
async def path_by_environment(bench: Bench) -> None:
    name = {
        "compute": "OPENSHELL_COMPUTE_DRIVER_SOCKET",
        "credential-store": "OPENSHELL_CREDENTIAL_DRIVER_SOCKET",
        "credentials": "OPENSHELL_CREDENTIALS_DRIVER_SOCKET",
    }[bench.check.service]
    async with bench.spare() as spare:
        whole = with_flag(spare, "one word")
        bench.apply(whole, "the command line has no flag for the socket")
        async with launched(
            spare,
            command=(whole or [""])[:-1],
            environment={name: str(spare.socket)},
            within=bench.profile.target.ready,
        ) as launch:
            bench.hold(launch.serving, f"with {name} and no flag it serves there", str(launch))


@_process_check("PROC-BIND-04.a", "a socket path of 107 bytes works")
async def longest_path(bench: Bench) -> None:
    async with bench.spare() as spare:
        path = _long(spare.socket.parent, LONGEST)
        async with launched(spare, socket=path, within=bench.profile.target.ready) as launch:
            bench.hold(
                launch.serving, f"with a socket path of {LONGEST} bytes it serves", str(launch)
            )


@_process_check("PROC-BIND-04.b", "a longer socket path is refused with a word on its length")
async def path_too_long(bench: Bench) -> None:
    async with bench.spare() as spare:
        path = _long(spare.socket.parent, LONGEST + 13)
        with _short_way(path) as short:
            async with launched(spare, socket=path, listening=short) as launch:
                bench.apply(not launch.serving, "the driver can serve at longer paths")
                must_refuse(bench, launch, f"with a socket path of {LONGEST + 13} bytes")
                named = any(word in launch.said.lower() for word in _LIMIT_WORDS)
                bench.hold(named, "the message says that the path is too long", str(launch))


def _long(folder: Path, length: int) -> Path:
    return folder / ("s" * (length - len(os.fsencode(folder)) - 1))


@contextmanager
def _short_way(path: Path) -> Iterator[Path]:
    handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield Path(f"/proc/self/fd/{handle}") / path.name
    finally:
        os.close(handle)


@_process_check("PROC-BIND-05", "at its end a driver leaves its successor's socket alone")
async def successor_keeps_its_socket(bench: Bench) -> None:
    async with bench.started_spare() as spare:
        spare.socket.unlink()
        with _listening(spare.socket):
            spare.signal(15)
            bench.need(
                await spare.ended(_STOP) is not None,
                "the driver does not end on SIGTERM",
                "PROC-EXIT-02",
            )
            bench.hold(
                accepts(spare.socket),
                "a socket that another process has put at the path is still there after SIGTERM",
                "the driver removed it at its end",
            )


@_process_check("PROC-BIND-06", "a second driver leaves a socket in use alone")
async def live_socket(bench: Bench) -> None:
    async with bench.started_spare() as first, bench.spare() as second:
        before = first.socket.lstat().st_ino
        async with launched(second, socket=first.socket, within=REFUSAL / 2) as launch:
            kept = _inode(first.socket) == before
            bench.hold(
                kept,
                "a second driver on a socket in use leaves it to the first one",
                "it replaced the socket of a driver that was serving",
            )
            must_refuse(bench, launch, "with a socket at its path on which another driver serves")
        reply = await answers(bench, first.socket)
        bench.hold(reply.ok, "the first driver goes on after the second one's start", str(reply))
