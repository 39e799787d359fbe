"""What an operator may choose, a driver sets in its constructor; capabilities follow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from openshell_drivers import (
    AuthenticatedSandbox,
    ComputeDriver,
    CreateScope,
    DriverConfig,
    ObservedSandbox,
    SandboxRef,
    SandboxSpec,
    Secret,
    Support,
    Unauthenticated,
    Unimplemented,
)
from openshell_drivers.client import connect
from openshell_drivers.server import running


class Choice(DriverConfig):
    authenticate: bool = True
    image: str = "one"


class Chosen(ComputeDriver[Choice]):
    name = "chosen"

    def __init__(self, config: Choice) -> None:
        super().__init__(config)
        self.default_image = config.image
        self.support = Support(cpu_limit=config.image == "two")

    def authenticates_sandboxes(self) -> bool:
        return self.config.authenticate

    async def create_sandbox(self, spec: SandboxSpec, scope: CreateScope) -> str | None:
        return "same"

    async def delete_sandbox(self, ref: SandboxRef) -> bool:
        return False

    async def list_sandboxes(self) -> Sequence[ObservedSandbox]:
        return []

    async def authenticate_sandbox(self, credential: Secret) -> AuthenticatedSandbox:
        raise Unauthenticated("this is nobody's")


@pytest.mark.parametrize("on", [True, False])
async def test_authentication_is_offered_as_the_operator_has_it(tmp_path: Path, on: bool) -> None:
    driver = Chosen(Choice(authenticate=on))
    async with running(driver, socket=tmp_path / "s"), connect(tmp_path / "s") as peer:
        capabilities = await peer.compute.get_capabilities()
        assert capabilities.supports_sandbox_authentication is on
        with pytest.raises(Unauthenticated if on else Unimplemented):
            await peer.compute.authenticate_sandbox(Secret("something"))


async def test_defaults_come_from_the_configuration(tmp_path: Path) -> None:
    driver = Chosen(Choice(image="two"))
    async with running(driver, socket=tmp_path / "s"), connect(tmp_path / "s") as peer:
        capabilities = await peer.compute.get_capabilities()
    assert capabilities.default_image == "two"
    assert capabilities.resources.cpu_limit is True
