"""Create, as a user sees it, with drivers that fail at each step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.compute import SandboxSpec, SandboxTemplate
from openshell_drivers.testing.gateway import (
    PRESETS,
    Gateway,
    GatewayAdmission,
    GatewayOptions,
    UserError,
)
from tests.fakes.polling import until
from tests.fakes.scripted_compute import ScriptedCompute, Stall, Status, ready
from tests.gateway.conftest import NEWEST, UPSTREAM
from tests.gateway.journal import phases, told

pytestmark = pytest.mark.anyio
CODES = ("INVALID_ARGUMENT", "NOT_FOUND", "UNAVAILABLE", "RESOURCE_EXHAUSTED", "UNIMPLEMENTED")


async def test_create_is_accepted_and_gets_ready_by_the_watch(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    async with Gateway(socket_path, preset=preset) as gateway:
        await gateway.wait_watching()
        record = await gateway.create("box")
        assert record.phase == "Provisioning"
        driver.show(record.id, "box", ready())
        found = await gateway.wait_for("box", "Ready")

        assert (found.id, found.reason) == (record.id, "Running")
        assert phases(gateway) == ["Provisioning", "Ready"]


@pytest.mark.parametrize("code", [*CODES, "ALREADY_EXISTS", "FAILED_PRECONDITION"])
async def test_a_code_of_validate_reaches_the_user_unchanged(
    driver: ScriptedCompute, socket_path: Path, preset: str, code: str
) -> None:
    driver.script["ValidateSandboxCreate"] = [Status(code, "no GPU")]

    async with Gateway(socket_path, preset=preset) as gateway:
        with pytest.raises(UserError) as error:
            await gateway.create("box")

        assert (error.value.code, error.value.message) == (code, "no GPU")
        assert gateway.records == ()
    assert driver.asked("CreateSandbox") == []


@pytest.mark.parametrize("code", CODES)
async def test_other_codes_of_create_become_internal(
    driver: ScriptedCompute, socket_path: Path, preset: str, code: str
) -> None:
    driver.script["CreateSandbox"] = [Status(code, "quota")]

    async with Gateway(socket_path, preset=preset) as gateway:
        with pytest.raises(UserError, match="quota") as error:
            await gateway.create("box")

        assert error.value.code == "INTERNAL"
        assert gateway.records == ()
        assert gateway.journal[-1].kind == "gone"
    assert driver.asked("DeleteSandbox") == []  # the driver cleans up itself


@pytest.mark.parametrize(
    ("code", "message"),
    [("ALREADY_EXISTS", "sandbox already exists"), ("FAILED_PRECONDITION", "no such image")],
)
async def test_two_codes_of_create_survive(
    driver: ScriptedCompute, socket_path: Path, preset: str, code: str, message: str
) -> None:
    driver.script["CreateSandbox"] = [Status(code, "no such image")]

    async with Gateway(socket_path, preset=preset) as gateway:
        with pytest.raises(UserError) as error:
            await gateway.create("box")

    assert (error.value.code, error.value.message) == (code, message)


async def test_the_record_is_there_before_the_driver_is_asked(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    stall = driver.always["CreateSandbox"] = Stall()

    async with Gateway(socket_path, preset=preset) as gateway, anyio.create_task_group() as tasks:
        await gateway.wait_watching()
        tasks.start_soon(gateway.create, "box")
        await until(lambda: driver.asked("CreateSandbox"))
        record = gateway.records[0]
        driver.show(record.id, "box", ready())
        await gateway.wait_for("box", "Ready")
        stall.then = wire.CreateSandboxResponse()
        stall.until.set()


@pytest.mark.parametrize("preset", ["fork-mvp", "0.0.111"])
async def test_a_user_who_goes_away_cancels_create_and_leaves_the_record(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    driver.always["CreateSandbox"] = Stall()

    async with Gateway(socket_path, preset=preset) as gateway:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(gateway.create, "box")
            await until(lambda: driver.asked("CreateSandbox"))
            tasks.cancel_scope.cancel()

        assert [each.name for each in gateway.records] == ["box"]


@pytest.mark.parametrize("preset", NEWEST)
async def test_in_0_1_a_user_who_goes_away_changes_nothing(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    stall = driver.always["CreateSandbox"] = Stall(then=Status("INTERNAL"))

    async with Gateway(socket_path, preset=preset) as gateway:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(gateway.create, "box")
            await until(lambda: driver.asked("CreateSandbox"))
            tasks.cancel_scope.cancel()
        stall.until.set()
        await gateway.wait_gone("box")


# 0.1.x


async def test_capabilities_are_read_again_before_each_gated_call(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    async with Gateway(socket_path, preset=preset) as gateway:
        await gateway.create("box")

    order = [c.method for c in driver.calls if c.method not in {"ListSandboxes", "WatchSandboxes"}]
    gate = ["GetCapabilities"] if preset in NEWEST else []
    ask = ["GetGatewayListenerRequirements"] if preset == "0.0.111" else []
    expected = ["GetCapabilities", *ask, *gate, "ValidateSandboxCreate", *gate, "CreateSandbox"]
    assert order == expected


@pytest.mark.parametrize("preset", NEWEST)
@pytest.mark.parametrize("calls_before", [1, 2])
async def test_a_policy_that_is_written_otherwise_is_a_changed_one(
    driver: ScriptedCompute, socket_path: Path, preset: str, calls_before: int
) -> None:
    changed = wire.GetCapabilitiesResponse()
    changed.CopyFrom(driver.capabilities)
    changed.resource_admission_policy = "v1:{ }"  # the same value, and accepted at a start
    driver.script["GetCapabilities"] = [*[driver.capabilities] * calls_before, changed]

    async with Gateway(socket_path, preset=preset) as gateway:
        with pytest.raises(UserError, match="policy changed; restart the gateway") as error:
            await gateway.create("box")

        assert error.value.code == "FAILED_PRECONDITION"
        assert gateway.records == ()
    assert driver.asked("CreateSandbox") == []
    assert len(driver.asked("ValidateSandboxCreate")) == calls_before - 1


@pytest.mark.parametrize("preset", NEWEST)
async def test_an_error_of_reading_again_reaches_the_user(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    driver.script["GetCapabilities"] = [driver.capabilities, Status("UNAVAILABLE", "gone fishing")]

    async with Gateway(socket_path, preset=preset) as gateway:
        with pytest.raises(UserError) as error:
            await gateway.create("box")

    assert (error.value.code, error.value.message) == ("UNAVAILABLE", "gone fishing")


@pytest.mark.parametrize("preset", UPSTREAM)
async def test_driver_config_is_refused_by_the_policy_of_0_1(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    wish = SandboxSpec(id="", name="box", template=SandboxTemplate(driver_config={"x": 1.0}))

    async with Gateway(socket_path, preset=preset) as gateway:
        if preset == "0.0.111":
            await gateway.create("box", spec=wish)
            return
        with pytest.raises(UserError, match="driver_config") as error:
            await gateway.create("box", spec=wish)

    assert error.value.code == "FAILED_PRECONDITION"
    assert driver.asked("ValidateSandboxCreate") == []


async def test_a_driver_that_needs_tokens_gets_no_create_without_a_signer(
    driver: ScriptedCompute, socket_path: Path
) -> None:
    needs = driver.capabilities.extension
    needs.supported_capabilities.append("openshell.compute.launch-authentication")
    needs.required_capabilities.append("openshell.compute.launch-authentication")

    async with Gateway(socket_path, options=GatewayOptions(signs=False)) as gateway:
        with pytest.raises(UserError, match="no signer") as error:
            await gateway.create("box")
    async with Gateway(socket_path) as gateway:
        await gateway.create("box")

    assert error.value.code == "FAILED_PRECONDITION"


async def test_a_missing_runtime_identity_is_compensated_with_a_delete(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    driver.capabilities.supports_sandbox_authentication = True

    async with Gateway(socket_path, preset=preset) as gateway:
        if preset not in NEWEST:
            await gateway.create("box")
            return
        with pytest.raises(UserError, match="runtime identity") as error:
            await gateway.create("box")

        assert error.value.code == "INTERNAL"
        assert gateway.records == ()
    sent = driver.asked("CreateSandbox")[0].sandbox.id
    assert [each.sandbox_id for each in driver.asked("DeleteSandbox")] == [sent]


@pytest.mark.parametrize("preset", NEWEST)
async def test_a_runtime_identity_is_kept(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    driver.capabilities.supports_sandbox_authentication = True
    driver.identity = "uid:7"

    async with Gateway(socket_path, preset=preset) as gateway:
        record = await gateway.create("box")

    assert record.runtime_identity == "uid:7"


def short(preset: str, seconds: float = 1800.0) -> float:
    """A speed at which so many of the gateway's seconds take a tenth of one."""
    assert PRESETS[preset].preparation_limit == 1800
    return seconds * 10


