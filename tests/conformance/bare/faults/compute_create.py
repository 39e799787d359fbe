"""Validate and Create."""

from __future__ import annotations

import dataclasses
from typing import Any

from tests.conformance.bare.driver import Driver
from tests.conformance.bare.faults._tools import fault, override


@fault("refused-create-leaves-a-sandbox", kills=("COMP-CREATE-02",))
def _(driver: Driver) -> None:
    """What the platform refuses has been made by then."""

    @override(driver.compute, "make")
    async def _(original: Any, sandbox: Any) -> Any:
        image = sandbox.spec.template.image
        sandbox.spec.template.image = "bare/default"
        made = await original(sandbox)
        driver.platform.admit(dataclasses.replace(made, image=image))
        return made


@fault("command-is-one-text", kills=("COMP-IN-08",))
def _(driver: Driver) -> None:
    """The arguments of the command reach the workload joined with spaces."""

    @override(driver.compute.workloads, "command")
    def _(original: Any, spec: Any) -> list[str]:
        return [" ".join(original(spec))]
