"""What every call gets, whatever the driver does: status, limits, deadline, one log line."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import grpc
import pytest
from anyio.lowlevel import checkpoint
from grpc import aio

from openshell_drivers._logs import JsonFormatter
from openshell_drivers._services.names import CREDENTIALS
from openshell_drivers._wire.health_pb2 import HealthCheckResponse
from openshell_drivers.errors import DriverError
from openshell_drivers.server import ServerOptions, running
from tests.fakes import grpc_calls
from tests.fakes.driver import CANARY, FAULT_CANARY, Named
from tests.fakes.grpc_calls import resolve, status_of
from tests.fakes.polling import until

LIMITS = ServerOptions(call_timeout=0.3, max_calls=3, max_streams=2, drain_timeout=0.1)
CODES = [kind.code for kind in DriverError.__subclasses__()]


@pytest.fixture
def driver() -> Named:
    return Named()


@pytest.fixture
async def channel(driver: Named, socket_path: Path) -> AsyncIterator[aio.Channel]:
    async with (
        running(driver, socket=socket_path, options=LIMITS),
        grpc_calls.channel(socket_path) as channel,
    ):
        yield channel


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """Every record of every logger, as the process would write it, and more: at DEBUG."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(JsonFormatter().format(record))
            lines.append(json.dumps(logging.Formatter().format(record)))

    keep, root, own = Keep(), logging.getLogger(), logging.getLogger("openshell_drivers")
    before = root.level, own.level
    root.addHandler(keep)
    root.setLevel(logging.DEBUG)
    own.setLevel(logging.DEBUG)
    yield lines
    root.removeHandler(keep)
    root.setLevel(before[0])
    own.setLevel(before[1])


def _calls(lines: list[str]) -> list[dict[str, object]]:
    records = [json.loads(line) for line in lines[::2]]
    return [record for record in records if record["msg"] == "call"]


@pytest.mark.parametrize("code", CODES)
async def test_error_of_a_driver_becomes_its_status(channel: aio.Channel, code: str) -> None:
    status, details = await status_of(resolve(channel, f"raise:{code}"))

    assert (status.name, details) == (code, "as asked")


@pytest.mark.parametrize("code", ["OK", "", "made up", "__class__"])
async def test_error_of_no_known_status_is_answered_as_unknown(
    channel: aio.Channel, code: str
) -> None:
    status, details = await status_of(resolve(channel, f"raise:{code}", timeout=5))

    assert (status, details) == (grpc.StatusCode.UNKNOWN, "as asked")


async def test_unexpected_exception_is_internal_and_its_text_is_nowhere(
    channel: aio.Channel, lines: list[str]
) -> None:
    status, details = await status_of(resolve(channel, "boom"))

    assert status == grpc.StatusCode.INTERNAL
    assert details == "internal error; the driver's log says where"
    assert FAULT_CANARY not in "".join(lines)
    assert any("RuntimeError at driver.py" in line for line in lines)


async def test_call_that_awaited_something_cancelled_is_answered(channel: aio.Channel) -> None:
    status, _ = await status_of(resolve(channel, "lost", timeout=5))

    assert status == grpc.StatusCode.INTERNAL


@pytest.mark.parametrize("unit", ["x", "\U0001f600", "\0", "\n", "%", "ä"])
@pytest.mark.parametrize("code", ["NOT_FOUND", "UNAVAILABLE"])
async def test_huge_message_is_cut_and_arrives_with_its_code(
    channel: aio.Channel, code: str, unit: str
) -> None:
    status, details = await status_of(resolve(channel, f"error:{code}:1000000:{unit}"))

    assert status.name == code
    assert len(details.encode()) <= 2048 + 16
    assert details.isprintable()


async def test_control_characters_of_a_message_are_escaped(channel: aio.Channel) -> None:
    _, details = await status_of(resolve(channel, "error:NOT_FOUND:1:a\r\n\x1b[31mb"))

    assert details == "a\\r\\n\\x1b[31mb"


