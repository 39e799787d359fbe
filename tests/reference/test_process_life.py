"""`Process`: commands that begin, run, end, and are ended."""

from __future__ import annotations

import os
import signal
from contextlib import aclosing, suppress
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from openshell_drivers import AlreadyExists, FailedPrecondition, InvalidArgument, SandboxRef
from openshell_drivers.compute import SandboxDeleted, SandboxSeen, SandboxTemplate
from tests.fakes.polling import held, until
from tests.reference.sandboxes import (
    SLEEP,
    becomes,
    box,
    entries,
    inhabitants,
    instance,
    look,
    serving,
    shell,
    zombies,
)

pytestmark = pytest.mark.anyio


def printed(root: Path, sandbox_id: str) -> str:
    return (root / sandbox_id / "output.log").read_text()


async def test_a_sandbox_goes_through_its_whole_life(root: Path) -> None:
    spec = box("a")
    async with serving(root) as client:
        await client.create_sandbox(spec)
        await becomes(client, "a", "Running")
        first = await instance(client, "a")
        await client.stop_sandbox(spec.ref)
        stopped, left = await look(client, "a"), inhabitants(root)
        await client.start_sandbox(spec.ref)
        started, second = await look(client, "a"), await instance(client, "a")
        deleted = await client.delete_sandbox(spec.ref)
        gone = await look(client, "a")

    assert stopped[0] == "Stopped"
    assert left == []
    assert started[0] == "Running"
    assert first != second
    assert deleted
    assert gone[0] == "Gone"
    assert entries(root) == []
    assert inhabitants(root) == []


async def test_capabilities_say_what_the_class_does(root: Path) -> None:
    async with serving(root) as client:
        said = await client.get_capabilities()

    assert said.driver_name == "process"
    assert said.default_image == "host"
    assert said.gateway_manages_lifecycle
    assert not said.resources.cpu_limit


async def test_the_default_command_is_a_shell_that_stays(root: Path) -> None:
    async with serving(root) as client:
        await client.create_sandbox(replace(box("a"), command=()))
        await client.create_sandbox(box("b", "/bin/bash", "-l", tty=True))
        for each in ("a", "b"):
            await becomes(client, each, "Running")
        await until(lambda: all(printed(root, each) for each in ("a", "b")))  # its prompt
        seen = [await look(client, each) for each in ("a", "b")]
        with anyio.fail_after(4):  # a shell at a terminal heeds the hangup
            await client.stop_sandbox(SandboxRef(id="a"))

    assert [reason for reason, _ in seen] == ["Running", "Running"]


async def test_a_command_with_a_terminal_has_one(root: Path) -> None:
    async with serving(root) as client:
        await client.create_sandbox(shell("a", "tty; stty size < /dev/tty", tty=True))
        await client.create_sandbox(shell("b", "tty"))
        await becomes(client, "a", "ContainerExited")
        await becomes(client, "b", "ContainerExited")

    assert "/dev/pts/" in printed(root, "a")
    assert "24 80" in printed(root, "a")
    assert printed(root, "b") == "not a tty\n"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("exit 0", "exit status 0"),
        ("exit 3", "exit status 3"),
        ("kill -9 $$", "killed by signal 9"),
    ],
)
async def test_a_command_that_ends_by_itself_has_exited(
    root: Path, script: str, message: str
) -> None:
    async with serving(root) as client:
        await client.create_sandbox(shell("a", script))
        seen = await becomes(client, "a", "ContainerExited")
        number = await instance(client, "a")
        await client.stop_sandbox(SandboxRef(id="a"))
        stopped = await look(client, "a")

    assert seen == ("ContainerExited", message)
    assert number.endswith(".1")  # not started again by itself
    assert stopped[0] == "Stopped"


