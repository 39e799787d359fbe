"""Tokens: the Keycloak example driver, beside a real identity provider that comes and goes."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from demo.story import BOLD, DIM, OFF, STOPPER, chapter, say
from openshell_drivers import Credential
from openshell_drivers.client import BlockingConnection, connect_blocking
from openshell_drivers.errors import DriverError
from tests.peers.canaille import Canaille
from tests.peers.processes import ProcessGroup

TOKEN_LIFETIME = 300  # seconds


def configuration(folder: Path, issuer: str, clients: dict[str, str]) -> Path:
    """Write the driver's configuration, and each client's secret into a file of its own."""
    secrets = folder / "secrets"
    secrets.mkdir()
    lines = [f"secrets_dir: {secrets}", "credentials:"]
    for name, secret in clients.items():
        (secrets / name).touch(mode=0o600)
        (secrets / name).write_text(secret)
        lines += [
            f"  {name}:",
            f"    client_id: {name}",
            f"    client_secret_ref: {name}",
            f"    issuer: {issuer}",
            "    auth: client_secret_basic",
            "    allow_http: true  # it is on this machine, and a demo",
        ]
    path = folder / "credentials.yaml"
    path.write_text("\n".join(lines) + "\n")
    return path


@contextlib.contextmanager
def sidecar(config: Path, socket: Path, log: Path) -> Iterator[ProcessGroup]:
    """Run the driver as its console script, as a container would."""
    script = str(Path(sys.executable).parent / "openshell-credentials-keycloak")
    options = ["--socket", str(socket), "--config", str(config), "--log-format", "text"]
    process = ProcessGroup([script, *options], os.environ, log)
    try:
        yield process
    finally:
        process.kill()


def ask(driver: BlockingConnection, name: str) -> tuple[Credential | DriverError, float]:
    """Resolve one name; give what came of it, and the milliseconds it took."""
    began = time.perf_counter()
    found: Credential | DriverError
    try:
        found = driver.call(driver.credentials.resolve_credential, name)
    except DriverError as error:
        found = error
    return found, (time.perf_counter() - began) * 1000


def tell(name: str, found: Credential | DriverError, took: float) -> None:
    """Say what came of a call, without showing the token."""
    if isinstance(found, DriverError):
        what = f"{found.code}: {found.message}"
    else:
        until = found.expires_at.isoformat(timespec="seconds") if found.expires_at else "?"
        what = f"{found.token_type} *** good until {until}"
    say(f"   resolve {name:12} -> {what} {DIM}({took:.1f} ms){OFF}")


def resolve(driver: BlockingConnection, name: str) -> None:
    tell(name, *ask(driver, name))


def resolve_when_possible(driver: BlockingConnection, name: str, seconds: float) -> None:
    """Ask until the answer is a token again, and show that answer."""
    began = time.monotonic()
    found, took = ask(driver, name)
    while isinstance(found, DriverError):
        if time.monotonic() - began > seconds:
            raise found
        STOPPER.check()
        time.sleep(0.1)
        found, took = ask(driver, name)
    say(f"   {time.monotonic() - began:.1f} s after its return:")
    tell(name, found, took)


def tour(provider: Canaille, process: ProcessGroup, socket: Path) -> None:
    with connect_blocking(socket) as driver:
        mode = oct(socket.stat().st_mode & 0o777)
        say(f"   connected; the socket has mode {mode}: only this user can reach it")
        names = driver.call(driver.credentials.list_credentials)
        say(f"   it can resolve: {', '.join(info.name for info in names)}")

        chapter(
            "Names become tokens",
            "A sandbox never sees a client secret. It names a credential, the gateway asks the\n"
            "driver, and the driver gets a short-lived token. The second time it has one at hand.",
        )
        resolve(driver, "github")
        resolve(driver, "github")
        resolve(driver, "no-such-name")

        chapter(
            "The identity provider dies",
            "What is at hand is still good. What is not fails at once, with a status that tells\n"
            "the gateway to try later, and without delaying anybody else.",
        )
        provider.kill()
        resolve(driver, "github")
        resolve(driver, "jira")

        chapter("It comes back", "Nobody has to restart the driver.")
        provider.start()
        resolve_when_possible(driver, "jira", 30)

        chapter(
            "The pod is stopped",
            "On SIGTERM calls under way are finished and the socket is removed.",
        )
        process.terminate()
        status = process.returncode
    say(f"   exit status {status}, socket {'still there' if socket.exists() else 'gone'}")
    if status != 0 or socket.exists():
        raise SystemExit("the driver did not stop as it should")


def show(scratch: Path) -> None:
    """Tell the second half of the story."""
    folder = scratch / "credentials"
    folder.mkdir()
    with Canaille(subprocess=True, token_lifetime=TOKEN_LIFETIME) as provider:
        tell_of(provider, folder)


def tell_of(provider: Canaille, folder: Path) -> None:
    clients = {name: provider.add_client(name).secret for name in ("github", "jira")}
    chapter(
        "An identity provider",
        "Canaille, a real OpenID Connect server, with a client for each of two services.",
    )
    say(f"   {provider.issuer}")
    chapter(
        "The driver",
        "examples/keycloak_credentials, started like a sidecar: a socket, a configuration,\n"
        "secrets in files.",
    )
    config = configuration(folder, provider.issuer, clients)
    socket, log = folder / "run" / "credentials.sock", folder / "driver.log"
    say(f"{DIM}{config.read_text()}{OFF}")
    try:
        with sidecar(config, socket, log) as process:
            tour(provider, process, socket)
    except (Exception, SystemExit):
        say(f"\nIt went wrong. The driver's log:\n{log.read_text(errors='replace')}")
        raise
    text = log.read_text(errors="replace")
    say(f"\n{BOLD}The driver's log{OFF}, one line per call and no secret in any:\n")
    say(f"{DIM}{text.rstrip()}{OFF}")
    if any(secret in text for secret in clients.values()):
        raise SystemExit("a secret is in the log")
