"""How requests are read, in Validate and Create."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

from tests.conformance.bare.driver import Driver
from tests.conformance.bare.errors import (
    FailedPrecondition,
    InvalidArgument,
    Unimplemented,
)
from tests.conformance.bare.faults._tools import fault, override


def not_judged(driver: Driver, *rules: str) -> None:
    """Leave rules out."""
    for rule in rules:
        setattr(driver.compute.judge, rule, lambda *_: None)


def judged_more(driver: Driver, rule: Any) -> None:
    """Add a rule, which gets the sandbox."""

    @override(driver.compute.judge, "judge_identity")
    def _(original: Any, sandbox: Any) -> None:
        original(sandbox)
        rule(sandbox)


@fault("validate-is-missing", kills=("COMP-VAL-01",))
def _(driver: Driver) -> None:
    """There is no ValidateSandboxCreate."""
    compute: Any = driver.compute
    compute.validate_sandbox_create = None


@fault("validate-makes-it", kills=("COMP-VAL-02.a", "COMP-VAL-02.b"))
def _(driver: Driver) -> None:
    """A validation makes the sandbox."""

    @override(driver.compute, "validate_sandbox_create")
    async def _(original: Any, request: Any) -> Any:
        answer = await original(request)
        await driver.compute.make(request.sandbox)
        return answer


@fault("validate-reserves", kills=("COMP-VAL-02.b",))
def _(driver: Driver) -> None:
    """A validation reserves something at the platform that nobody sees."""

    @override(driver.compute, "validate_sandbox_create")
    async def _(original: Any, request: Any) -> Any:
        answer = await original(request)
        driver.platform.resources.create_foreign(f"reserved-{secrets.token_hex(4)}")
        return answer


@fault("validate-nothing-is-ok", kills=("COMP-VAL-03",))
def _(driver: Driver) -> None:
    """A validation of no sandbox is OK."""

    @override(driver.compute, "validate_sandbox_create")
    async def _(original: Any, request: Any) -> Any:
        if not request.HasField("sandbox"):
            return driver.compute.messages.ValidateSandboxCreateResponse()
        return await original(request)


@fault("mistakes-are-internal-errors", kills=("COMP-VAL-04",))
def _(driver: Driver) -> None:
    """A malformed amount breaks the driver's own code."""

    @override(driver.compute.judge, "judge_quantities")
    def _(original: Any, resources: Any) -> None:
        try:
            original(resources)
        except InvalidArgument:
            raise ValueError("no quantity") from None


@fault("validate-wants-a-token", kills=("COMP-VAL-05",))
def _(driver: Driver) -> None:
    """A validation without a token is refused."""

    @override(driver.compute, "validate_sandbox_create")
    async def _(original: Any, request: Any) -> Any:
        if request.sandbox.workspace and not request.sandbox.spec.sandbox_token:
            raise FailedPrecondition("sandbox_token is missing")
        return await original(request)


@fault("validate-is-generous", kills=("COMP-VAL-06.a",))
def _(driver: Driver) -> None:
    """Only the create finds that an image name is too long."""

    @override(driver.compute, "validate_sandbox_create")
    async def _(original: Any, request: Any) -> Any:
        request.sandbox.spec.template.image = request.sandbox.spec.template.image[:1000]
        return await original(request)


@fault("create-is-generous", kills=("COMP-VAL-06.b",))
def _(driver: Driver) -> None:
    """Only the validation refuses an agent socket."""

    @override(driver.compute, "create_sandbox")
    async def _(original: Any, request: Any) -> Any:
        request.sandbox.spec.template.ClearField("agent_socket_path")
        return await original(request)


@fault("validate-is-slow", kills=("COMP-VAL-07",))
def _(driver: Driver) -> None:
    """A validation takes more than a second."""

    @override(driver.compute, "validate_sandbox_create")
    async def _(original: Any, request: Any) -> Any:
        await asyncio.sleep(1.3)
        return await original(request)


@fault("sent-status-is-refused", kills=("COMP-IN-01",))
def _(driver: Driver) -> None:
    """A sandbox that brings conditions along is refused."""

    def rule(sandbox: Any) -> None:
        if sandbox.status.conditions:
            raise InvalidArgument("status is not for gateways to set")

    judged_more(driver, rule)


