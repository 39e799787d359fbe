"""Creates through the reference driver, and the handshake, beside a handler that only answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from itertools import count, product, repeat
from typing import Final

from benchmarks.figures import Section, Target, median, spread
from benchmarks.fleets import CAPABILITIES, SERVICE, bare_fleet
from benchmarks.processes import Bench, Command, driver
from benchmarks.raw import RawClient
from benchmarks.unary import Case, Row, ratios, take_round, warm_up
from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers._wire.extension_pb2 import PeerMetadata, ProtocolVersion

CONCURRENCIES: Final = (1, 8)
_ROUNDS_OF_A_LIFE: Final = 3
_DELETES_AT_ONCE: Final = 64
_CONTRACT: Final = ["openshell.compute.contract"]
_GATEWAY: Final = wire.GetCapabilitiesRequest(
    gateway=PeerMetadata(
        protocol_version=ProtocolVersion(major=1, minor=0),
        implementation_name="openshell-gateway",
        implementation_version="0.1.0",
        supported_capabilities=_CONTRACT,
        required_capabilities=_CONTRACT,
    )
).SerializeToString()
_OPERATIONS: Final = ("GetCapabilities", "CreateSandbox")


class Creates:
    """Requests for sandboxes that differ in their ids, and remember which."""

    def __init__(self) -> None:
        self._numbers = count()
        self.ids: list[str] = []

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        sandbox_id = f"00000000-0000-4000-8000-{next(self._numbers):012}"
        self.ids.append(sandbox_id)
        sandbox = wire.DriverSandbox(id=sandbox_id, name="sandbox", workspace="workspace")
        sandbox.spec.environment.update({f"NAME_{n}": "value" * 4 for n in range(4)})
        sandbox.spec.sandbox_token = "t" * 300
        sandbox.spec.template.image = "registry.example/sandbox:1"
        sandbox.spec.template.resources.cpu_limit = "2"
        sandbox.spec.template.resources.memory_limit = "4Gi"
        return wire.CreateSandboxRequest(sandbox=sandbox).SerializeToString()


def measure(bench: Bench, *, rounds: int, seconds: float) -> Section:
    """Give every case a turn in each round; what was created is deleted between rounds."""
    rows: list[Row] = []
    for first in range(0, rounds, _ROUNDS_OF_A_LIFE):
        with _cases(bench) as (cases, creates):
            warm_up(cases)
            _delete_all(cases, creates)
            turns = range(first, min(rounds, first + _ROUNDS_OF_A_LIFE))
            for turn, concurrency in product(turns, CONCURRENCIES):
                rows += take_round(cases, concurrency, turn, seconds)
                _delete_all(cases, creates)
    return _report(cases, rows)


def _commands() -> Sequence[Command]:
    flags = ("--set", "ready_seconds=0", "--log-level", "warning")
    plain = driver("memory", "memory.py", *flags, request=b"", method=CAPABILITIES)
    return bare_fleet("bare", 0), bare_fleet("bare, another process", 0), plain


@contextmanager
def _cases(bench: Bench) -> Iterator[tuple[list[Case], Creates]]:
    """Every operation of every server; the creates of the driver are remembered."""
    creates = Creates()
    bodies: dict[str, Iterator[bytes]] = {"GetCapabilities": repeat(_GATEWAY)}
    with bench.all_running(_commands()) as processes, ExitStack() as stack:
        cases = []
        for operation, process in product(_OPERATIONS, processes):
            name = process.command.name
            kept = creates if name == "memory" else Creates()
            client = RawClient(process.socket, f"{SERVICE}{operation}")
            cases.append(
                Case(
                    name=f"{operation}, {name}",
                    process=process,
                    client=stack.enter_context(client),
                    bodies=bodies.get(operation, kept),
                    beside=f"{operation}, bare",
                )
            )
        yield cases, creates


def _delete_all(cases: Sequence[Case], creates: Creates) -> None:
    process = next(case.process for case in cases if case.name.endswith("memory"))
    with RawClient(process.socket, f"{SERVICE}DeleteSandbox") as client:
        for first in range(0, len(creates.ids), _DELETES_AT_ONCE):
            some = creates.ids[first : first + _DELETES_AT_ONCE]
            requests = [wire.DeleteSandboxRequest(sandbox_id=each) for each in some]
            client.burst(
                [each.SerializeToString() for each in requests], wait_for={*range(len(some))}
            )
    creates.ids.clear()


def _report(cases: Sequence[Case], rows: Sequence[Row]) -> Section:
    section = Section(
        title="Compute calls on a Unix socket (medians; ratios are medians within rounds)",
        columns=(
            *("call, server", "in flight", "calls/s", "p50 us", "p99 us", "server us/call"),
            *("calls/s ratio", "CPU ratio", "quartiles", "n", "client us"),
        ),
        samples=[asdict(row) for row in rows],
    )
    for case, concurrency in product(cases, CONCURRENCIES):
        section.rows.append(_line(case, concurrency, rows))
    (known,) = (case for case in cases if case.name == "GetCapabilities, memory")
    section.targets.append(
        Target(
            what="GetCapabilities: calls/s to bare, 8 in flight",
            value=median(ratios(rows, known, 8, "rate")),
            limit=0.9,
            unit="x",
            at_least=True,
            ratio=True,
        )
    )
    section.notes.append(f"{sum(row.failed for row in rows)} calls failed")
    section.notes.append("bare only answers; memory checks, keeps, provisions and tells")
    section.notes.append(f"others used {median([row.foreign_cores for row in rows]):.2f} cores")
    return section


def _line(case: Case, concurrency: int, rows: Sequence[Row]) -> tuple[str, ...]:
    own = [r.figures for r in rows if (r.case, r.concurrency) == (case.name, concurrency)]
    cpu = ratios(rows, case, concurrency, "server_us")
    rate, p50, p99, server, client = (
        median([figures[name] for figures in own])
        for name in ("rate", "p50_us", "p99_us", "server_us", "client_us")
    )
    return (
        case.name,
        str(concurrency),
        *(f"{value:,.0f}" for value in (rate, p50, p99, server)),
        f"{median(ratios(rows, case, concurrency, 'rate')):.2f}",
        f"{median(cpu):.2f}",
        spread(cpu),
        f"{len(cpu)}/{len(own)}",
        f"{client:.0f}",
    )
