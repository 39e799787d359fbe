"""What must not be told."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.conformance.bare.driver import Driver
from tests.conformance.bare.errors import InvalidArgument, Refusal, Unavailable
from tests.conformance.bare.faults._tools import fault, override

_LOGS = ("SEC-LOG-01", "SEC-LOG-02", "SEC-LOG-03")
_HELPER = "import time; time.sleep(0.3)"


@fault("tokens-are-logged", kills=("COMP-SEC-01.a", "SEC-LOG-01.a", "SEC-LOG-02.a"), also=_LOGS)
def _(driver: Driver) -> None:
    """The sandbox token stands in the log."""

    @override(driver.platform, "deliver")
    def _(original: Any, sandbox_id: str, token: str) -> None:
        driver.log.debug("delivered", sandbox=sandbox_id, token=token)
        original(sandbox_id, token)


@fault("launch-is-logged", kills=("COMP01-LAUNCH-02.a", "SEC-LOG-02.a"), also=_LOGS)
def _(driver: Driver) -> None:
    """What a supervisor authenticates with stands in the log."""

    @override(driver.compute.judge, "judge_launch")
    def _(original: Any, launch: bytes) -> None:
        driver.log.debug("launch", launch=launch.decode("utf-8", "replace"))
        original(launch)


@fault("credentials-are-logged", kills=("COMP01-AUTH-02.s",), also=("SEC-LOG-03.a",))
def _(driver: Driver) -> None:
    """A sandbox's credential stands in the log."""

    @override(driver.compute, "owner_of")
    def _(original: Any, credential: str) -> Any:
        driver.log.debug("authenticates", credential=credential)
        return original(credential)


@fault("values-are-logged", kills=("CREDU-SEC-01.b", "SEC-LOG-01.b", "SEC-LOG-02.b"), also=_LOGS)
def _(driver: Driver) -> None:
    """A stored value stands in the log."""

    @override(driver.store, "kept")
    def _(original: Any, request: Any) -> str:
        driver.log.debug("stores", value=request.value)
        return str(original(request))


@fault(
    "fork-tokens-are-logged",
    kills=("CREDF-RES-04", "SEC-LOG-01.c", "SEC-LOG-02.c", "SEC-LOG-03.c"),
    also=_LOGS,
)
def _(driver: Driver) -> None:
    """A token stands in the log."""

    @override(driver.credentials, "resolved")
    def _(original: Any, token: Any) -> Any:
        driver.log.debug("resolved", token=token.text)
        return original(token)


@fault(
    "requests-are-logged-as-base64",
    kills=("SEC-FORM-01.a", "SEC-FORM-01.b"),
    also=(
        "COMP-SEC-01.a",
        "COMP01-LAUNCH-02.a",
        "COMP01-AUTH-02.s",
        "CREDU-SEC-01.b",
        "SEC-LOG-03",
    ),
)
def _(driver: Driver) -> None:
    """The bytes of a request stand in the log."""

    @override(driver.calls, "before")
    async def _(original: Any, rpc: str, request: Any) -> None:
        raw = base64.b64encode(request.SerializeToString()).decode()
        driver.log.debug("request", rpc=rpc, raw=raw)
        await original(rpc, request)


@fault("tokens-are-logged-in-part", kills=("SEC-FORM-01.c",), also=("CREDF-RES-04", "SEC-LOG-03.f"))
def _(driver: Driver) -> None:
    """Twenty characters of a token stand in the log."""

    @override(driver.credentials, "resolved")
    def _(original: Any, token: Any) -> Any:
        driver.log.debug("resolved", token=token.text[:20] + "...")
        return original(token)


@fault(
    "refused-requests-are-logged",
    kills=("SEC-LOG-03.a", "SEC-LOG-03.b"),
    also=(
        "COMP-SEC-01.a",
        "COMP01-LAUNCH-02.a",
        "COMP01-AUTH-02.s",
        "CREDU-SEC-01.b",
        "SEC-HOST-01",
        "SEC-LOG-03",
    ),
)
def _(driver: Driver) -> None:
    """A request that fails stands in the log, to find out why."""

    @override(driver.calls, "method")
    def _(original: Any, implementation: object, rpc: str) -> Any:
        found = original(implementation, rpc)
        if rpc == "WatchSandboxes":
            return found

        async def told(request: Any) -> Any:
            try:
                return await found(request)
            except Refusal:
                driver.log.error("refused", rpc=rpc, request=str(request))
                raise

        return told


@fault("outages-are-logged-with-values", kills=("SEC-LOG-03.d", "SEC-LOG-03.e"))
def _(driver: Driver) -> None:
    """A request that fails in an outage stands in the log."""

    @override(driver.calls, "method")
    def _(original: Any, implementation: object, rpc: str) -> Any:
        found = original(implementation, rpc)
        if rpc == "WatchSandboxes":
            return found

        async def told(request: Any) -> Any:
            try:
                return await found(request)
            except Unavailable:
                driver.log.error("outage", rpc=rpc, request=str(request))
                raise

        return told


