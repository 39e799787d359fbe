"""The socket, and what a process does at its start."""

from __future__ import annotations

import asyncio
import os
import pwd
import stat
import sys
import time
from typing import Any

from tests.conformance.bare.driver import Driver
from tests.conformance.bare.errors import CannotServe, InvalidArgument
from tests.conformance.bare.faults._tools import fault, override

_REFUSALS = ("COMP-SOCK-04.b", "COMP-SOCK-04.c", "COMP-SOCK-04.d", "PROC-BIND-06")


@fault("authority-is-checked", kills=("COMP-SOCK-01.a",))
def _(driver: Driver) -> None:
    """Only names that a gateway would use get through."""

    @override(driver.relay, "passes")
    def _(_original: Any, data: bytes) -> bool:
        return b"driver.example" not in data


@fault("tracing-is-refused", kills=("COMP-SOCK-01.b",))
def _(driver: Driver) -> None:
    """A header of distributed tracing ends the connection."""

    @override(driver.relay, "passes")
    def _(_original: Any, data: bytes) -> bool:
        return b"tracestate" not in data


@fault("socket-comes-before-service", kills=("COMP-SOCK-02",))
def _(driver: Driver) -> None:
    """The socket accepts at once, and the first answer comes two seconds later."""
    began = time.monotonic()

    @override(driver.calls, "before")
    async def _(original: Any, rpc: str, request: Any) -> None:
        await asyncio.sleep(max(0, began + 2.2 - time.monotonic()))
        await original(rpc, request)


@fault(
    "listens-late",
    kills=("COMP-SOCK-03", "CREDF-SOCK-01"),
    also=(*_REFUSALS, "PROC-BIND-01", "PROC-BIND-04.b"),
)
def _(driver: Driver) -> None:
    """Eleven seconds pass before the socket is there."""

    @override(driver, "bind")
    def _(original: Any) -> Any:
        time.sleep(10.6)
        return original()


@fault(
    "credentials-authority-is-checked",
    kills=("CREDF-SOCK-01",),
    also=("CREDF-LIST-01", "CREDF-RES-01", "CREDF-RES-02", "CREDF-RES-08"),
)
def _(driver: Driver) -> None:
    """The fork's own name for the credentials socket is refused."""

    @override(driver.relay, "passes")
    def _(_original: Any, data: bytes) -> bool:
        return not (b"[::]:50052" in data and b"CredentialsDriver" in data)


@fault("socket-is-open-to-all", kills=("COMP-SOCK-05.a",))
def _(driver: Driver) -> None:
    """Everybody may connect."""
    driver.socket.mode = 0o666


@fault("directory-is-open-to-all", kills=("COMP-SOCK-05.b",))
def _(driver: Driver) -> None:
    """The directory that is made for the socket follows the usual umask."""
    driver.socket.directory_mode = 0o755


@fault("peers-are-not-asked", kills=("COMP-SOCK-06",))
def _(driver: Driver) -> None:
    """The socket's mode alone decides who gets in."""

    @override(driver.relay, "admits")
    def _(_original: Any, _uid: int) -> bool:
        return True


@fault("unknown-methods-are-internal", kills=("COMP-SOCK-09.a",))
def _(driver: Driver) -> None:
    """A method that there is not answers INTERNAL."""
    import grpc

    class Everything(grpc.GenericRpcHandler):
        def service(self, _details: Any) -> Any:
            async def fail(_raw: bytes, context: Any) -> bytes:
                await context.abort(grpc.StatusCode.INTERNAL, "no such method")
                return b""

            return grpc.unary_unary_rpc_method_handler(fail)

    @override(driver, "bind")
    def _(original: Any) -> Any:
        server = original()
        server.add_generic_rpc_handlers((Everything(),))
        return server


@fault("unknown-fields-are-refused", kills=("COMP-SOCK-09.b",))
def _(driver: Driver) -> None:
    """A request with a field of a later revision is refused."""

    @override(driver.calls, "parse")
    def _(original: Any, request_class: Any, raw: bytes) -> Any:
        if b"\xc8\xb2\x04" in raw[-32:]:
            raise InvalidArgument("unknown field 9001")
        return original(request_class, raw)


@fault("stale-socket-is-in-the-way", kills=("COMP-SOCK-04.a",), also=("CREDU-SOCK-01",))
def _(driver: Driver) -> None:
    """After a crash somebody has to remove the socket."""

    @override(driver.socket, "check_free")
    def _(_original: Any) -> None:
        if os.path.lexists(driver.socket.path):
            raise CannotServe(f"{driver.socket.path} exists")


@fault("symbolic-links-are-replaced", kills=("COMP-SOCK-04.b",))
def _(driver: Driver) -> None:
    """A symbolic link at the path is removed."""

    @override(driver.socket, "check_free")
    def _(original: Any) -> None:
        if driver.socket.path.is_symlink():
            driver.socket.path.unlink()
        original()