async def test_a_kill_from_outside_is_told_at_once(root: Path) -> None:
    async with serving(root) as client:
        await client.create_sandbox(box("a"))
        await becomes(client, "a", "Running")
        (main,) = [pid for pid in inhabitants(root) if comm(pid) == "sleep"]
        async with aclosing(client.watch_sandboxes()) as events:
            await anext(events)
            os.kill(main, signal.SIGKILL)
            with anyio.fail_after(0.8):  # sooner than anything that looks every second
                event = await anext(events)

    assert isinstance(event, SandboxSeen)
    assert event.sandbox.status is not None
    assert event.sandbox.status.conditions[0].message == "killed by signal 9"


def comm(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def argv(pid: int) -> list[bytes]:
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return words[1:] if words[0].endswith(b"sleep") else []
    return []


async def test_with_its_keeper_killed_all_of_the_sandbox_ends(root: Path) -> None:
    async with serving(root) as client:
        await client.create_sandbox(shell("a", "sleep 1000 & setsid sleep 1001 & wait"))
        await becomes(client, "a", "Running")
        await until(lambda: len(inhabitants(root)) == 4)
        (keeper,) = [pid for pid in inhabitants(root) if comm(pid).startswith("python")]
        os.kill(keeper, signal.SIGKILL)
        await becomes(client, "a", "ContainerExited")

        assert inhabitants(root) == []


async def test_what_the_command_has_left_ends_with_it(root: Path) -> None:
    leave = "sleep 1000 & setsid sleep 1001 & env -i /usr/bin/setsid /bin/sleep 1002 & "
    async with serving(root) as client:
        await client.create_sandbox(
            shell("a", f"{leave} while ! [ -e go ]; do sleep 0.02; done; exit 5")
        )
        await becomes(client, "a", "Running")
        lasting = (b"1000", b"1001", b"1002")
        await until(
            lambda: all(any(each in argv(pid) for pid in inhabitants(root)) for each in lasting)
        )
        (root / "a" / "workspace" / "go").touch()
        seen = await becomes(client, "a", "ContainerExited")

        assert seen[1] == "exit status 5"
        assert inhabitants(root) == []


async def test_a_program_that_is_nowhere_is_refused(root: Path) -> None:
    async with serving(root) as client:
        for command in ("/no/such/program", "no-such-program-anywhere"):
            for call in (client.validate_sandbox_create, client.create_sandbox):
                with pytest.raises(FailedPrecondition, match="program") as refused:
                    await call(box("a", command))
                assert command not in refused.value.message

        assert await client.list_sandboxes() == ()
    assert entries(root) == []


async def test_a_command_that_cannot_be_executed_fails_for_good(root: Path) -> None:
    async with serving(root) as client:
        await client.create_sandbox(box("a", "./missing"))
        seen = await becomes(client, "a", "CommandNotFound")
        with pytest.raises(FailedPrecondition):
            await client.start_sandbox(SandboxRef(id="a"))
        after = await look(client, "a")
        program = root / "a" / "workspace" / "missing"
        program.write_text("#!/bin/sh\nexec sleep 1000\n")
        program.chmod(0o700)
        await client.start_sandbox(SandboxRef(id="a"))
        mended = await look(client, "a")

    assert seen[1] == "the command cannot be executed (ENOENT)"
    assert after[0] == "Stopped"
    assert mended[0] == "Running"


async def test_a_stop_ends_those_who_ignore_sigterm(root: Path) -> None:
    script = "trap '' TERM; (trap '' TERM; setsid sleep 1000) & echo up; while :; do sleep 1; done"
    async with serving(root, stop_grace=0.3) as client:
        await client.create_sandbox(shell("a", script))
        await becomes(client, "a", "Running")
        await until(lambda: printed(root, "a"))
        await client.stop_sandbox(SandboxRef(id="a"))
        left = inhabitants(root)
        seen = await look(client, "a")
        await client.stop_sandbox(SandboxRef(id="a"))  # once more is no error

    assert left == []
    assert seen[0] == "Stopped"


async def test_a_stop_lets_the_command_end_in_its_own_way(root: Path) -> None:
    script = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done"
    async with serving(root) as client:
        await client.create_sandbox(shell("a", script))
        await becomes(client, "a", "Running")
        await until(lambda: printed(root, "a"))
        await client.stop_sandbox(SandboxRef(id="a"))

    assert printed(root, "a").endswith("bye\n")


async def test_a_stopped_process_is_stopped_too(root: Path) -> None:
    async with serving(root, stop_grace=5) as client:
        await client.create_sandbox(box("a"))
        await becomes(client, "a", "Running")
        (main,) = [pid for pid in inhabitants(root) if comm(pid) == "sleep"]
        os.kill(main, signal.SIGSTOP)
        with anyio.fail_after(4):
            await client.stop_sandbox(SandboxRef(id="a"))

        assert inhabitants(root) == []


async def test_data_survive_a_stop_and_a_start(root: Path) -> None:
    async with serving(root) as client:
        await client.create_sandbox(shell("a", "echo $HOME >> kept; exec sleep 1000"))
        await becomes(client, "a", "Running")
        kept = root / "a" / "workspace" / "kept"
        await until(kept.exists)
        for _ in range(3):
            await client.stop_sandbox(SandboxRef(id="a"))
            await client.start_sandbox(SandboxRef(id="a"))
        await until(lambda: len(kept.read_text().splitlines()) == 4)

        assert set(kept.read_text().splitlines()) == {str(root / "a" / "workspace")}
        assert await instance(client, "a") != ""


async def test_a_start_of_what_runs_restarts_nothing(root: Path) -> None:
    async with serving(root) as client:
        await client.create_sandbox(box("a"))
        await becomes(client, "a", "Running")
        before = await instance(client, "a"), inhabitants(root)
        await client.start_sandbox(SandboxRef(id="a"))

        assert (await instance(client, "a"), inhabitants(root)) == before


async def test_no_exit_of_the_run_before_is_told_after_a_start(root: Path) -> None:
    async with serving(root) as client:
        await client.create_sandbox(box("a"))
        await becomes(client, "a", "Running")
        reasons: list[str] = []

        async def watch() -> None:
            async with aclosing(client.watch_sandboxes()) as events:
                async for event in events:
                    assert isinstance(event, SandboxSeen)
                    assert event.sandbox.status is not None
                    reasons.extend(each.reason for each in event.sandbox.status.conditions)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            await until(lambda: reasons)
            for _ in range(10):
                await client.stop_sandbox(SandboxRef(id="a"))
                await client.start_sandbox(SandboxRef(id="a"))
            tasks.cancel_scope.cancel()

    assert set(reasons) <= {"Running", "Starting", "PodTerminating", "Stopping", "Stopped"}


@pytest.mark.parametrize("state", ["starting", "running", "exited", "stopped", "failed"])
async def test_a_delete_works_in_every_state(root: Path, state: str) -> None:
    command = {"exited": ("/bin/true",), "failed": ("./missing",)}.get(state, SLEEP)
    async with serving(root) as client:
        await client.create_sandbox(box("a", *command))
        if state != "starting":
            await becomes(client, "a", "Running", "ContainerExited", "CommandNotFound")
        if state == "stopped":
            await client.stop_sandbox(SandboxRef(id="a"))
        async with aclosing(client.watch_sandboxes()) as events:
            await anext(events)
            first = await client.delete_sandbox(SandboxRef(id="a"))
            second = await client.delete_sandbox(SandboxRef(id="a"))
            async for event in events:
                if isinstance(event, SandboxDeleted):
                    break

    assert (first, second) == (True, False)
    assert entries(root) == []
    assert inhabitants(root) == []


async def test_a_sandbox_is_created_once(root: Path) -> None:
    async with serving(root) as client:
        await client.create_sandbox(box("a"))
        await becomes(client, "a", "Running")
        before = inhabitants(root)
        with pytest.raises(AlreadyExists):
            await client.create_sandbox(box("a"))
        await client.create_sandbox(replace(box("b"), name="n-a"))  # a name is not an identity
        await becomes(client, "b", "Running")

        assert set(before) < set(inhabitants(root))


async def test_names_that_look_like_the_driver_s_own_are_only_names(root: Path) -> None:
    ids = ["record.json", "alive", ".", "..", "-rf", "...", "a" * 128]
    async with serving(root) as client:
        for each in ids:
            if each in {".", ".."}:
                with pytest.raises(InvalidArgument):
                    await client.create_sandbox(box(each))
            else:
                await client.create_sandbox(replace(box(each), name="n"))
                await becomes(client, each, "Running")
                assert await client.delete_sandbox(SandboxRef(id=each))

    assert entries(root) == []


async def test_the_environment_is_the_user_s_below_the_driver_s(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEPT_BACK", "yes")
    spec = box(
        "a",
        "/usr/bin/env",
        "-0",
        template=SandboxTemplate(environment={"A": "template", "B": "template"}),
        environment={"B": "spec", "OPENSHELL_SANDBOX_ID": "forged", "ODD": "a\nb=c ü"},
    )
    everybody = {"B": "everybody", "C": "everybody"}
    async with serving(root, environment=everybody) as client:
        await client.create_sandbox(spec)
        await becomes(client, "a", "ContainerExited")

    seen = dict(item.split("=", 1) for item in printed(root, "a").rstrip("\0").split("\0"))
    assert seen["A"] == "template"
    assert seen["B"] == "spec"
    assert seen["ODD"] == "a\nb=c ü"
    assert seen["OPENSHELL_SANDBOX_ID"] == "a"
    assert seen["OPENSHELL_SANDBOX"] == "n-a"
    assert seen["C"] == "everybody"
    assert seen["PATH"].endswith("/usr/bin:/sbin:/bin")
    assert seen["HOME"] == str(root / "a" / "workspace")
    assert "KEPT_BACK" not in seen
    assert "OPENSHELL_SANDBOX_TOKEN_FILE" not in seen


async def test_the_wish_to_wait_for_a_client_holds_for_the_create_only(root: Path) -> None:
    script = "echo $OPENSHELL_MAIN_PROCESS_SPEC; exec sleep 1000"
    async with serving(root) as client:
        await client.create_sandbox(shell("a", script, await_main_process_attachment=True))
        await becomes(client, "a", "Running")
        await until(lambda: printed(root, "a"))
        await client.stop_sandbox(SandboxRef(id="a"))
        await client.start_sandbox(SandboxRef(id="a"))
        await until(lambda: printed(root, "a").count("\n") == 2)

    first, second = printed(root, "a").splitlines()
    assert '"await_main_process_attachment":true' in first
    assert "await" not in second


async def test_output_is_kept_up_to_a_bound(root: Path) -> None:
    async with serving(root) as client:
        await client.create_sandbox(shell("a", "head -c 30000000 /dev/zero; echo end"))
        await becomes(client, "a", "ContainerExited")

    logs = list((root / "a").glob("output.log*"))
    assert sum(each.stat().st_size for each in logs) < 9_000_000
    assert printed(root, "a").endswith("end\n")


async def test_fifty_sandboxes_begin_and_end_at_once_and_leave_nothing(root: Path) -> None:
    async with serving(root) as client:
        await client.create_sandbox(box("warm"))
        await becomes(client, "warm", "Running")
        await client.delete_sandbox(SandboxRef(id="warm"))
        before, of_others = await held(), zombies()
        names = [f"b{number}" for number in range(50)]
        async with anyio.create_task_group() as tasks:
            for each in names:
                tasks.start_soon(client.create_sandbox, box(each))
        for each in names:
            await becomes(client, each, "Running")
        running = len(inhabitants(root))
        async with anyio.create_task_group() as tasks:
            for each in names[:25]:
                tasks.start_soon(client.stop_sandbox, SandboxRef(id=each))
        async with anyio.create_task_group() as tasks:
            for each in names:
                tasks.start_soon(client.delete_sandbox, SandboxRef(id=each))
        after = await held()
        left = set(zombies()) - set(of_others)

    assert running == 100  # a command and its keeper each
    assert inhabitants(root) == []
    assert entries(root) == []
    assert left == set()
    assert after["descriptors"] <= before["descriptors"] + 2
    assert after["tasks"] <= before["tasks"] + 1
