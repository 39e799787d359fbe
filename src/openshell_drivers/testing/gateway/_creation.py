"""`Creation`: validate, record, create; and what a user sees when one of them fails."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace

from openshell_drivers.compute import SandboxSpec
from openshell_drivers.errors import DriverError
from openshell_drivers.testing.gateway._core import Core
from openshell_drivers.testing.gateway._errors import UserError
from openshell_drivers.testing.gateway._handshake import LAUNCH
from openshell_drivers.testing.gateway._preparation import Preparation, TookTooLong
from openshell_drivers.testing.gateway._requests import (
    completed,
    launch_document,
    mint_token,
    sandbox_message,
)
from openshell_drivers.testing.gateway._table import Row


class Creation:
    """Makes sandboxes (contract 3.4 to 3.6)."""

    def __init__(self, core: Core, preparation: Preparation) -> None:
        self._core = core
        self._preparation = preparation

    async def create(self, wish: SandboxSpec) -> Row:
        """Do what a user's create does. Raises `UserError`.

        In the 0.1.x line a user who goes away changes nothing; before, the driver's call is
        cancelled and the record stays.
        """
        if self._core.preset.preparation_limit is None:
            return await self._create(wish)
        return await self._core.apart(lambda: self._create(wish))

    async def _create(self, wish: SandboxSpec) -> Row:
        core = self._core
        spec = completed(wish, core.preset, core.capabilities.default_image)
        self.admit(spec)
        self._refuse_twin(spec)
        await self._passing(lambda: core.driver.validate(sandbox_message(spec, core.preset)))
        self._refuse_twin(spec)
        row = core.table.add(spec, "user create")
        if core.preset.preparation_limit is None:
            await self._provision_or_drop(row)
        else:
            async with row.gate:
                await self._provision_or_drop(row)
        return row

    def admit(self, spec: SandboxSpec | None) -> None:
        """Refuse what the gateway's own policy forbids, before the driver hears of it."""
        core = self._core
        if not core.preset.rereads_capabilities or spec is None:
            return
        if spec.template.driver_config and not core.policy.allow_driver_config:
            raise UserError("FAILED_PRECONDITION", "driver_config is not allowed here")
        if LAUNCH in core.required and not core.options.signs:
            raise UserError("FAILED_PRECONDITION", "the driver needs tokens; there is no signer")

    def _refuse_twin(self, spec: SandboxSpec) -> None:
        table = self._core.table
        if table.named(spec.name, spec.workspace) or table.get(spec.id):
            raise UserError("ALREADY_EXISTS", "sandbox already exists")

    async def _passing(self, call: Callable[[], object]) -> None:
        """Make a gated call whose status goes to the user as it is."""
        try:
            await self._core.reread()
            await call()  # type: ignore[misc]  # each of them is awaitable
        except DriverError as error:
            raise UserError(error.code, error.message) from None

    async def _provision_or_drop(self, row: Row) -> None:
        try:
            await self.provision(row)
        except TookTooLong:
            raise
        except DriverError as error:
            self._core.table.remove(row, f"CreateSandbox failed: {error.code}")
            raise

    async def provision(self, row: Row) -> None:
        """Have the driver create a recorded sandbox. Raises `UserError`; the record stays."""
        core = self._core
        try:
            await core.reread()
        except DriverError as error:
            raise UserError(error.code, error.message) from None
        message = sandbox_message(self._with_tokens(row), core.preset, row.status)
        try:
            identity = await self._preparation.limited(
                row, lambda: core.driver.create(message), "Error"
            )
        except TookTooLong:
            raise
        except DriverError as error:
            raise _create_error(error) from None
        row.runtime_identity = identity
        if core.capabilities.supports_sandbox_authentication and not identity:
            await self._compensate(row)
            raise UserError("INTERNAL", "the driver gave no runtime identity")

    def _with_tokens(self, row: Row) -> SandboxSpec:
        core, spec = self._core, row.spec
        if spec is None:
            raise UserError("FAILED_PRECONDITION", "nobody asked for this sandbox")
        if not core.preset.mints_tokens or not core.options.signs:
            return spec
        token = mint_token()
        core.tokens.append(token)
        if not core.preset.sends_launch:
            return replace(spec, sandbox_token=token)
        inner = mint_token()
        core.tokens.append(inner)
        launch = launch_document(token, inner, row.generation or str(uuid.uuid4()))
        return replace(spec, sandbox_token=token, launch_authentication=launch)

    async def _compensate(self, row: Row) -> None:
        """Undo a create that succeeded and is of no use."""
        try:
            await self._core.driver.delete(row.ref)
        except DriverError as error:
            self._core.table.journal.note(f"compensation for {row.name} failed: {error.code}")


def _create_error(error: DriverError) -> UserError:
    """Translate as all lines do: two codes survive (COMP-CREATE-06)."""
    match error.code:
        case "ALREADY_EXISTS":
            return UserError("ALREADY_EXISTS", "sandbox already exists")
        case "FAILED_PRECONDITION":
            return UserError("FAILED_PRECONDITION", error.message)
        case _:
            return UserError("INTERNAL", f"create sandbox: {error.message}")