async def test_request_that_is_no_message_is_an_invalid_argument(channel: aio.Channel) -> None:
    call: Any = channel.unary_unary(grpc_calls.RESOLVE)
    status, _ = await status_of(call(b"\xff\xff\xff"))

    assert status == grpc.StatusCode.INVALID_ARGUMENT


async def test_name_that_is_no_utf8_is_an_invalid_argument(channel: aio.Channel) -> None:
    call: Any = channel.unary_unary(grpc_calls.RESOLVE)
    status, _ = await status_of(call(b"\x0a\x02\xff\xfe"))

    assert status == grpc.StatusCode.INVALID_ARGUMENT


async def test_call_without_a_deadline_gets_one(channel: aio.Channel, driver: Named) -> None:
    status, _ = await status_of(resolve(channel, "never"))

    assert status == grpc.StatusCode.DEADLINE_EXCEEDED
    assert driver.under_way == 0


async def test_deadline_of_the_caller_cancels_the_driver(
    channel: aio.Channel, driver: Named
) -> None:
    status, _ = await status_of(resolve(channel, "never", timeout=0.1))
    await until(lambda: driver.under_way == 0)

    assert status == grpc.StatusCode.DEADLINE_EXCEEDED


async def test_deadline_of_the_caller_may_be_longer_than_the_default(
    channel: aio.Channel, driver: Named
) -> None:
    call = resolve(channel, "wait", timeout=20)
    await anyio.sleep(0.5)
    driver.gate.set()
    answer = await call

    assert answer.token == CANARY


async def test_caller_that_goes_away_cancels_the_driver(
    channel: aio.Channel, driver: Named
) -> None:
    call = resolve(channel, "never", timeout=20)
    await until(lambda: driver.under_way == 1)
    call.cancel()
    await until(lambda: driver.under_way == 0)

    assert await call.code() == grpc.StatusCode.CANCELLED


async def test_one_call_too_many_is_refused_and_health_still_answers(
    channel: aio.Channel, driver: Named
) -> None:
    calls = [resolve(channel, "wait", timeout=20) for _ in range(3)]
    await until(lambda: driver.under_way == 3)
    status, _ = await status_of(resolve(channel, "quick"))
    health = await grpc_calls.check(channel)
    driver.gate.set()
    answers = [await call for call in calls]
    afterwards = await resolve(channel, "quick")

    assert status == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert health == HealthCheckResponse.SERVING
    assert [answer.token for answer in [*answers, afterwards]] == [CANARY] * 4


async def test_one_stream_too_many_is_refused(channel: aio.Channel) -> None:
    watching = [grpc_calls.watch(channel) for _ in range(2)]
    for each in watching:
        await each.read()
    _, code = await grpc_calls.end_of(grpc_calls.watch(channel))
    watching[0].cancel()
    message = None
    with anyio.fail_after(10):
        while message is None:  # until the server has noticed
            message = await _first(grpc_calls.watch(channel))

    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert message.status == HealthCheckResponse.SERVING


async def _first(watching: grpc_calls.Watching) -> HealthCheckResponse | None:
    try:
        message = await watching.read()
    except aio.AioRpcError:
        return None
    return message if isinstance(message, HealthCheckResponse) else None


async def test_request_that_is_too_large_is_refused(channel: aio.Channel) -> None:
    status, _ = await status_of(resolve(channel, "x" * (4 * 1024 * 1024 + 1)))

    assert status == grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_answer_that_is_too_large_is_an_error_and_the_next_call_works(
    channel: aio.Channel,
) -> None:
    status, details = await status_of(resolve(channel, f"size:{4 * 1024 * 1024 + 1}"))
    answer = await resolve(channel, f"size:{4 * 1024 * 1024 - 100}", timeout=10)

    assert status != grpc.StatusCode.OK
    assert "ttt" not in details
    assert len(answer.token) == 4 * 1024 * 1024 - 100