@fault("sent-status-is-echoed", kills=("COMP-IN-01",))
def _(driver: Driver) -> None:
    """A gateway's idea of the instance is taken for the platform's."""
    sent: dict[str, str] = {}

    @override(driver.compute, "make")
    async def _(original: Any, sandbox: Any) -> Any:
        sent[sandbox.id] = sandbox.status.instance_id
        return await original(sandbox)

    @override(driver.snapshots, "instance_id")
    def _(original: Any, resource: Any) -> str:
        return sent.get(resource.id) or str(original(resource))


@fault("amounts-are-whole-numbers", kills=("COMP-IN-04.a",))
def _(driver: Driver) -> None:
    """Parts of a processor are taken for garbage."""

    @override(driver.compute.judge, "judge_quantities")
    def _(original: Any, resources: Any) -> None:
        if resources.cpu_limit and not resources.cpu_limit.isdecimal():
            raise InvalidArgument("cpu_limit is no whole number")
        original(resources)


@fault("any-amount-will-do", kills=("COMP-IN-04.b",))
def _(driver: Driver) -> None:
    """Amounts are not looked at."""
    not_judged(driver, "judge_quantities")


@fault("empty-amounts-are-refused", kills=("COMP-IN-04.c",))
def _(driver: Driver) -> None:
    """Resources without any amount are refused."""

    def rule(sandbox: Any) -> None:
        template = sandbox.spec.template
        if template.HasField("resources") and not template.resources.ListFields():
            raise InvalidArgument("resources has no amount")

    judged_more(driver, rule)


@fault("platform-config-is-ignored", kills=("COMP-IN-05",))
def _(driver: Driver) -> None:
    """What stands in platform_config is of no interest."""
    not_judged(driver, "judge_platform_config", "judge_platform_kinds")


@fault("gpus-are-ignored", kills=("COMP-IN-07.a", "COMP01-RES-01.c"))
def _(driver: Driver) -> None:
    """A wish for a GPU is of no interest."""
    not_judged(driver, "judge_gpu")


@fault("gpus-need-a-count", kills=("COMP-IN-07.b",), also=("COMP01-RES-01.c", "COMP-IN-07.c"))
def _(driver: Driver) -> None:
    """A wish for a GPU without a count is not seen."""

    @override(driver.compute.judge, "judge_gpu")
    def _(original: Any, spec: Any) -> None:
        if spec.resource_requirements.gpu.count or driver.compute.judge.fork_gpu(spec):
            original(spec)


@fault("fork-gpus-are-ignored", kills=("COMP-IN-07.c",))
def _(driver: Driver) -> None:
    """The fork's wish for a GPU is not seen."""

    @override(driver.compute.judge, "fork_gpu")
    def _(_original: Any, _spec: Any) -> bool:
        return False


@fault("labels-name-the-sandbox", kills=("COMP-IN-09",))
def _(driver: Driver) -> None:
    """A label of the user's beats the driver's own, by which it finds its sandboxes."""

    @override(driver.compute, "make")
    async def _(original: Any, sandbox: Any) -> Any:
        labelled = sandbox.spec.template.labels.get("openshell.ai/sandbox-id")
        sandbox.id = labelled or sandbox.id
        return await original(sandbox)


@fault("policies-must-be-known", kills=("COMP01-IN-01",))
def _(driver: Driver) -> None:
    """A policy with a field that the driver does not know is refused."""

    def rule(sandbox: Any) -> None:
        if sandbox.spec.policy not in (b"", b"\x08\x01"):
            raise InvalidArgument("policy has an unknown field")

    judged_more(driver, rule)


@fault("identity-must-be-given", kills=("COMP01-IN-02.a",))
def _(driver: Driver) -> None:
    """A policy without a workload identity is refused."""

    def rule(sandbox: Any) -> None:
        if sandbox.spec.policy and not sandbox.spec.HasField("workload_identity"):
            raise InvalidArgument("workload_identity is missing")

    judged_more(driver, rule)


@fault("root-is-welcome", kills=("COMP01-IN-02.b",), also=("COMP01-STAT-06",))
def _(driver: Driver) -> None:
    """Identities are resolved, to root too."""
    not_judged(driver, "judge_workload_identity")

    @override(driver.snapshots, "status")
    def _(original: Any, resource: Any) -> Any:
        made = original(resource)
        made.resolved_identity.SetInParent()
        return made


@fault("no-user-namespaces-is-unknown", kills=("COMP01-IN-03",))
def _(driver: Driver) -> None:
    """A demand for no user namespaces is taken for a call of an unknown method."""

    def rule(sandbox: Any) -> None:
        template = sandbox.spec.template
        if template.HasField("user_namespaces") and not template.user_namespaces:
            raise Unimplemented("user namespaces")

    judged_more(driver, rule)