@fault("symbolic-links-are-followed", kills=("COMP-SOCK-04.b",))
def _(driver: Driver) -> None:
    """What a symbolic link at the path names is replaced."""

    @override(driver.socket, "check_free")
    def _(original: Any) -> None:
        driver.socket.path = driver.socket.path.resolve()
        original()


@fault("files-are-replaced", kills=("COMP-SOCK-04.c",))
def _(driver: Driver) -> None:
    """A regular file at the path is removed."""

    @override(driver.socket, "check_free")
    def _(original: Any) -> None:
        path = driver.socket.path
        if os.path.lexists(path) and stat.S_ISREG(path.lstat().st_mode):
            path.unlink()
        original()


@fault("others-sockets-are-replaced", kills=("COMP-SOCK-04.d",))
def _(driver: Driver) -> None:
    """A stale socket is removed whoever's it is."""

    @override(driver.socket, "check_free")
    def _(original: Any) -> None:
        path = driver.socket.path
        if os.path.lexists(path) and path.lstat().st_uid not in {os.geteuid()}:
            path.unlink()
        original()


@fault("live-socket-is-taken-over", kills=("PROC-BIND-06",))
def _(driver: Driver) -> None:
    """A socket that somebody listens on is replaced."""

    @override(driver.socket, "is_live")
    def _(_original: Any) -> bool:
        return False


@fault("a-socket-that-cannot-be-is-waited-for", kills=("PROC-BIND-01",))
def _(driver: Driver) -> None:
    """If the directory is none the process waits in silence."""

    @override(driver.socket, "check_directory")
    def _(original: Any, status: os.stat_result) -> None:
        while not stat.S_ISDIR(status.st_mode):
            time.sleep(1)
        original(status)


@fault("socket-flag-comes-first", kills=("PROC-BIND-02.a", "CREDU-SOCK-01"))
def _(driver: Driver) -> None:
    """``--bind-socket PATH`` at the end of the arguments is not understood."""

    @override(driver, "judge_options")
    def _(original: Any) -> None:
        if sys.argv[-2] == "--bind-socket":
            raise CannotServe("--bind-socket has to come first")
        original()


@fault("socket-flag-has-one-spelling", kills=("PROC-BIND-02.b",))
def _(driver: Driver) -> None:
    """``--bind-socket=PATH`` is not understood."""

    @override(driver, "judge_options")
    def _(original: Any) -> None:
        if any(each.startswith("--bind-socket=") for each in sys.argv):
            raise CannotServe("unknown argument")
        original()


@fault("no-path-by-environment", kills=("PROC-BIND-03",))
def _(driver: Driver) -> None:
    """Only the flag names the socket."""

    @override(driver, "judge_options")
    def _(original: Any) -> None:
        if not any(each.startswith("--bind-socket") for each in sys.argv):
            raise CannotServe("--bind-socket is required")
        original()


@fault("paths-are-short", kills=("PROC-BIND-04.a",))
def _(driver: Driver) -> None:
    """A path of more than 90 bytes is refused."""

    @override(driver.socket, "check_path")
    def _(original: Any) -> None:
        original()
        if len(str(driver.socket.path)) > 90:
            raise CannotServe("the socket path is too long")


@fault("long-paths-are-an-invalid-argument", kills=("PROC-BIND-04.b",))
def _(driver: Driver) -> None:
    """Of a path that is too long the system's words are repeated."""

    @override(driver.socket, "check_path")
    def _(_original: Any) -> None:
        if len(str(driver.socket.path)) > 107:
            raise CannotServe("bind: invalid argument")


@fault("whatever-is-at-the-path-is-removed", kills=("PROC-BIND-05",))
def _(driver: Driver) -> None:
    """At its end the driver removes the path blindly."""

    @override(driver.socket, "withdraw")
    def _(original: Any) -> None:
        driver.socket.path.unlink(missing_ok=True)
        original()


@fault("unknown-options-are-ignored", kills=("PROC-START-01",))
def _(driver: Driver) -> None:
    """What nobody knows is passed over."""

    @override(driver, "judge_options")
    def _(_original: Any) -> None:
        return


@fault("start-needs-the-backend", kills=("PROC-START-02",))
def _(driver: Driver) -> None:
    """The platform is asked before the socket is there."""

    @override(driver, "bind")
    def _(original: Any) -> Any:
        if driver.switch.read().get("outage"):
            raise CannotServe("the platform cannot be reached")
        return original()


@fault("start-needs-a-passwd-entry", kills=("PROC-ENV-01",))
def _(_driver: Driver) -> None:
    """The name of the driver's user is looked up."""
    pwd.getpwuid(os.geteuid())