@fault("outages-are-logged-with-tokens", kills=("SEC-LOG-03.f",))
def _(driver: Driver) -> None:
    """What is in the cache of tokens stands in the log when the issuer is down."""
    held: list[str] = []

    @override(driver.credentials, "resolved")
    def _(original: Any, token: Any) -> Any:
        held.append(token.text)
        return original(token)

    @override(driver.calls, "status")
    def _(original: Any, error: Exception) -> Any:
        if isinstance(error, Unavailable):
            driver.log.error("issuer down", cache=held)
        return original(error)


@fault(
    "refusals-quote-the-environment", kills=("COMP-VAL-08",), also=("SEC-ERR-01.a", "SEC-LOG-03.a")
)
def _(driver: Driver) -> None:
    """The message about a bad variable has its value."""

    @override(driver.compute.judge, "judge")
    def _(original: Any, request: Any) -> Any:
        try:
            return original(request)
        except InvalidArgument as error:
            spec = request.sandbox.spec
            raise InvalidArgument(f"{error.message}: {dict(spec.environment)}") from None


@fault(
    "starts-quote-their-launch",
    kills=("SEC-ERR-01.a", "COMP01-LAUNCH-02.a"),
    also=("SEC-LOG-03.a",),
)
def _(driver: Driver) -> None:
    """The message about a bad launch document has the document."""

    @override(driver.compute, "start_sandbox")
    async def _(original: Any, request: Any) -> Any:
        try:
            return await original(request)
        except InvalidArgument:
            text = request.launch_authentication.decode("utf-8", "replace")
            raise InvalidArgument(f"cannot read {text}") from None


@fault(
    "refused-stores-quote-the-value", kills=("SEC-ERR-01.b", "CREDU-SEC-01.b"), also=("SEC-LOG-03",)
)
def _(driver: Driver) -> None:
    """The message about a bad store has the value."""

    @override(driver.store, "store_credential")
    async def _(original: Any, request: Any) -> Any:
        try:
            return await original(request)
        except InvalidArgument as error:
            raise InvalidArgument(f"{error.message}: {request.value}") from None


@fault(
    "unknown-names-quote-the-cache", kills=("SEC-ERR-01.c", "CREDF-RES-04"), also=("SEC-LOG-03.c",)
)
def _(driver: Driver) -> None:
    """The message about an unknown name has the tokens that there are."""
    held: list[str] = []

    @override(driver.credentials, "resolve_credential")
    async def _(original: Any, request: Any) -> Any:
        try:
            answer = await original(request)
        except Refusal as error:
            error.message += f"; there are {held}"
            raise
        held.append(answer.token)
        return answer


@fault(
    "conditions-quote-the-environment",
    kills=("SEC-OBS-01", "COMP-STAT-09"),
    also=("COMP-SEC-01.a", "COMP-WATCH-09"),
)
def _(driver: Driver) -> None:
    """The message of a condition has the environment."""

    @override(driver.snapshots, "ready")
    def _(original: Any, resource: Any) -> Any:
        made = original(resource)
        workload = driver.platform.resources.workload(resource.id) or {}
        made.message = json.dumps(workload.get("environment", {}))
        return made


@fault("conditions-have-control-characters", kills=("COMP-STAT-09",))
def _(driver: Driver) -> None:
    """The message of a condition comes from a terminal."""

    @override(driver.snapshots, "ready")
    def _(original: Any, resource: Any) -> Any:
        made = original(resource)
        made.message = "\x1b[31mpulling\x1b[0m"
        return made


@fault("observations-have-the-spec", kills=("COMP-SEC-02",))
def _(driver: Driver) -> None:
    """Get, List and Watch give the environment back."""

    @override(driver.snapshots, "of")
    def _(original: Any, resource: Any) -> Any:
        made = original(resource)
        workload = driver.platform.resources.workload(resource.id) or {}
        made.spec.environment.update(workload.get("environment", {}))
        return made


def _run(arguments: list[str], environment: dict[str, str]) -> None:
    subprocess.Popen([sys.executable, "-c", _HELPER, *arguments], env={**os.environ, **environment})


@fault("token-is-an-argument", kills=("SEC-PROC-01.a",))
def _(driver: Driver) -> None:
    """A helper gets the sandbox token on its command line."""

    @override(driver.platform, "deliver")
    def _(original: Any, sandbox_id: str, token: str) -> None:
        _run([token], {})
        original(sandbox_id, token)


@fault("value-is-an-argument", kills=("SEC-PROC-01.b",))
def _(driver: Driver) -> None:
    """A helper gets a stored value on its command line."""

    @override(driver.store, "kept")
    def _(original: Any, request: Any) -> str:
        _run([request.value.replace("\0", "")], {})
        return str(original(request))