@fault("template-beats-spec", kills=("COMP-IN-03.a",))
def _(driver: Driver) -> None:
    """The template's environment overrides the user's."""

    @override(driver.compute.workloads, "environment")
    def _(original: Any, sandbox: Any) -> dict[str, str]:
        made = {**original(sandbox), **sandbox.spec.template.environment}
        return {**made, **driver.compute.workloads.own(sandbox)}


@fault("users-beat-the-driver", kills=("COMP-IN-03.b",))
def _(driver: Driver) -> None:
    """The user's environment overrides the driver's own variables."""

    @override(driver.compute.workloads, "environment")
    def _(original: Any, sandbox: Any) -> dict[str, str]:
        return {**original(sandbox), **sandbox.spec.environment}


@fault("command-is-one-text", kills=("COMP-IN-08.a",))
def _(driver: Driver) -> None:
    """The arguments of the command reach the workload joined with spaces."""

    @override(driver.compute.workloads, "command")
    def _(original: Any, spec: Any) -> list[str]:
        return [" ".join(original(spec))]


@fault("always-a-tty", kills=("COMP-IN-08.b",))
def _(driver: Driver) -> None:
    """Every main process gets a terminal."""

    @override(driver.compute.workloads, "tty")
    def _(_original: Any, _spec: Any) -> bool:
        return True


@fault("attachment-is-dropped", kills=("COMP01-IN-04",))
def _(driver: Driver) -> None:
    """Nobody is told that somebody is going to attach."""

    @override(driver.compute.workloads, "of")
    def _(original: Any, sandbox: Any) -> dict[str, Any]:
        return {**original(sandbox), "await_main_process_attachment": False}


def no_launch(sandbox: Any) -> bool:
    """Whether a gateway of 0.1 has left the document out; older ones send no policy either."""
    return bool(sandbox.spec.policy) and not sandbox.spec.launch_authentication


@fault("create-needs-launch", kills=("COMP01-LAUNCH-01.a",))
def _(driver: Driver) -> None:
    """A create without launch_authentication is refused, which is said nowhere."""

    @override(driver.compute, "make")
    async def _(original: Any, sandbox: Any) -> Any:
        if no_launch(sandbox):
            raise FailedPrecondition("launch_authentication is missing")
        return await original(sandbox)


@fault(
    "create-needs-launch-without-a-word", kills=("COMP01-LAUNCH-04",), also=("COMP01-LAUNCH-01.a",)
)
def _(driver: Driver) -> None:
    """A create without launch_authentication is taken for malformed."""

    @override(driver.compute, "make")
    async def _(original: Any, sandbox: Any) -> Any:
        if no_launch(sandbox):
            raise InvalidArgument("launch_authentication is missing")
        return await original(sandbox)


@fault("start-needs-launch", kills=("COMP01-LAUNCH-01.b",))
def _(driver: Driver) -> None:
    """A start without launch_authentication is refused, which is said nowhere."""

    @override(driver.compute, "start_sandbox")
    async def _(original: Any, request: Any) -> Any:
        if request.generation_id and not request.launch_authentication:
            raise FailedPrecondition("launch_authentication is missing")
        return await original(request)


@fault("damaged-launch-breaks-it", kills=("COMP01-LAUNCH-03.a",))
def _(driver: Driver) -> None:
    """A damaged launch_authentication is an internal error."""

    @override(driver.compute.judge, "judge_launch")
    def _(original: Any, launch: bytes) -> None:
        try:
            original(launch)
        except InvalidArgument:
            raise ValueError("no JSON") from None


@fault("damaged-launch-is-quoted", kills=("COMP01-LAUNCH-03.a",), also=("COMP01-LAUNCH-02",))
def _(driver: Driver) -> None:
    """The message says what stands in a damaged launch_authentication."""

    @override(driver.compute.judge, "judge_launch")
    def _(original: Any, launch: bytes) -> None:
        try:
            original(launch)
        except InvalidArgument as error:
            raise InvalidArgument(f"{error.message}: {launch!r}") from None


@fault("launch-keys-must-be-known", kills=("COMP01-LAUNCH-03.b",))
def _(driver: Driver) -> None:
    """A key of a later gateway in launch_authentication is refused."""

    @override(driver.compute.judge, "judge_launch")
    def _(original: Any, launch: bytes) -> None:
        original(launch)
        if b"future" in launch:
            raise InvalidArgument("launch_authentication has an unknown key")
