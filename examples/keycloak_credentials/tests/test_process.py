"""The console script: the Go driver's flags, quick to start, quick to stop, and small."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import yaml

from examples.keycloak_credentials.tests.world import Settings, World, until
from openshell_drivers import DriverError
from openshell_drivers.client import connect
from tests.peers.scripted import ScriptedEndpoint, hang

COMMAND = (sys.executable, "-m", "openshell_credentials_keycloak")
QUIET = {k: v for k, v in os.environ.items() if not k.startswith(("OPENSHELL", "COV"))}


class Sidecar:
    """The driver as a container would run it."""

    def __init__(self, world: World, command: Sequence[str], **environment: str) -> None:
        self.log = world.folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, env={**QUIET, **environment}, stdout=log, stderr=subprocess.STDOUT
            )

    def stop(self) -> float:
        """SIGTERM; give the seconds that it took to end."""
        started = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)
        return time.monotonic() - started

    def memory(self) -> int:
        """Give the bytes that only the end of the process would free.

        Pages of files, some 20 to 28 MiB of libraries, are not counted: the kernel takes them back
        when a limit is reached, and how many are mapped depends on how the files came to its cache.
        """
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        kept = re.findall(r"Rss(?:Anon|Shmem):\s+(\d+) kB", status)
        return sum(map(int, kept)) * 1024

    def records(self) -> list[dict[str, Any]]:
        """Give the log so far."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]


def write_config(world: World, credentials: dict[str, Settings]) -> Path:
    file = world.folder / "credentials.yaml"
    draft = file.with_suffix(".new")
    draft.write_text(yaml.safe_dump({"credentials": credentials}))
    draft.replace(file)
    return file


def flags(world: World, config: Path, dash: str = "--") -> list[str]:
    socket = world.folder / "d.sock"
    return [
        *(f"{dash}socket", str(socket), f"{dash}config", str(config)),
        f"{dash}secrets-dir={world.secrets_dir}",
    ]


@contextmanager
def sidecar(world: World, *arguments: str, **environment: str) -> Iterator[Sidecar]:
    found = Sidecar(world, [*COMMAND, *arguments], **environment)
    try:
        yield found
    finally:
        if found.process.poll() is None:
            found.process.kill()
        found.process.wait(20)


def refuses(*arguments: str) -> str:
    """Run the driver where it must not start; give what it says."""
    found = subprocess.run(
        [*COMMAND, *arguments], env=QUIET, capture_output=True, text=True, timeout=30, check=False
    )
    assert found.returncode not in {0, None}
    assert "Traceback" not in found.stderr
    return found.stderr + found.stdout


@pytest.mark.parametrize("dash", ["-", "--"])
async def test_flags_of_the_go_driver_are_taken(
    world: World, endpoint: ScriptedEndpoint, dash: str
) -> None:
    config = write_config(world, {"one": world.post(endpoint.url())})
    with sidecar(world, *flags(world, config, dash)) as driver:
        async with connect(world.folder / "d.sock") as connection:
            await connection.credentials.resolve_credential("one")
        assert driver.stop() < 5
        assert driver.process.returncode == 0


async def test_any_installed_driver_runs_by_name(world: World, endpoint: ScriptedEndpoint) -> None:
    config = write_config(world, {"one": world.post(endpoint.url())})
    with config.open("a") as file:
        file.write(f"secrets_dir: {world.secrets_dir}\n")
    command = [str(Path(sys.executable).parent / "openshell-drivers"), "run", "keycloak"]
    driver = Sidecar(world, [*command, *flags(world, config)[:4]])
    try:
        async with connect(world.folder / "d.sock") as connection:
            await connection.credentials.resolve_credential("one")
    finally:
        driver.stop()


async def test_starts_without_home_user_or_writable_places(
    world: World, endpoint: ScriptedEndpoint
) -> None:
    config = write_config(world, {"one": world.post(endpoint.url())})
    with sidecar(world, *flags(world, config), HOME="/nonexistent", TMPDIR="/nonexistent"):
        async with connect(world.folder / "d.sock") as connection:
            await connection.credentials.resolve_credential("one")


