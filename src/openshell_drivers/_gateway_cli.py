"""`openshell-drivers gateway`: be a gateway at a driver's socket, for somebody who has none.

With a command it does that and ends; without one it shows what happens and takes commands.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Final

import anyio.to_thread

from openshell_drivers._gateway_commands import PROG, parse
from openshell_drivers._gateway_session import Session
from openshell_drivers._gateway_settings import GatewaySettings, read_settings, split
from openshell_drivers._gateway_show import Show
from openshell_drivers.errors import DriverError
from openshell_drivers.testing.gateway import Gateway, GatewayAdmission, GatewayOptions
from openshell_drivers.testing.gateway._state import load

_HELPS: Final = frozenset({"-h", "-help", "--help"})


def gateway(arguments: list[str]) -> int:
    """Run the verb."""
    own, command = split(arguments)
    before = command.index("--") if "--" in command else len(command)
    if command and _HELPS & set(command[:before]):
        parse(command, one_shot=True)
    settings = read_settings(own)
    return asyncio.run(_main(settings, command))


async def _main(settings: GatewaySettings, command: list[str]) -> int:
    show = Show(as_json=settings.as_json)
    if command:
        parse(command, one_shot=True)  # a mistake is found before anything is dialled
    records = await anyio.to_thread.run_sync(load, settings.state)
    dialled = Gateway(
        settings.socket,
        preset=settings.preset,
        speed=settings.speed,
        workspace=settings.workspace,
        records=records,
        options=GatewayOptions(
            recover=not command,
            admission=GatewayAdmission(allow_driver_config=settings.allow_driver_config),
        ),
    )
    if not settings.socket.exists():
        print(f"{PROG}: waiting for a driver at {str(settings.socket)!r}", file=sys.stderr)
    async with dialled as gateway:
        session = Session(gateway=gateway, settings=settings, show=show)
        try:
            if not command:
                return await session.prompt()
            try:
                await session.do(command, one_shot=True)
            except DriverError as error:
                if not settings.as_json:
                    raise
                show.failed(error.code, error.message)
                return 1
            return 0
        finally:
            session.keep()
