"""A credentials driver whose behaviour is in the names it is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import anyio

from openshell_drivers import (
    Credential,
    CredentialInfo,
    CredentialRef,
    CredentialsDriver,
    Secret,
)
from openshell_drivers.errors import error_for

CANARY = "canary-7f3a9e-token"
FAULT_CANARY = "canary-51c2d0-fault-text"
LATER = timedelta(hours=1)


class Named(CredentialsDriver):
    """Says on `say` what happens to it, and does what the name says before its colon.

    ``raise:CODE`` and ``error:CODE:SIZE:UNIT`` answer with that status; ``boom`` with an unexpected
    exception; ``wait`` returns when `gate` is set, ``wait:N`` with a token of that size; ``never``
    does not return; ``stubborn`` lets nobody cancel it; ``lost`` awaits what was cancelled;
    ``size:N`` gives a token of that size. Any other name is resolved at once.
    """

    name = "named"
    version = "1.2.3"

    def __init__(self, say: Callable[[str], None] = lambda _: None) -> None:
        super().__init__()
        self.say = say
        self.gate = anyio.Event()
        self.under_way = 0

    async def resolve_credential(self, ref: CredentialRef) -> Credential:
        verb, _, rest = ref.name.partition(":")
        self.under_way += 1
        try:
            return await self._resolve(verb, rest)
        except asyncio.CancelledError:
            self.say(f"cancelled {verb}")
            raise
        finally:
            self.under_way -= 1

    async def _resolve(self, verb: str, rest: str) -> Credential:
        match verb:
            case "raise" | "error" | "boom" | "lost":
                await _fail(verb, rest)
            case "wait" | "never" | "stubborn":
                self.say("waiting")
                await self._hold(verb)
        if rest and verb in {"wait", "size"}:
            return Credential(token=Secret("t" * int(rest)))
        return Credential(token=Secret(CANARY), expires_at=datetime.now(UTC) + LATER)

    async def _hold(self, verb: str) -> None:
        match verb:
            case "wait":
                await self.gate.wait()
            case "never":
                await anyio.sleep_forever()
            case "stubborn":
                await never_ending()

    async def list_credentials(self) -> Sequence[CredentialInfo]:
        return [CredentialInfo(name="quick")]


async def _fail(verb: str, rest: str) -> None:
    if verb == "raise":
        raise error_for(rest, "as asked")
    if verb == "error":
        code, size, unit = rest.split(":")
        raise error_for(code, unit * int(size))
    if verb == "boom":
        raise RuntimeError(FAULT_CANARY)
    gone = asyncio.get_running_loop().create_future()
    gone.cancel()
    await gone


async def never_ending() -> None:
    """Run for ever, whoever cancels."""
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            continue
