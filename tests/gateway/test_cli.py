"""`openshell-drivers gateway` as a process, at a driver that the test scripts."""

from __future__ import annotations

import json
import os
import signal
import stat
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import Process

from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.testing.gateway._state import load, save
from tests.fakes.commands import SCRIPT, Done
from tests.fakes.polling import until
from tests.fakes.scripted_compute import STARTING, ScriptedCompute, Status, ready

pytestmark = pytest.mark.anyio
CANARY = "canary-5ad1"


class Terminal:
    """Runs the command at one socket."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.state = Path(f"{socket}.gateway.json")

    async def run(self, *arguments: str, lines: str = "") -> Done:
        """Run to the end, with lines on its standard input."""
        with anyio.fail_after(30):
            done = await anyio.run_process(
                [str(SCRIPT), "gateway", "--socket", str(self.socket), *arguments],
                input=lines.encode(),
                check=False,
                env=_clean(os.environ),
            )
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    async def objects(self, *arguments: str, lines: str = "") -> list[dict[str, Any]]:
        """Run with ``--json`` and read what it prints."""
        done = await self.run("--json", *arguments, lines=lines)
        assert done.err == "", done
        return [json.loads(line) for line in done.out.splitlines()]


def _clean(env: Mapping[str, str]) -> dict[str, str]:
    return {key: text for key, text in env.items() if not key.startswith("OPENSHELL")}


@pytest.fixture
def terminal(driver: ScriptedCompute, socket_path: Path) -> Terminal:
    """A terminal at a driver whose sandboxes get ready at once."""

    def create(request: wire.CreateSandboxRequest) -> wire.CreateSandboxResponse:
        driver.show(request.sandbox.id, request.sandbox.name, STARTING)
        driver.show(request.sandbox.id, request.sandbox.name, ready())
        return wire.CreateSandboxResponse()

    def start(request: wire.StartSandboxRequest) -> wire.StartSandboxResponse:
        driver.show(request.sandbox_id, request.name, ready())
        return wire.StartSandboxResponse()

    driver.always["CreateSandbox"], driver.always["StartSandbox"] = create, start
    return Terminal(socket_path)


async def test_one_shots_know_the_sandboxes_of_before(
    terminal: Terminal, driver: ScriptedCompute
) -> None:
    done = [
        await terminal.run(*words)
        for words in (
            ("create", "box", "--image", "i:1", "--env", f"A={CANARY}", "--", "/bin/x", "-h"),
            ("list",),
            ("stop", "box"),
            ("start", "box"),
            ("delete", "box"),
            ("list",),
        )
    ]

    assert [each.status for each in done] == [0] * 6, done
    assert [each.err for each in done] == [""] * 6
    words = [each.out.split()[:2] for each in done]
    assert words[:4] == [["box", p] for p in ("Ready", "Ready", "Stopped", "Ready")]
    assert words[4:] == [["box", "gone"], ["no", "sandboxes"]]
    spec = driver.asked("CreateSandbox")[0].sandbox.spec
    assert (spec.template.image, dict(spec.environment)) == ("i:1", {"A": CANARY})
    assert list(spec.command) == ["/bin/x", "-h"]
    assert not any(CANARY in each.out for each in done)


async def test_the_gateway_s_own_flags_may_follow_the_command(
    terminal: Terminal, driver: ScriptedCompute
) -> None:
    done = await terminal.run(
        *("create", "--preset", "0.1.2", "box", "--json", "--workspace=w", "--", "x", "--json")
    )

    assert done.status == 0, done
    shown = json.loads(done.out)
    assert (shown["phase"], shown["workspace"]) == ("Ready", "w")
    assert list(driver.asked("CreateSandbox")[0].sandbox.spec.command) == ["x", "--json"]


@pytest.mark.parametrize(
    ("words", "count"), [(("--gpu", "2"), 2), (("--gpu=3",), 3), (("--gpu",), None)]
)
async def test_a_gpu_is_asked_for_with_or_without_a_number(
    terminal: Terminal, driver: ScriptedCompute, words: tuple[str, ...], count: int | None
) -> None:
    done = await terminal.run("create", "box", *words)

    assert done.status == 0, done
    gpu = driver.asked("CreateSandbox")[0].sandbox.spec.resource_requirements.gpu
    assert (gpu.count if gpu.HasField("count") else None) == count


async def test_what_the_user_would_see_of_a_failure_is_on_standard_error(
    terminal: Terminal, driver: ScriptedCompute
) -> None:
    driver.script["CreateSandbox"] = [Status("RESOURCE_EXHAUSTED", "no room\nat all")]

    done = await terminal.run("create", "box")

    assert (done.status, done.out) == (1, "")
    assert done.err == "openshell-drivers: INTERNAL: create sandbox: no room\nat all\n"


async def test_a_sandbox_that_ends_in_error_is_a_failure(
    terminal: Terminal, driver: ScriptedCompute
) -> None:
    def create(request: wire.CreateSandboxRequest) -> wire.CreateSandboxResponse:
        driver.show(request.sandbox.id, request.sandbox.name, ready("False", "ImagePullFailed"))
        return wire.CreateSandboxResponse()

    driver.always["CreateSandbox"] = create

    done = await terminal.run("create", "box")

    assert (done.status, done.out) == (1, "")
    assert "box is Error, ImagePullFailed" in done.err


async def test_an_outcome_that_does_not_come_is_a_failure_with_its_history(
    terminal: Terminal, driver: ScriptedCompute
) -> None:
    del driver.always["CreateSandbox"]

    done = await terminal.run("--within", "0.2", "create", "box")

    assert done.status == 1
    assert "box Ready or Error not within 0.2 s" in done.err
    assert "Provisioning Starting" in done.err


async def test_without_waiting_a_create_is_done_when_it_is_accepted(
    terminal: Terminal, driver: ScriptedCompute
) -> None:
    del driver.always["CreateSandbox"]

    done = await terminal.run("create", "box", "--no-wait")

    assert (done.status, done.out.split()[:2]) == (0, ["box", "Provisioning"])


async def test_a_driver_that_is_refused_is_a_failure(
    terminal: Terminal, driver: ScriptedCompute
) -> None:
    driver.capabilities.ClearField("extension")

    refused, accepted = (
        await terminal.run("list"),
        await terminal.run("--preset", "0.0.111", "list"),
    )

    assert (refused.status, accepted.status) == (1, 0)
    assert "extension is missing" in refused.err


@pytest.mark.parametrize(
    "words",
    [
        *(["bogus"], ["create"], ["create", "a", "b"], ["create", "a", f"--bogus={CANARY}"]),
        *(["create", "a", "--env", CANARY], ["create", "a", "--gpu", "x"], ["list", "x"]),
        *(["--preset", CANARY, "list"], ["--speed", "0", "list"], ["--speed", "x", "list"]),
        *(["--bogus", "list"], ["help"]),
    ],
    ids=" ".join,
)
async def test_wrong_usage_is_2_and_shows_no_value(
    terminal: Terminal, driver: ScriptedCompute, words: list[str]
) -> None:
    done = await terminal.run(*words)

    assert (done.status, done.out) == (2, ""), done
    assert CANARY not in done.err
    assert driver.calls == []


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["create", "--help"], ["list", "-h"]])
async def test_there_is_help(terminal: Terminal, words: list[str]) -> None:
    done = await terminal.run(*words)

    assert (done.status, done.err) == (0, "")
    assert done.out.startswith("usage: openshell-drivers gateway")


async def test_capabilities_are_shown(terminal: Terminal) -> None:
    done, objects = await terminal.run("capabilities"), await terminal.objects("capabilities")

    assert "default_image                      image:default" in done.out
    assert objects[0]["driver_name"] == "scripted"


SCRIPTED = f"""
create box --env 'A={CANARY} b'   # a comment
list
stop box
start box
create box
delete box
list
"""


async def test_lines_of_a_pipe_are_done_one_after_the_other(
    terminal: Terminal, driver: ScriptedCompute
) -> None:
    done = await terminal.run(lines=SCRIPTED)

    assert (done.status, done.err) == (1, ""), done  # one of them failed
    told = [line.split(" ", 1)[-1] for line in done.out.splitlines()[1:]]
    phases = [line.split()[1] for line in told if line.startswith("box ")]
    assert [phase for phase, _ in groupby(phases)] == [
        *("Provisioning", "Ready", "Stopping", "Stopped", "Starting", "Ready", "Deleting", "gone")
    ]
    assert "ALREADY_EXISTS: sandbox already exists" in done.out
    assert done.out.splitlines()[-1] == "no sandboxes"
    assert CANARY not in done.out
    assert dict(driver.asked("CreateSandbox")[0].sandbox.spec.environment) == {"A": f"{CANARY} b"}


async def test_each_line_can_be_an_object(terminal: Terminal) -> None:
    objects = await terminal.objects(lines="create box\nlist\ncapabilities\nbogus\nquit\nlist\n")

    assert [each["phase"] for each in objects if each["kind"] == "phase"][-1] == "Ready"
    kinds = [each["kind"] for each in objects]
    assert set(kinds) >= {"phase", "sandbox"}
    assert kinds[-3:] == ["sandbox", "capabilities", "error"]
    assert objects[-1]["code"] == "USAGE"
    assert all(each["time"] for each in objects if each["kind"] == "phase")


async def test_an_open_quotation_and_a_blank_line_end_nothing(terminal: Terminal) -> None:
    done = await terminal.run(lines="\n'open\nlist\n")

    assert done.status == 1
    assert "USAGE: there is no such command" in done.out
    assert done.out.endswith("no sandboxes\n")


async def test_a_prompt_shows_what_happens_until_its_input_ends(
    terminal: Terminal, driver: ScriptedCompute
) -> None:
    async with await anyio.open_process(
        [str(SCRIPT), "gateway", "--socket", str(terminal.socket), "--json"]
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        await process.stdin.send(b"create box\n")
        await until(lambda: driver.sandboxes)
        sandbox_id = next(iter(driver.sandboxes))
        progress = {"openshell.progress.active_step": "pulling_image"}
        driver.emit_happening(sandbox_id, "Pulling\x1b[31m", **progress)
        text = b""
        with anyio.fail_after(20):
            while b"Pulling" not in text:
                text += await process.stdout.receive()
        await process.stdin.aclose()
        assert await process.wait() == 0

    event = json.loads(next(line for line in text.splitlines() if b"Pulling" in line))
    assert (event["kind"], event["sandbox"], event["type"]) == ("event", "box", "Normal")
    assert event["progress"]["active_step"] == "pulling_image"


async def test_text_of_a_driver_cannot_drive_a_terminal(
    terminal: Terminal, driver: ScriptedCompute
) -> None:
    driver.script["ValidateSandboxCreate"] = [Status("INTERNAL", "red\x1b[31m\x07")]

    done = await terminal.run("create", "box")
    piped = await terminal.run(lines="create box\nstop box\n")

    assert done.err.rstrip("\n").isprintable()
    assert all(line.isprintable() for line in piped.out.splitlines())


async def heard(process: Process, text: bytes) -> None:
    """Read what a process prints until the text has come."""
    assert process.stdout is not None
    said = b""
    with anyio.fail_after(20):
        while text not in said:
            said += await process.stdout.receive()


async def test_watch_runs_until_it_is_ended(terminal: Terminal, driver: ScriptedCompute) -> None:
    await terminal.run("create", "box")
    async with await anyio.open_process(
        [str(SCRIPT), "gateway", "--socket", str(terminal.socket), "watch"]
    ) as process:
        await heard(process, b"the watch is open")
        driver.show(next(iter(driver.sandboxes)), "box", ready("False", "Dead"))
        await heard(process, b"box Error Dead")
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 130


# The state file


async def test_the_state_is_the_user_s_alone_and_holds_no_token(
    terminal: Terminal, driver: ScriptedCompute
) -> None:
    await terminal.run("create", "box", "--env", "A=1")

    text = terminal.state.read_text()
    spec = driver.asked("CreateSandbox")[0].sandbox.spec
    assert stat.S_IMODE(terminal.state.stat().st_mode) == 0o600
    assert spec.sandbox_token
    assert spec.sandbox_token not in text
    assert "token" not in text
    assert [path.name for path in terminal.state.parent.iterdir() if ".json." in path.name] == []


async def test_what_was_saved_is_what_comes_back(terminal: Terminal) -> None:
    await terminal.run("create", "box", "--env", "A=1", "--gpu", "2", "--", "x")
    records = load(terminal.state)

    save(terminal.state, records, [])

    assert load(terminal.state) == records
    spec = records[0].spec
    assert spec is not None
    assert (spec.command, dict(spec.environment), spec.gpu and spec.gpu.count) == (
        ("x",),
        {"A": "1"},
        2,
    )
    assert (records[0].phase, records[0].workspace, spec.policy) == (
        "Ready",
        "default",
        b"\x08\x01",
    )


async def test_two_gateways_lose_nothing_of_each_other(terminal: Terminal) -> None:
    await terminal.run("create", "box")
    before = load(terminal.state)
    await terminal.run("create", "other")

    save(terminal.state, before, [])  # of a gateway that knew nothing of the other

    assert {each.name for each in load(terminal.state)} == {"box", "other"}
    save(terminal.state, (), [before[0].id])
    assert [each.name for each in load(terminal.state)] == ["other"]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"version":2}', '{"version":1,"sandboxes":[{}]}']
)
async def test_a_file_of_something_else_is_refused(terminal: Terminal, text: str) -> None:
    terminal.state.write_text(text)

    done = await terminal.run("list")

    assert (done.status, done.out) == (2, "")
    assert "--state: the file does not hold a gateway's records" in done.err
    assert terminal.state.read_text() == text


async def test_another_file_can_be_the_state(terminal: Terminal, short_dir: Path) -> None:
    await terminal.run("--state", str(short_dir / "mine.json"), "create", "box")

    assert not terminal.state.exists()
    assert [each.name for each in load(short_dir / "mine.json")] == ["box"]


async def test_a_list_shows_records_though_the_driver_cannot_list(
    terminal: Terminal, driver: ScriptedCompute
) -> None:
    await terminal.run("create", "box")
    driver.always["ListSandboxes"] = Status("UNAVAILABLE", "no backend")

    done = await terminal.run("list")

    assert (done.status, done.out.split()[0]) == (1, "box")
    assert "the driver's list cannot be used: UNAVAILABLE: no backend" in done.err


async def test_a_wish_in_all_its_parts_reaches_the_driver(
    terminal: Terminal, driver: ScriptedCompute
) -> None:
    flags = ("--label", "a=b", "--cpu-limit", "500m", "--memory-limit=1Gi")
    configs = ("--platform-config", '{"annotations": {"x": "y"}}', "--driver-config", '{"n": [1]}')
    driver.capabilities.resource_admission_policy = 'v1:{"allow_driver_config":true}'

    refused = await terminal.run("create", "box", *flags, *configs)
    done = await terminal.run("create", "box", "--allow-driver-config", *flags, *configs)

    assert "this gateway v1:" in refused.err
    assert done.status == 0, done
    template = driver.asked("CreateSandbox")[0].sandbox.spec.template
    assert dict(template.labels) == {"a": "b"}
    assert (template.resources.cpu_limit, template.resources.memory_limit) == ("500m", "1Gi")
    assert template.platform_config["annotations"]["x"] == "y"
    assert list(template.driver_config["n"]) == [1]


async def test_a_failure_is_an_object_too(terminal: Terminal, driver: ScriptedCompute) -> None:
    driver.always["ValidateSandboxCreate"] = Status("FAILED_PRECONDITION", "no GPUs")

    done = await terminal.run("create", "box", "--json")

    assert done.status == 1
    assert json.loads(done.out) == {
        "kind": "error",
        "code": "FAILED_PRECONDITION",
        "message": "no GPUs",
    }


@pytest.mark.parametrize("command", ["create", "stop", "list"])
async def test_help_of_a_command_needs_no_socket(command: str, short_dir: Path) -> None:
    done = await Terminal(short_dir / "none").run(command, "--help")

    assert (done.status, done.err) == (0, "")
    assert f"gateway {command}" in done.out


async def test_a_create_whose_sandbox_goes_away_does_not_wait_on(
    terminal: Terminal, driver: ScriptedCompute
) -> None:
    def create(request: wire.CreateSandboxRequest) -> wire.CreateSandboxResponse:
        driver.show(request.sandbox.id, request.sandbox.name, STARTING)
        driver.emit_deleted(request.sandbox.id)
        return wire.CreateSandboxResponse()

    driver.always["CreateSandbox"] = create
    done = await terminal.run("create", "box")

    assert done.status == 1
    assert "gone" in done.err