@pytest.mark.parametrize("preset", NEWEST)
async def test_a_create_that_takes_too_long_goes_on_and_is_reclaimed_with_stop(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    stall = driver.always["CreateSandbox"] = Stall(then=wire.CreateSandboxResponse())

    async with Gateway(socket_path, preset=preset, speed=short(preset)) as gateway:
        with pytest.raises(UserError) as error:
            await gateway.create("box")
        assert error.value.code == "DEADLINE_EXCEEDED"
        await until(lambda: driver.asked("StopSandbox"))
        for refused in (gateway.stop, gateway.start, gateway.delete):
            with pytest.raises(UserError, match="being reclaimed") as error:
                await refused("box")
            assert error.value.code == "FAILED_PRECONDITION"
        before = len(driver.asked("StopSandbox"))

        stall.until.set()
        await gateway.wait_for("box", "Error")

        # Stopped once more, since the late create may have brought something about.
        assert len(driver.asked("StopSandbox")) == before + 1
        assert not gateway.records[0].pending
        await gateway.delete("box")
        await gateway.wait_gone("box")


@pytest.mark.parametrize("preset", NEWEST)
async def test_a_late_failure_of_such_a_create_ends_the_record(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    stall = driver.always["CreateSandbox"] = Stall(then=Status("INTERNAL"))

    async with Gateway(socket_path, preset=preset, speed=short(preset)) as gateway:
        with pytest.raises(UserError):
            await gateway.create("box")
        stall.until.set()
        await gateway.wait_gone("box")


@pytest.mark.parametrize("preset", NEWEST)
async def test_reclaiming_is_tried_until_a_stop_is_answered(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    stall = driver.always["CreateSandbox"] = Stall(then=wire.CreateSandboxResponse())
    driver.script["StopSandbox"] = [Status("UNAVAILABLE"), Status("INTERNAL")]

    async with Gateway(socket_path, preset=preset, speed=short(preset)) as gateway:
        with pytest.raises(UserError):
            await gateway.create("box")
        await told(gateway, "reclaiming box failed: INTERNAL")
        stall.until.set()
        await gateway.wait_for("box", "Error")


async def test_a_policy_of_the_operator_lets_driver_config_through(
    driver: ScriptedCompute, socket_path: Path
) -> None:
    driver.capabilities.resource_admission_policy = 'v1:{"allow_driver_config":true}'
    options = GatewayOptions(admission=GatewayAdmission(allow_driver_config=True))
    template = replace(SandboxTemplate(), driver_config={"x": 1.0})

    async with Gateway(socket_path, options=options) as gateway:
        await gateway.create("box", spec=SandboxSpec(id="", name="box", template=template))

    assert driver.asked("CreateSandbox")[0].sandbox.spec.template.driver_config["x"] == 1.0
