"""The driver on bare grpcio: its socket, its process, its independence of the SDK."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import grpc
import pytest

from tests.conformance.bare.caller import Caller
from tests.conformance.bare.process import ROOT, Bare, bare
from tests.fakes.process import PATIENCE, eventually

READY: Final = ("Ready", "True", "Running")


@pytest.fixture
def served(short_dir: Path) -> Iterator[Bare]:
    with bare(short_dir) as found:
        yield found


@pytest.fixture
def caller(served: Bare) -> Iterator[Caller]:
    with Caller(served.path) as found:
        yield found


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_nothing_of_the_sdk_is_loaded() -> None:
    code = """
import sys
import tests.conformance.bare.__main__, tests.conformance.bare.verbs
import tests.conformance.bare.faults as faults
faults.known()
print([name for name in sys.modules if name.startswith("openshell_drivers")])
"""
    assert python(code) == "[]\n"


def test_the_verbs_do_not_load_grpc() -> None:
    code = "import sys, tests.conformance.bare.verbs; print('grpc' in sys.modules)"

    assert python(code) == "False\n"


def test_only_the_services_that_were_asked_for_are_offered(short_dir: Path) -> None:
    with bare(short_dir, "--service", "store") as served, Caller(served.path) as caller:
        assert caller.code("store", "GetCapabilities") == "OK"
        assert caller.code("compute", "GetCapabilities") == "UNIMPLEMENTED"
        assert caller.code("named", "ListCredentials") == "UNIMPLEMENTED"


def test_what_was_answered_survives_kill_9(short_dir: Path) -> None:
    owner = {"provider": "p", "credential_key": "K", "workspace": "w", "provider_id": "i"}
    with bare(short_dir) as served, Caller(served.path) as caller:
        sandbox_id = caller.create(sandbox_token="token-canary")
        stopped = caller.create("two")
        caller.call("compute", "StopSandbox", sandbox_id=stopped)
        handle = caller.call("store", "StoreCredential", value="v", **owner).handle
        before = caller.call("compute", "GetCapabilities").SerializeToString()
        served.process.kill()
        served.ended()
    assert b"token-canary" not in b"".join(path.read_bytes() for path in short_dir.glob("state*"))
    with bare(short_dir) as served, Caller(served.path) as caller:
        caller.comes_to(sandbox_id, *READY)
        caller.comes_to(stopped, "Suspended", "True", "Stopped")
        item = {"request_id": "1", "handle": handle, **owner}
        answer = caller.call("store", "ResolveCredentials", credentials=[item])

        assert answer.credentials[0].value == "v"
        assert caller.call("compute", "GetCapabilities").SerializeToString() == before


def test_its_socket_is_its_user_s_alone(served: Bare) -> None:
    assert served.path.lstat().st_mode & 0o777 == 0o600
    assert served.path.parent.lstat().st_mode & 0o777 == 0o700
    assert [path.name for path in served.path.parent.iterdir()] == ["driver.sock"]


def test_a_stale_socket_is_replaced(short_dir: Path) -> None:
    with bare(short_dir) as first:
        first.process.kill()
        first.ended()
        assert first.path.is_socket()
    with bare(short_dir):
        pass


def regular_file(path: Path) -> None:
    path.write_text("mine")


def symbolic_link(path: Path) -> None:
    path.symlink_to(path.parent / "elsewhere")


def live_socket(path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    LISTENERS.append(listener)


def open_directory(path: Path) -> None:
    path.parent.chmod(0o755)


def linked_directory(path: Path) -> None:
    path.parent.rename(path.parent.with_name("real"))
    path.parent.symlink_to("real")


LISTENERS: Final[list[socket.socket]] = []


@pytest.mark.parametrize(
    "hinder", [regular_file, symbolic_link, live_socket, open_directory, linked_directory]
)
def test_what_is_in_the_way_is_refused_and_left_alone(short_dir: Path, hinder: Any) -> None:
    run = short_dir / "run"
    run.mkdir(mode=0o700)
    hinder(run / "driver.sock")
    before = [(path.name, path.lstat().st_ino) for path in run.iterdir()]

    found = Bare(short_dir)
    status = found.ended()

    while LISTENERS:
        LISTENERS.pop().close()
    assert status == 1
    assert found.log.startswith("bare: ")
    assert "Traceback" not in found.log
    assert [(path.name, path.lstat().st_ino) for path in run.iterdir()] == before


def test_sigterm_ends_watches_finishes_calls_and_removes_the_socket(
    served: Bare, caller: Caller
) -> None:
    watch = caller.watch()
    watch.initial_metadata()
    slow: list[str] = []
    fetch = threading.Thread(
        target=lambda: slow.append(caller.code("named", "ResolveCredential", name="bare-slow"))
    )
    fetch.start()
    assert eventually(lambda: caller.call("compute", "GetCapabilities").driver_name != "")
    served.process.send_signal(signal.SIGTERM)
    with pytest.raises(grpc.RpcError) as ended:
        list(watch)
    fetch.join(PATIENCE)

    assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
    assert slow == ["OK"]
    assert served.ended() == 0
    assert not served.path.exists()
    calls = [json.loads(line) for line in served.log.splitlines()]
    codes = [call["code"] for call in calls if call.get("rpc") == "WatchSandboxes"]
    assert codes == ["UNAVAILABLE"]  # by the driver's word, not by the end of its patience


def test_the_socket_of_a_successor_stays(served: Bare) -> None:
    served.path.unlink()
    with socket.socket(socket.AF_UNIX) as successor:
        successor.bind(str(served.path))
        served.process.terminate()

        assert served.ended() == 0
        assert served.path.is_socket()


def test_messages_are_compiled_once(tmp_path: Path) -> None:
    code = f"""
import os
from pathlib import Path
from tests.conformance.bare import protos
protos._CACHE = Path({str(tmp_path)!r})
print(protos.schema("compute").GetSandboxRequest(name="n").name)
made = sorted(path.name for path in protos._CACHE.rglob("*"))
protos.subprocess = None
print(protos.schema("store").service_name, made[1:])
"""
    lines = python(code).splitlines()

    assert lines[0] == "n"
    assert lines[1].startswith("openshell.credentials.v1.CredentialDriver ['compute.binpb'")
    assert len(list(tmp_path.iterdir())) == 1