@pytest.mark.parametrize("method", [f"/{CREDENTIALS}/Bogus", "/no.such.Service/Method"])
async def test_unknown_method_is_unimplemented(channel: aio.Channel, method: str) -> None:
    call: Any = channel.unary_unary(method)
    status, _ = await status_of(call(b""))

    assert status == grpc.StatusCode.UNIMPLEMENTED


async def test_unknown_fields_are_ignored(channel: aio.Channel) -> None:
    call: Any = channel.unary_unary(grpc_calls.RESOLVE)
    answer = await call(b"\x0a\x05quick" + b"\xa2\x06\x03abc")

    assert CANARY.encode() in answer


async def test_many_calls_at_once_are_all_answered(socket_path: Path) -> None:
    async with (
        running(Named(), socket=socket_path),
        grpc_calls.channel(socket_path) as channel,
    ):
        answers = await asyncio.gather(*(resolve(channel, f"n{i}", timeout=20) for i in range(500)))

    assert [answer.token for answer in answers] == [CANARY] * 500


async def test_metadata_of_a_stream_comes_before_its_first_message(socket_path: Path) -> None:
    async with (
        running(Named(), socket=socket_path),
        grpc_calls.channel(socket_path) as channel,
    ):
        watching = grpc_calls.watch(channel)
        with anyio.fail_after(5):
            metadata = await watching.initial_metadata()
        watching.cancel()

    assert metadata is not None


async def test_watch_of_an_unknown_service_says_so_and_stays(channel: aio.Channel) -> None:
    watching = grpc_calls.watch(channel, "no.such.Service")
    message = await watching.read()
    await checkpoint()

    assert isinstance(message, HealthCheckResponse)
    assert message.status == HealthCheckResponse.SERVICE_UNKNOWN
    assert not watching.done()
    watching.cancel()


async def test_check_of_an_unknown_service_is_not_found(channel: aio.Channel) -> None:
    status, _ = await status_of(grpc_calls.check(channel, "no.such.Service"))

    assert status == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("name", ["quick", "never", "boom", "raise:NOT_FOUND", ""])
async def test_call_writes_one_line_with_its_name_and_no_token(
    channel: aio.Channel, lines: list[str], name: str
) -> None:
    call = resolve(channel, name)
    code = await call.code()
    await until(lambda: _calls(lines))

    (line,) = _calls(lines)
    assert line["service"] == CREDENTIALS
    assert line["method"] == "ResolveCredential"
    assert line["code"] == code.name
    assert line["subject"] == name
    assert float(str(line["ms"])) >= 0
    assert CANARY not in "".join(lines)


async def test_cancelled_call_writes_its_line(channel: aio.Channel, lines: list[str]) -> None:
    call = resolve(channel, "never", timeout=20)
    await anyio.sleep(0.1)
    call.cancel()
    await until(lambda: _calls(lines))

    assert [line["code"] for line in _calls(lines)] == ["CANCELLED"]


@pytest.mark.parametrize(
    "name", ["a\nb", 'q"uo\\te', "x" * 1_000_000, "\x1b[2J", "\u2028\u202e", "{}", "%s %d"]
)
async def test_line_of_a_hostile_name_is_one_line_of_json(
    channel: aio.Channel, lines: list[str], name: str
) -> None:
    await resolve(channel, name)
    await until(lambda: _calls(lines))

    raw = next(line for line in lines if '"msg":"call"' in line)
    assert len(raw.splitlines()) == 1
    assert len(raw) < 5000
    assert str(json.loads(raw)["subject"]).isprintable()


async def test_health_checks_are_not_in_the_log_at_info(
    channel: aio.Channel, lines: list[str]
) -> None:
    await grpc_calls.check(channel)

    assert [line["level"] for line in _calls(lines)] == ["debug"]