@fault("token-is-a-variable", kills=("SEC-PROC-02.a",))
def _(driver: Driver) -> None:
    """A helper gets the sandbox token in its environment."""

    @override(driver.platform, "deliver")
    def _(original: Any, sandbox_id: str, token: str) -> None:
        _run([], {"TOKEN": token})
        original(sandbox_id, token)


@fault("value-is-a-variable", kills=("SEC-PROC-02.b",))
def _(driver: Driver) -> None:
    """A helper gets a stored value in its environment."""

    @override(driver.store, "kept")
    def _(original: Any, request: Any) -> str:
        _run([], {"VALUE": request.value.replace("\0", "")})
        return str(original(request))


def _folder(driver: Driver) -> Path:
    assert driver.options.state is not None
    return driver.options.state.parent


@fault("token-file-is-open-to-all", kills=("SEC-FILE-01.a",))
def _(driver: Driver) -> None:
    """The token's file follows the usual umask."""

    @override(driver.platform, "deliver")
    def _(original: Any, sandbox_id: str, token: str) -> None:
        (_folder(driver) / f"token-{sandbox_id[:8]}").write_text(token)
        original(sandbox_id, token)

    @override(driver.platform, "delete")
    def _(original: Any, sandbox_id: str) -> None:
        (_folder(driver) / f"token-{sandbox_id[:8]}").unlink(missing_ok=True)
        original(sandbox_id)


@fault("value-file-is-open-for-a-moment", kills=("SEC-FILE-01.b",))
def _(driver: Driver) -> None:
    """A value stands in a file that others can read, for 50 ms."""

    @override(driver.store.vault, "put")
    def _(original: Any, handle: str, owner: Any, object_id: str, value: str, expires: Any) -> None:
        path = _folder(driver) / "temporary"
        path.write_text(value)
        time.sleep(0.05)
        path.unlink()
        original(handle, owner, object_id, value, expires)


@fault("deleted-values-stay-on-disk", kills=("SEC-FILE-02",))
def _(driver: Driver) -> None:
    """A deleted value stays in a backup."""

    @override(driver.store.vault, "remove")
    def _(original: Any, handle: str) -> None:
        found = driver.store.vault.get(handle)
        path = _folder(driver) / "backup"
        path.touch(mode=0o600)
        if found is not None:
            path.write_text(found.value)
        original(handle)


@fault("log-lines-can-be-forged", kills=("SEC-HOST-01",))
def _(driver: Driver) -> None:
    """Names stand in the log as they came."""

    @override(driver.calls, "before")
    async def _(original: Any, rpc: str, request: Any) -> None:
        for field in ("name", "credential_key"):
            driver.log.write(f"{rpc} {getattr(request, field, '')}")
        await original(rpc, request)


@fault("token-is-in-the-workload's-environment", kills=("COMP-SEC-01.b",))
def _(driver: Driver) -> None:
    """The token is a plain variable of the workload."""

    @override(driver.compute.workloads, "own")
    def _(original: Any, sandbox: Any) -> Any:
        return {**original(sandbox), "OPENSHELL_SANDBOX_TOKEN": sandbox.spec.sandbox_token}


@fault("user's-token-file-is-kept", kills=("COMP-SEC-01.b",))
def _(driver: Driver) -> None:
    """The user's own OPENSHELL_SANDBOX_TOKEN_FILE reaches the workload."""

    @override(driver.compute.workloads, "environment")
    def _(original: Any, sandbox: Any) -> Any:
        name = "OPENSHELL_SANDBOX_TOKEN_FILE"
        users = {k: v for k, v in sandbox.spec.environment.items() if k == name}
        return {**original(sandbox), **users}


@fault("launch-reaches-the-workload", kills=("COMP01-LAUNCH-02.b",))
def _(driver: Driver) -> None:
    """All of launch_authentication is a variable of the workload."""

    @override(driver.compute.workloads, "own")
    def _(original: Any, sandbox: Any) -> Any:
        launch = sandbox.spec.launch_authentication.decode("utf-8", "replace")
        return {**original(sandbox), "OPENSHELL_LAUNCH": launch}


@fault("handle-metadata-holds-the-value", kills=("CREDU-SEC-01.a",))
def _(driver: Driver) -> None:
    """The value is in the handle's metadata."""

    @override(driver.store, "written")
    def _(original: Any, handle: str, request: Any) -> Any:
        made = original(handle, request)
        made.metadata["preview"] = request.value[:16]
        return made


@fault("list-shows-values", kills=("CREDU-SEC-01.a",))
def _(driver: Driver) -> None:
    """A listing has the values."""

    @override(driver.store, "listed")
    def _(original: Any, stored: Any) -> Any:
        made = original(stored)
        made.metadata["value"] = stored.value
        return made