async def test_sigterm_with_a_hanging_issuer_ends_in_time_and_answers_the_caller(
    world: World, endpoint: ScriptedEndpoint
) -> None:
    endpoint.default = hang
    config = write_config(world, {"one": world.post(endpoint.url(), timeout=25)})
    caught: list[DriverError] = []

    async def ask() -> None:
        try:
            await connection.credentials.resolve_credential("one")
        except DriverError as error:
            caught.append(error)

    arguments = [*flags(world, config), "--drain-timeout", "1"]
    with sidecar(world, *arguments) as driver:
        async with connect(world.folder / "d.sock") as connection, anyio.create_task_group() as go:
            go.start_soon(ask)
            await until(lambda: endpoint.count == 1)
            took = await anyio.to_thread.run_sync(driver.stop)

    assert took < 10
    assert len(caught) == 1


async def test_sighup_takes_a_new_configuration_and_keeps_the_old_one_if_it_is_bad(
    world: World, endpoint: ScriptedEndpoint
) -> None:
    one = world.post(endpoint.url())
    config = write_config(world, {"one": one})
    with sidecar(world, *flags(world, config)) as driver:
        async with connect(world.folder / "d.sock") as connection:
            first = await connection.credentials.resolve_credential("one")
            write_config(world, {"one": {**one, "unknown": 1}})
            driver.process.send_signal(signal.SIGHUP)
            await until(lambda: "old configuration stays" in driver.log.read_text())
            same = await connection.credentials.resolve_credential("one")
            write_config(world, {"two": one})
            driver.process.send_signal(signal.SIGHUP)
            await until(lambda: "configuration reloaded" in driver.log.read_text())
            listed = await connection.credentials.list_credentials()
            with pytest.raises(DriverError) as caught:
                await connection.credentials.resolve_credential("one")

    assert first == same
    assert [each.name for each in listed] == ["two"]
    assert caught.value.code == "NOT_FOUND"


def test_bad_configuration_is_told_by_key_and_never_by_value(world: World) -> None:
    bad = {
        "client_id": "canary-id",
        "client_secret_ref": "../canary-ref",
        "token_endpoint": "http://canary.example/token",
        "client_secret": "canary-secret",
    }
    told = refuses(*flags(world, write_config(world, {"one": bad})))

    for key in ("client_secret_ref", "token_endpoint", "allow_http", "client_secret"):
        assert key in told
    assert "canary" not in told


@pytest.mark.parametrize("text", ["", "credentials:\n", "credentials: {}\n", "- a\n", "a: b: c"])
def test_no_credentials_is_no_start(world: World, text: str) -> None:
    file = world.folder / "credentials.yaml"
    file.write_text(text)
    assert refuses(*flags(world, file))


def test_missing_configuration_is_no_start(world: World) -> None:
    assert refuses(*flags(world, world.folder / "missing.yaml"))


async def test_log_is_json_and_holds_no_secret(world: World, endpoint: ScriptedEndpoint) -> None:
    credentials = {"good": world.post(endpoint.url()), "bad": world.post(endpoint.url("/echo"))}
    config = write_config(world, credentials)
    arguments = [*flags(world, config), "--log-level", "debug"]
    with sidecar(world, *arguments) as driver:
        async with connect(world.folder / "d.sock") as connection:
            await connection.credentials.resolve_credential("good")
            with pytest.raises(DriverError):
                await connection.credentials.resolve_credential("bad")
        driver.stop()

    assert driver.records()
    assert "canary" not in driver.log.read_text()
    assert "scripted-token" not in driver.log.read_text()


async def test_fits_into_64_mebibytes(world: World, endpoint: ScriptedEndpoint) -> None:
    credentials = {f"c{n}": world.post(endpoint.url()) for n in range(50)}
    with sidecar(world, *flags(world, write_config(world, credentials))) as driver:
        async with connect(world.folder / "d.sock") as connection:
            for name in credentials:
                await connection.credentials.resolve_credential(name)
            used = driver.memory()

    assert 10 * 2**20 < used < 44 * 2**20


def test_importing_the_driver_brings_no_http_and_no_jose() -> None:
    code = "import sys, openshell_credentials_keycloak.main; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = re.findall(r"\b(?:httpx2?|httpcore2?|joserfc|cryptography|h11)\b", found.stdout)
    assert heavy == []
