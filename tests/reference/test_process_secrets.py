"""`Process`: where secrets are, and where they are not."""

from __future__ import annotations

import json
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from openshell_drivers import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    SandboxRef,
    Secret,
)
from openshell_drivers.client import ComputeClient, connect
from tests.fakes.commands import Commands, Serving
from tests.fakes.polling import until
from tests.reference.sandboxes import becomes, box, entries, inhabitants, serving, shell

pytestmark = pytest.mark.anyio

REF = SandboxRef(id="a")
TOKEN = "canary-token-7f3a"
BEARER = "canary-bearer-91bc"
VALUE = "canary-value-55de"
LAUNCH = Secret(
    json.dumps({"gateway_id": "gw", "supervisor": {"session_id": "s1", "token": BEARER}})
)
LATER = Secret(json.dumps({"gateway_id": "later"}))


@asynccontextmanager
async def logged(root: Path) -> AsyncIterator[tuple[Serving, ComputeClient]]:
    socket = root.parent / "run" / "driver.sock"
    arguments: list[str | Path] = ["run", "process", "--socket", socket, "--log-level", "debug"]
    commands = Commands(root.parent)
    with commands.serving(socket, *arguments, "--set", f"root={root}") as process:
        async with connect(socket) as connection:
            yield process, connection.compute


def shown(pid: int) -> bytes:
    """What the kernel shows of a process."""
    return b"".join(Path(f"/proc/{pid}/{name}").read_bytes() for name in ("environ", "cmdline"))


def holders(root: Path, canary: str) -> set[str]:
    """The files below the root with this in them."""
    return {
        path.name
        for path in root.rglob("*")
        if path.is_file() and canary.encode() in path.read_bytes()
    }


async def test_secrets_are_in_their_own_files_and_nowhere_else(root: Path) -> None:
    spec = shell(
        "a",
        'cat "$OPENSHELL_SANDBOX_TOKEN_FILE" > copy; exec sleep 1000',
        sandbox_token=Secret(TOKEN),
        launch_authentication=LAUNCH,
        environment={"PASSWORD": VALUE, "OPENSHELL_SANDBOX_TOKEN": "forged"},
    )
    async with logged(root) as (process, client):
        await client.create_sandbox(spec)
        await becomes(client, "a", "Running")
        copy = root / "a" / "workspace" / "copy"
        await until(lambda: copy.exists() and copy.read_text() == TOKEN)
        copy.unlink()
        said = repr(await client.list_sandboxes())
        visible = b"".join(map(shown, [*inhabitants(root), process.process.pid]))
        files = {canary: holders(root, canary) for canary in (TOKEN, BEARER, VALUE)}
        modes = {
            stat.S_IMODE(path.stat().st_mode) for path in (root / "a").iterdir() if path.is_file()
        }
        await client.delete_sandbox(REF)
        log = process.log

    assert files == {TOKEN: {"token"}, BEARER: {"supervisor.json"}, VALUE: {"launch.json"}}
    assert modes == {0o600}
    assert TOKEN.encode() not in visible
    assert BEARER.encode() not in visible
    assert b"forged" not in visible
    for canary in (TOKEN, BEARER, VALUE):
        assert canary not in log
        assert canary not in said
    assert entries(root) == []


async def test_a_keeper_does_not_have_the_sandbox_s_environment(root: Path) -> None:
    async with serving(root) as client:
        await client.create_sandbox(box("a", environment={"PASSWORD": VALUE}))
        await becomes(client, "a", "Running")
        having = [VALUE.encode() in shown(pid) for pid in inhabitants(root)]

    assert sorted(having) == [False, True]


async def test_a_start_replaces_the_launch_authentication_and_keeps_the_token(root: Path) -> None:
    async with serving(root) as client:
        await client.create_sandbox(
            box("a", sandbox_token=Secret(TOKEN), launch_authentication=LAUNCH)
        )
        await becomes(client, "a", "Running")
        public = (root / "a" / "workload.json").read_text()
        await client.stop_sandbox(REF)
        await client.start_sandbox(REF, launch_authentication=LATER)
        second = (root / "a" / "workload.json").read_text()
        gone = holders(root, BEARER)
        await client.stop_sandbox(REF)
        await client.start_sandbox(REF)

        assert json.loads(public) == {
            "gateway_id": "gw",
            "session_id": "s1",
            "verification_keys": [],
        }
        assert json.loads(second)["gateway_id"] == "later"
        assert gone == set()
        assert holders(root, TOKEN) == {"token"}
        assert not (root / "a" / "workload.json").exists()


async def test_what_is_no_launch_authentication_starts_nothing(root: Path) -> None:
    bad = Secret(json.dumps({"supervisor": BEARER}))
    async with serving(root) as client:
        with pytest.raises(InvalidArgument) as refused:
            await client.create_sandbox(box("a", launch_authentication=bad))
        assert BEARER not in refused.value.message
        await client.create_sandbox(box("a"))
        await becomes(client, "a", "Running")
        await client.stop_sandbox(REF)
        with pytest.raises(InvalidArgument):
            await client.start_sandbox(REF, launch_authentication=bad)
        assert inhabitants(root) == []
        await client.start_sandbox(REF)


async def test_a_refused_create_leaves_no_secret(root: Path) -> None:
    async with serving(root) as client:
        with pytest.raises(FailedPrecondition):
            await client.create_sandbox(box("a", "/no/such", sandbox_token=Secret(TOKEN)))

        assert entries(root) == []


async def test_a_create_that_is_given_up_leaves_all_or_nothing(root: Path) -> None:
    socket = root.parent / "run" / "driver.sock"
    given_up = 0
    async with serving(root) as patient:
        for number in range(30):
            spec = box(f"c{number}", sandbox_token=Secret(TOKEN))
            async with connect(socket, timeout=0.001 + number * 0.0004) as hasty:
                try:
                    await hasty.compute.create_sandbox(spec)
                except DeadlineExceeded:
                    given_up += 1
            await patient.delete_sandbox(spec.ref)
            assert [each for each in entries(root) if each.startswith(spec.id)] == []

        await until(lambda: inhabitants(root) == [])
        assert await patient.list_sandboxes() == ()
        assert given_up > 0
