"""What goes over the wire: odd messages, huge ones, unreadable ones, connections that break."""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import Final

from google.protobuf.message import Message

from openshell_drivers._wire import compute_driver_pb2 as compute
from openshell_drivers._wire import credential_driver_pb2 as store
from openshell_drivers._wire import credentials_driver_pb2 as credentials
from openshell_drivers.conformance._caller import SILENT, UNREADABLE
from openshell_drivers.conformance._checks import SERVICES, check
from openshell_drivers.conformance.benches._base import Bench
from openshell_drivers.conformance.benches.compute import ComputeBench
from openshell_drivers.conformance.benches.credentials import CredentialsBench
from openshell_drivers.conformance.checks._questions import Question, questions

_MEBI: Final = 1024 * 1024
_MESSAGE: Final = 8192
_GONE: Final = frozenset({SILENT, "UNAVAILABLE"})


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
    "PROC-HEALTH-01", "the standard health service answers SERVING", services=SERVICES, once=True
)
async def healthy(bench: Bench) -> None:
    async with bench.another_caller("grpc.health.v1.Health") as caller:
        # HealthCheckResponse.status is field 1, and SERVING is 1: any message with it will do.
        reply = await caller.ask_raw("Check", b"", store.ListCredentialsResponse)
    serving = reply.raw == b"\x08\x01"
    bench.hold(serving, "grpc.health.v1.Health/Check answers SERVING", str(reply))
