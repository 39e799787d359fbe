"""Many calls at once, broken ones, huge ones, cancelled ones: what every call must stand."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

import grpc
from google.protobuf.message import Message

from openshell_drivers._wire import compute_driver_pb2 as compute
from openshell_drivers._wire import credential_driver_pb2 as store
from openshell_drivers._wire import credentials_driver_pb2 as credentials
from openshell_drivers.conformance._caller import SILENT, UNREADABLE, Caller, Reply
from openshell_drivers.conformance._checks import NEEDS, SERVICES, check
from openshell_drivers.conformance._outcomes import NotTestable
from openshell_drivers.conformance.benches._base import Bench
from openshell_drivers.conformance.benches.compute import LAG, ComputeBench
from openshell_drivers.conformance.benches.credentials import CredentialsBench
from openshell_drivers.conformance.benches.store import StoreBench
from openshell_drivers.conformance.checks._questions import Question, questions
from openshell_drivers.conformance.checks._sight import tells
from openshell_drivers.conformance.checks.process import reaches_backend

_CLIENTS: Final = 4
_WATCHES: Final = 8
_CALLS: Final = 64
_TIMES: Final = 5
_HEADERS: Final = 2.0
_SLOW: Final = 0.6
_PARALLEL: Final = 8
_PROMPT: Final = 5.0
_OPENS: Final = 20.0
_MEBI: Final = 1024 * 1024
_MESSAGE: Final = 8192
_GONE: Final = frozenset({SILENT, "UNAVAILABLE"})


@check("COMP-SOCK-08.a", "several clients and watches are served side by side", once=True)
async def clients_side_by_side(bench: ComputeBench) -> None:
    await tells(bench)
    async with AsyncExitStack() as stack:
        callers = [await stack.enter_async_context(bench.another_caller()) for _ in range(_CLIENTS)]
        logs = [
            await stack.enter_async_context(bench.watching(caller=callers[n % _CLIENTS]))
            for n in range(_WATCHES)
        ]
        sandbox = await bench.made()
        for number, log in enumerate(logs):
            await log.until(
                lambda log=log: bool(log.of(sandbox.id)),  # type: ignore[misc]
                LAG,
                f"each of {_WATCHES} watches on {_CLIENTS} connections tells of a new sandbox",
                lambda number=number, log=log: (  # type: ignore[misc]
                    f"watch number {number + 1} did not; {log.described(sandbox.id)}"
                ),
            )
        replies = await asyncio.gather(*(bench.ping(each, patience=10) for each in callers * 4))
    bad = [str(reply) for reply in replies if not reply.ok]
    bench.hold(not bad, f"calls are answered while {_WATCHES} watches are open", "; ".join(bad[:3]))


@check(
    "COMP-SOCK-08.b",
    "a slow call does not hold up others",
    services=SERVICES,
    profile="resilience",
    needs=("slow",),
    once=True,
)
async def slow_calls_side_by_side(bench: Bench) -> None:
    calls = await _different_calls(bench, _PARALLEL)
    if len(calls) < 2:
        raise NotTestable("credentials.known with three names or more, or credentials.expiring")
    slow = _SLOW if len(calls) > 4 else 2 * _SLOW
    many = len(calls) > 4
    async with bench.backend.slow(slow):
        # A call may reach for the platform more than once: one alone says how often.
        alone = await _timed(bench, [calls.pop()]) if many else slow
        taken = await _timed(bench, calls)
    one_by_one = max(slow, alone) * len(calls)
    limit = max(one_by_one * 0.7, 2 * slow + 0.5) if many else one_by_one * 0.8
    bench.hold(
        taken <= limit,
        f"{len(calls)} calls at once, each of which takes {max(slow, alone):.2g} s alone, all end"
        f" within {limit:.3g} s",
        f"it took {taken:.2f} s",
    )


async def _timed(bench: Bench, calls: Sequence[Callable[[], Awaitable[Reply[Any]]]]) -> float:
    """Make calls at once, and give the seconds that they took."""
    began, stalled = time.monotonic(), bench.world.stall.total
    replies = await asyncio.gather(*(call() for call in calls))
    own = bench.world.stall.total - stalled
    bad = [str(reply) for reply in replies if not reply.ok]
    bench.need(not bad, "; ".join(bad[:3]))
    return time.monotonic() - began - own


async def _different_calls(bench: Bench, number: int) -> list[Any]:
    if isinstance(bench, CredentialsBench):
        names = bench.profile.credentials.known
        if not names:
            raise NotTestable(NEEDS["known"])
        await bench.resolve(names[0])  # the first fetch of a process may have to load its client
        others = [*names[1:], *bench.profile.credentials.expiring[:1]]
        return [lambda name=name: bench.resolve(name) for name in others]
    if isinstance(bench, StoreBench):
        kept = [await bench.kept() for _ in range(number)]
        return [lambda one=one: bench.resolve(bench.item(one)) for one in kept]
    return [lambda: reaches_backend(bench) for _ in range(number)]


@check("PROC-WIRE-01.a", "every answer can be parsed", services=SERVICES)
async def answers_can_be_parsed(bench: Bench) -> None:
    if isinstance(bench, ComputeBench):
        await bench.made()
    for question in await questions(bench):
        reply = await bench.caller.ask(question.rpc, question.request, question.answer)
        bench.hold(
            reply.code != UNREADABLE,
            f"the answer of {question.rpc} is a {question.answer.DESCRIPTOR.name}",
            str(reply),
        )


@check("PROC-WIRE-01.b", "every watch event has exactly one payload")
async def events_have_a_payload(bench: ComputeBench) -> None:
    async with bench.watching() as log:
        sandbox = await bench.made()
        await bench.settles(sandbox.id)
        await bench.delete(sandbox.id)
        await bench.gone(sandbox.id)
        bench.hold(
            not any(opening.code == UNREADABLE for opening in log.openings),
            "every event of WatchSandboxes is a WatchSandboxesEvent",
            "one cannot be parsed",
        )
        empty = sum(event.kind == "empty" for event in log.events)
        bench.hold(
            not empty,
            "every WatchSandboxesEvent has one of sandbox, deleted and platform_event",
            f"{empty} of {len(log.events)} events have none",
        )


@check("PROC-WIRE-02", "the message of an error stays below 8 KiB", services=SERVICES, once=True)
async def short_messages(bench: Bench) -> None:
    for question in _with_text(bench, "x" * 40_000):
        reply = await bench.caller.ask(question.rpc, question.request, question.answer, whole=True)
        lost = reply.code == "RESOURCE_EXHAUSTED" and "metadata" in reply.text
        bench.hold(
            not lost and len(reply.text.encode()) < _MESSAGE,
            f"the status message of {question.rpc} about a text of 40 000 characters is shorter"
            f" than {_MESSAGE} bytes",
            "it was too long to be received" if lost else f"{len(reply.text)} characters",
        )


def _with_text(bench: Bench, text: str) -> list[Question]:
    """Requests with one odd text in their most quoted field."""
    if isinstance(bench, ComputeBench):
        sandbox = bench.sandbox(id=text)
        pairs: list[tuple[str, Message, type[Message]]] = [
            (
                "GetSandbox",
                compute.GetSandboxRequest(sandbox_id=text, name="odd"),
                compute.GetSandboxResponse,
            ),
            (
                "ValidateSandboxCreate",
                compute.ValidateSandboxCreateRequest(sandbox=sandbox),
                compute.ValidateSandboxCreateResponse,
            ),
        ]
    elif isinstance(bench, CredentialsBench):
        pairs = [
            (
                "ResolveCredential",
                credentials.ResolveCredentialRequest(name=text),
                credentials.ResolveCredentialResponse,
            )
        ]
    else:
        item = store.ResolveCredentialRequest(
            request_id="credential-0", provider="odd", credential_key="ODD", workspace="default"
        )
        item.handle.handle = text
        pairs = [
            (
                "ResolveCredentials",
                store.ResolveCredentialsRequest(credentials=[item]),
                store.ResolveCredentialsResponse,
            )
        ]
    return [Question(rpc=rpc, request=request, answer=answer) for rpc, request, answer in pairs]


@check(
    "PROC-WIRE-03",
    "an oversized request harms nobody",
    services=SERVICES,
    profile="security",
    own=True,
    once=True,
)
async def oversized(bench: Bench) -> None:
    for size in (3 * _MEBI, 6 * _MEBI):
        for question in _with_text(bench, "x" * size)[:1]:
            reply = await bench.caller.ask(
                question.rpc, question.request, question.answer, whole=True
            )
            bench.hold(
                reply.code not in _GONE,
                f"{question.rpc} with a request of {size // _MEBI} MiB is answered with a status",
                str(reply),
            )
            await _goes_on(bench, f"after a request of {size // _MEBI} MiB")


@check(
    "PROC-WIRE-04",
    "a request that cannot be parsed is an error and nothing more",
    services=SERVICES,
    profile="security",
    own=True,
    once=True,
)
async def unparsable(bench: Bench) -> None:
    for question in await questions(bench):
        for data in (b"\xff\xff\xff\xff", b"\x0a\x7f"):
            reply = await bench.caller.ask_raw(question.rpc, data, question.answer, patience=10)
            bench.hold(
                not reply.ok and reply.code not in _GONE,
                f"{question.rpc} with bytes that are no protobuf message answers an error",
                str(reply),
            )
    await _goes_on(bench, "after requests that cannot be parsed")


@check(
    "PROC-WIRE-05", "no call ends with UNKNOWN", services=SERVICES, profile="security", once=True
)
async def no_unknown(bench: Bench) -> None:
    asked = await questions(bench)
    for text in ("", "\0", "../..", "\u202e\U0001f600", "%s%n", "x" * 5_000):
        asked += _with_text(bench, text)
    for question in asked:
        reply = await bench.caller.ask(question.rpc, question.request, question.answer, whole=True)
        bench.hold(
            reply.code != "UNKNOWN", f"{question.rpc} ends with a code that was chosen", str(reply)
        )


@check(
    "PROC-WIRE-06",
    "broken connections harm nobody",
    services=SERVICES,
    profile="security",
    own=True,
    once=True,
)
async def broken_connections(bench: Bench) -> None:
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    settings = b"\0\0\0\x04\0\0\0\0\0"
    half = b"\0\0\x40\x01\x04\0\0\0\x01" + b"\x82"
    open_ones: list[socket.socket] = []
    try:
        for data in (
            b"",
            b"GET / HTTP/1.1\r\n\r\n",
            b"\x16\x03\x01\0\0",
            preface,
            preface + settings + half,
        ):
            for broken in (False, True):
                one = socket.socket(socket.AF_UNIX)
                one.settimeout(2)
                open_ones.append(one)
                with contextlib.suppress(OSError):
                    one.connect(str(bench.instance.socket))
                    one.sendall(data)
                    if broken:
                        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        one.close()
        await _goes_on(bench, "with connections that broke off, stay half open or speak no HTTP/2")
    finally:
        for one in open_ones:
            one.close()
    await _goes_on(bench, "after connections that broke off or spoke no HTTP/2")


async def _goes_on(bench: Bench, when: str) -> None:
    """The old connection and a new one both work, in the process that was there."""
    bench.hold(bench.instance.running, f"the driver runs on {when}", "its process has ended")
    reply = await bench.ping(patience=10)
    bench.hold(reply.ok, f"other calls on the same connection are answered {when}", str(reply))
    async with bench.another_caller() as caller:
        reply = await bench.ping(caller, patience=10)
    bench.hold(reply.ok, f"another client is served {when}", str(reply))


@check(
    "PROC-CALL-01",
    "cancelled calls give back what they held",
    services=SERVICES,
    profile="resilience",
    own=True,
    once=True,
)
async def cancelled_calls(bench: Bench) -> None:
    for _ in range(_TIMES):
        await asyncio.gather(*(_cancelled(bench, number) for number in range(_CALLS)))
    async with bench.another_caller() as caller:
        reply = await bench.ping(caller, patience=20)
        bench.hold(
            reply.ok, f"calls are answered after {_TIMES * _CALLS} cancelled ones", str(reply)
        )
        bench.within(reply.seconds, _PROMPT, "after cancelled calls new ones are answered")
        if isinstance(bench, ComputeBench):
            await _watch_opens(bench, caller)


async def _watch_opens(bench: ComputeBench, caller: Caller) -> None:
    async with bench.watching(caller=caller, reopen=False) as log:
        if log.openings[0].headers is None:  # they may come with the first event only
            await bench.made()
        await log.until(
            lambda: log.openings[0].headers is not None,
            _OPENS,
            f"a watch opens after {_TIMES * _CALLS} cancelled calls and watches",
            lambda: "it did not open",
        )


async def _cancelled(bench: Bench, number: int) -> None:
    if isinstance(bench, ComputeBench) and number % 2:
        with contextlib.suppress(TimeoutError, grpc.RpcError):
            async with asyncio.timeout(_HEADERS):
                request = compute.WatchSandboxesRequest()
                async with bench.caller.stream("WatchSandboxes", request) as call:
                    await call.initial_metadata()  # it has begun, and is left now
        return
    cheap = asyncio.create_task(_cheap(bench))
    await asyncio.sleep(number / 5000)
    cheap.cancel()
    await asyncio.gather(cheap, return_exceptions=True)


async def _cheap(bench: Bench) -> Reply[Any]:
    if isinstance(bench, ComputeBench):
        return await bench.get(bench.fresh_id())
    return await bench.ping()


@check("PROC-CALL-03.a", "with 64 calls and 8 watches at once each answer is its own", once=True)
async def own_sandboxes(bench: ComputeBench) -> None:
    made = [await bench.made() for _ in range(8)]
    async with AsyncExitStack() as stack:
        for _ in range(_WATCHES):
            await stack.enter_async_context(bench.watching())
        asked = [made[number % len(made)] for number in range(_CALLS)]
        replies = await asyncio.gather(*(bench.get(each.id) for each in asked))
    for each, reply in zip(asked, replies, strict=True):
        bench.need(reply.ok or reply.code == "UNAVAILABLE", str(reply), "COMP-GET-01")
        bench.hold(
            not reply.ok or reply.answer.sandbox.id == each.id,
            f"each of {_CALLS} GetSandbox calls at once answers the id that it asked for",
            f"asked for {each.id}, GetSandbox gave {reply.answer.sandbox.id!r}",
        )


@check(
    "PROC-CALL-03.b",
    "with 64 resolves at once each answer is its own",
    service="credential-store",
    once=True,
)
async def own_values(bench: StoreBench) -> None:
    kept = [await bench.kept() for _ in range(8)]
    asked = [kept[number % len(kept)] for number in range(_CALLS)]
    replies = await asyncio.gather(*(bench.resolve(bench.item(each)) for each in asked))
    for each, reply in zip(asked, replies, strict=True):
        bench.need(reply.ok, str(reply), "CREDU-RES-01")
        bench.hold(
            [found.value for found in reply.answer.credentials] == [each.value],
            f"each of {_CALLS} ResolveCredentials calls at once answers its own value",
            f"the answer about {each.slot.key} has another value",
        )


@check(
    "PROC-HEALTH-01", "the standard health service answers SERVING", services=SERVICES, once=True
)
async def healthy(bench: Bench) -> None:
    async with bench.another_caller("grpc.health.v1.Health") as caller:
        # HealthCheckResponse.status is field 1, and SERVING is 1: any message with it will do.
        reply = await caller.ask_raw("Check", b"", store.ListCredentialsResponse)
    serving = reply.raw == b"\x08\x01"
    bench.hold(serving, "grpc.health.v1.Health/Check answers SERVING", str(reply))
