"""The socket as a gateway meets it, and what is true of every call on it."""

from __future__ import annotations

import asyncio
import os
import stat
import time
from pathlib import Path
from typing import Final

from google.protobuf.message import Message

from openshell_drivers.conformance._caller import Caller, channel_to
from openshell_drivers.conformance._checks import SERVICES, check
from openshell_drivers.conformance._outcomes import NotObservable
from openshell_drivers.conformance.benches._base import Bench
from openshell_drivers.conformance.benches.compute import ComputeBench
from openshell_drivers.conformance.benches.credentials import CredentialsBench
from openshell_drivers.conformance.checks._foreign import relayed_as_stranger
from openshell_drivers.conformance.checks._questions import questions
from openshell_drivers.conformance.checks._spawning import launched

_AUTHORITIES: Final = ("[::]:50051", "[::]:50052", "localhost", "driver.example:443")
#: Fields that no contract has: a number, a text, a message with a number in it.
_FUTURE: Final = b"\xc8\xb2\x04\x07" + b"\xd2\xb2\x04\x06future" + b"\xda\xb2\x04\x02\x08\x01"
_START: Final = 10.0
_ANSWER: Final = 1.0


@check("COMP-SOCK-01.a", "every :authority is accepted", services=SERVICES, once=True)
async def every_authority(bench: Bench) -> None:
    replies = {}
    for authority in _AUTHORITIES:
        async with bench.another_caller(authority=authority) as caller:
            replies[authority] = await bench.ping(caller, patience=10)
    bench.need(any(reply.ok for reply in replies.values()), "no call at all is answered OK")
    refused = [f"with {name!r} {reply}" for name, reply in replies.items() if not reply.ok]
    bench.hold(
        not refused, f"calls are answered whatever their `:authority`: {_AUTHORITIES}", str(refused)
    )


class _Talkative(Caller):
    """Sends what tracing and later gateways send along."""

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        return (("traceparent", trace), ("tracestate", "a=b"), ("x-conformance-unknown", "1"))


@check("COMP-SOCK-01.b", "unknown request metadata is ignored", services=SERVICES, once=True)
async def unknown_metadata(bench: Bench) -> None:
    plain = await bench.ping()
    bench.need(plain.ok, str(plain))
    channel = channel_to(bench.instance.socket, bench.authority)
    try:
        talkative = _Talkative(channel, bench.service, bench.preset, bench.transcript)
        reply = await bench.ping(talkative, patience=10)
    finally:
        await channel.close(None)
    bench.hold(
        reply.ok,
        f"{reply.rpc} with the metadata traceparent, tracestate and x-conformance-unknown answers"
        " as without them",
        str(reply),
    )


@check(
    "COMP-SOCK-02",
    "whoever can connect is answered within a second",
    services=SERVICES,
    needs=("spawned",),
    once=True,
)
async def answers_as_soon_as_it_accepts(bench: Bench) -> None:
    waits = []
    for _ in range(2):  # the machine may have been busy once
        async with bench.started_spare() as spare:
            wait = await _first_answer(bench, spare.socket)
        if wait <= _ANSWER:
            return
        waits.append(f"{wait:.1f} s" if wait < _START else "no answer")
    bench.fail(
        f"the first call after the socket accepts is answered within {_ANSWER:g} s",
        f"in two starts: {' and '.join(waits)} after the socket accepted",
    )


async def _first_answer(bench: Bench, socket: Path) -> float:
    """Seconds from now to the first OK; at most `_START`."""
    own = bench.world.stall.total
    began = time.monotonic()
    async with bench.another_caller(socket=socket) as caller:
        while time.monotonic() - began < _START:
            reply = await bench.ping(caller, patience=_START)
            if reply.ok:
                break
            await asyncio.sleep(0.02)
    return time.monotonic() - began - (bench.world.stall.total - own)


@check(
    "COMP-SOCK-03",
    "the socket is there within 10 s of the start",
    services=SERVICES,
    needs=("spawned",),
    once=True,
)
async def reachable_in_time(bench: Bench) -> None:
    _started_in_time(bench)


@check(
    "CREDF-SOCK-01",
    "the credentials socket is there within 10 s and takes the fork's authority",
    service="credentials",
    once=True,
)
async def credentials_reachable(bench: CredentialsBench) -> None:
    async with bench.another_caller(authority="[::]:50052") as caller:
        reply = await bench.ping(caller)
    bench.hold(reply.ok, "ListCredentials with `:authority` [::]:50052 answers OK", str(reply))
    if not bench.instance.attached:
        _started_in_time(bench)


def _started_in_time(bench: Bench) -> None:
    taken = bench.instance.started_in
    bench.hold(
        taken <= _START,
        f"the socket accepts connections within {_START:g} s of the start of the process",
        f"it took {taken:.1f} s",
    )


