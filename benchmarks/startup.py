"""From exec to the first answered call, and what a process then holds of memory."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from benchmarks.figures import Section, Target, median
from benchmarks.processes import Bench, Command, bare, driver, sdk
from benchmarks.raw import RESOLVE, RawClient
from openshell_drivers._wire import credentials_driver_pb2 as wire

_ISSUED_NAMES = 20
_LOADED_SECONDS = 5.0
_KEYCLOAK = "Keycloak driver"


def with_config(directory: Path) -> Command:
    config = directory / "table.json"
    config.write_text(json.dumps({"credentials": {"example": {"token": "t" * 1200}}}))
    return driver("SDK with a DriverConfig", "configured.py", "--config", str(config))


def measure(bench: Bench, *, rounds: int, seconds: float) -> Section:
    """Start each kind of process in turn, `rounds` times."""
    section = Section(
        title="Start-up: exec to first answered call",
        columns=("process", "ms", "best ms", "ratio", "CPU ms", "RSS MiB", "USS MiB"),
    )
    with _keycloak(bench) as keycloak:
        commands = [bare(), sdk(), with_config(bench.directory), *keycloak]
        for command in commands:  # compiles the bytecode
            _start(bench, command)
        turns = [[_start(bench, command) for command in commands] for _ in range(rounds)]
        loaded = _under_load(bench, keycloak[0]) if keycloak else None
    firsts = [turn[0][0] for turn in turns]
    for number, command in enumerate(commands):
        taken, cpu, rss, uss = zip(*(turn[number] for turn in turns), strict=True)
        ratio = median([mine / first for mine, first in zip(taken, firsts, strict=True)])
        section.rows.append(
            (
                command.name,
                f"{median(taken) * 1000:.0f}",
                f"{min(taken) * 1000:.0f}",
                f"{ratio:.2f}",
                f"{median(cpu) * 1000:.0f}",
                f"{median(rss):.1f}",
                f"{median(uss):.1f}",
            )
        )
    ready = {c.name: median([turn[n][0] for turn in turns]) for n, c in enumerate(commands)}
    resident = {c.name: median([turn[n][2] for turn in turns]) for n, c in enumerate(commands)}
    section.targets += [
        Target(what="SDK: exec to first answer", value=ready["SDK"] * 1000, limit=250, unit="ms"),
        Target(
            what="SDK with a DriverConfig: exec to first answer",
            value=ready["SDK with a DriverConfig"] * 1000,
            limit=400,
            unit="ms",
        ),
        Target(what="SDK: RSS", value=resident["SDK"], limit=50, unit="MiB"),
    ]
    if loaded is None:
        section.notes.append("the Keycloak driver is not installed: skipped")
    else:
        section.targets.append(
            Target(what=f"{_KEYCLOAK}: RSS under load", value=loaded, limit=64, unit="MiB")
        )
    section.samples = [
        {"process": command.name, "seconds": turn[number][0], "rss_mib": turn[number][2]}
        for turn in turns
        for number, command in enumerate(commands)
    ]
    return section


def _start(bench: Bench, command: Command) -> tuple[float, float, float, float]:
    """Give seconds to the first answer, CPU seconds, resident and unshared MiB."""
    began = time.perf_counter()
    process = bench.spawn(command)
    try:
        process.wait_for_answer()
        taken = time.perf_counter() - began
        return taken, process.cpu_seconds(), *process.memory()
    finally:
        process.stop()


@contextmanager
def _keycloak(bench: Bench) -> Iterator[Sequence[Command]]:
    """The example driver with a local issuer whose tokens are short-lived; nothing if absent."""
    if find_spec("openshell_credentials_keycloak") is None:
        yield []
        return
    from benchmarks.issuer import issuing

    with issuing() as url:
        config = _write_config(bench.directory, url)
        yield [
            Command(
                name=_KEYCLOAK,
                arguments=[
                    *("-m", "openshell_credentials_keycloak", "--socket", "{socket}"),
                    *("--config", str(config), "--secrets-dir", str(config.parent)),
                ],
                request=_request(0),
            )
        ]


def _write_config(directory: Path, url: str) -> Path:
    (directory / "client-secret").write_text("benchmark")
    (directory / "client-secret").chmod(0o600)
    one = {
        "client_id": "benchmark",
        "token_endpoint": url,
        "allow_http": True,
        "client_secret_ref": "client-secret",
    }
    config = directory / "keycloak.yaml"  # JSON is YAML
    config.write_text(json.dumps({"credentials": {f"name-{n}": one for n in range(_ISSUED_NAMES)}}))
    return config


def _request(number: int) -> bytes:
    return wire.ResolveCredentialRequest(name=f"name-{number}").SerializeToString()


def _under_load(bench: Bench, command: Command) -> float:
    """Resident MiB after calls for all names while their tokens are renewed all the time."""
    bodies = [_request(number) for number in range(_ISSUED_NAMES)] * 5
    with bench.running(command) as process, RawClient(process.socket, RESOLVE) as client:
        ends = time.perf_counter() + _LOADED_SECONDS
        while time.perf_counter() < ends:
            client.burst(bodies, wait_for=set(range(len(bodies))))
        return process.memory()[0]
