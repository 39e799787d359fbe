"""The resource admission policy."""

from __future__ import annotations

import itertools
import time
from typing import Any

from tests.conformance.bare.driver import Driver
from tests.conformance.bare.faults._tools import fault, override
from tests.conformance.bare.faults.negotiation import saying


@fault("policy-has-another-key", kills=("COMP01-ADM-01",))
def _(driver: Driver) -> None:
    """The policy says more than gateways read."""
    driver.compute.admission_policy = 'v1:{"driver":"bare"}'


@fault("policy-has-no-version", kills=("COMP01-ADM-01",))
def _(driver: Driver) -> None:
    """The policy is JSON alone."""
    driver.compute.admission_policy = "{}"


@fault("policy-is-not-the-default", kills=("COMP01-ADM-02",))
def _(driver: Driver) -> None:
    """Admission is switched off, which nobody has configured."""
    driver.compute.admission_policy = 'v1:{"resource_admission":{"enabled":false}}'


@fault("policy-text-changes", kills=("COMP01-ADM-03.a",), also=("COMP01-ADM-03.b",))
def _(driver: Driver) -> None:
    """The policy means the same and is written anew for each answer."""
    numbers = itertools.count()
    saying(driver, resource_admission_policy=lambda: "v1:{" + " " * (next(numbers) % 50) + "}")


@fault("policy-text-is-of-the-process", kills=("COMP01-ADM-03.b",))
def _(driver: Driver) -> None:
    """The policy is written in another way after every start."""
    driver.compute.admission_policy = "v1:{" + " " * (time.time_ns() // 1000 % 997) + "}"


@fault("no-policy", kills=("COMP01-ADM-08",))
def _(driver: Driver) -> None:
    """The policy is empty."""
    driver.compute.admission_policy = ""


@fault(
    "driver-config-is-ignored",
    kills=("COMP01-ADM-04.a", "COMP01-ADM-04.b", "COMP-IN-06"),
)
def _(driver: Driver) -> None:
    """What stands in driver_config is of no interest."""

    @override(driver.compute.judge, "judge_driver_config")
    def _(_original: Any, _template: Any) -> None:
        return


@fault("driver-config-is-not-strict", kills=("COMP-IN-06",), also=("COMP01-ADM-02",))
def _(driver: Driver) -> None:
    """driver_config is allowed, and unknown keys in it are ignored."""
    driver.compute.admission_policy = 'v1:{"allow_driver_config":true}'

    @override(driver.compute.judge, "judge_driver_config")
    def _(_original: Any, _template: Any) -> None:
        return


@fault(
    "driver-config-is-judged-late", kills=("COMP01-ADM-04.a", "COMP-VAL-06.a"), also=("COMP-IN-06",)
)
def _(driver: Driver) -> None:
    """Only the create refuses a driver_config."""

    @override(driver.compute, "validate_sandbox_create")
    async def _(original: Any, request: Any) -> Any:
        request.sandbox.spec.template.ClearField("driver_config")
        return await original(request)


@fault("driver-config-is-judged-once", kills=("COMP01-ADM-04.b", "COMP-VAL-06.b"))
def _(driver: Driver) -> None:
    """Only the validation refuses a driver_config."""

    @override(driver.compute, "create_sandbox")
    async def _(original: Any, request: Any) -> Any:
        request.sandbox.spec.template.ClearField("driver_config")
        return await original(request)