@check(
    "COMP-SOCK-05.a",
    "the socket and its directory are for the driver's user alone",
    services=SERVICES,
    profile="security",
    once=True,
)
async def modes_are_narrow(bench: Bench) -> None:
    path = bench.instance.socket
    found = path.lstat()
    mode = stat.S_IMODE(found.st_mode)
    bench.hold(
        stat.S_ISSOCK(found.st_mode) and not mode & 0o177,
        "the socket has mode 0600",
        f"{path.name} has mode {mode:04o}",
    )
    parent = path.parent.lstat()
    mode = stat.S_IMODE(parent.st_mode)
    bench.hold(
        stat.S_ISDIR(parent.st_mode) and not mode & 0o077,
        "the socket's directory has mode 0700 and is no symbolic link",
        f"its mode is {mode:04o}"
        + (", and it is a symbolic link" if stat.S_ISLNK(parent.st_mode) else ""),
    )


@check(
    "COMP-SOCK-05.b",
    "a directory that the driver makes for its socket has mode 0700",
    services=SERVICES,
    profile="security",
    needs=("spawned",),
    once=True,
)
async def made_directory_is_narrow(bench: Bench) -> None:
    async with bench.spare() as spare:
        socket = spare.folder / "made" / "d.sock"
        async with launched(spare, socket=socket, within=bench.profile.target.ready) as launch:
            bench.apply(
                launch.serving or not socket.parent.exists(),
                "the driver does not serve where the directory is missing",
            )
            bench.apply(launch.serving, "the driver wants its socket's directory to be there")
            mode = stat.S_IMODE(socket.parent.lstat().st_mode)
    bench.hold(
        not mode & 0o077,
        "the directory that the driver has made for its socket has mode 0700",
        f"it has mode {mode:04o}",
    )


@check(
    "COMP-SOCK-06",
    "a peer of another user is refused",
    services=SERVICES,
    profile="security",
    needs=("spawned",),
    once=True,
)
async def foreign_peer(bench: Bench) -> None:
    if os.geteuid() != 0:
        raise NotObservable("only root can connect as another user")
    async with bench.started_spare() as spare:
        async with bench.another_caller(socket=spare.socket) as own:
            reply = await bench.ping(own)
            bench.need(reply.ok, str(reply))
        async with (
            relayed_as_stranger(spare) as socket,
            bench.another_caller(socket=socket) as stranger,
        ):
            reply = await bench.ping(stranger, patience=5)
    bench.hold(
        not reply.ok,
        "a call from a process of another user is not answered, though the socket's mode would"
        " let it in (here it was opened to all)",
        f"{reply.rpc} by user 65534 answered OK",
    )


@check("COMP-SOCK-09.a", "an unknown method is UNIMPLEMENTED", services=SERVICES, once=True)
async def unknown_method(bench: Bench) -> None:
    question = (await questions(bench))[-1]
    reply = await bench.caller.ask("ConformanceSuspend", question.request, question.answer)
    bench.code(reply, "UNIMPLEMENTED", when="a method that no contract has")
    async with bench.another_caller("openshell.conformance.v1.NoSuchService") as elsewhere:
        reply = await elsewhere.ask(question.rpc, question.request, question.answer)
    bench.code(reply, "UNIMPLEMENTED", when="of a service that does not exist")


@check("COMP-SOCK-09.b", "unknown fields are ignored", services=SERVICES)
async def unknown_fields(bench: Bench) -> None:
    for question in await questions(bench):
        plain = await bench.caller.ask(question.rpc, question.request, question.answer)
        bench.caller.cut(question.request)
        _extend(question.request)
        reply = await bench.caller.ask(question.rpc, question.request, question.answer, whole=True)
        bench.hold(
            reply.code == plain.code,
            f"{question.rpc} answers {plain.code} with unknown fields as it does without them",
            str(reply),
        )
    if isinstance(bench, ComputeBench):
        await _unknown_fields_in_create(bench)


async def _unknown_fields_in_create(bench: ComputeBench) -> None:
    plain = await bench.create(bench.sandbox())
    bench.need(plain.ok, str(plain), "COMP-CREATE-01")
    sandbox = await bench.complete(bench.sandbox())
    bench.caller.cut(sandbox)
    _extend(sandbox)
    reply = await bench.create(sandbox)
    bench.hold(
        reply.ok, "CreateSandbox ignores unknown fields in sandbox, spec and template", str(reply)
    )


def _extend(message: Message) -> None:
    """Put unknown fields into a message and into every single message in it."""
    for field, value in message.ListFields():
        repeated = getattr(field, "is_repeated", None)
        if repeated is None:
            repeated = getattr(field, "label") == 3  # noqa: B009  # of older protobuf
        if (
            field.message_type is not None
            and not repeated
            and "google." not in field.message_type.full_name
        ):
            _extend(value)
    message.MergeFromString(_FUTURE)
