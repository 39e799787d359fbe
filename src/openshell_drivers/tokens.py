"""`TokenCache`: short-lived tokens by name, fetched once however many ask.

For any driver that mints tokens. Knows nothing of how one is fetched. Nothing is shared between
names but the task group, so a dead issuer delays only its own names.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Final, Self

import anyio
import anyio.abc

from openshell_drivers._faults import describe, task_cancelled
from openshell_drivers._testswitch import active
from openshell_drivers.credentials import Credential
from openshell_drivers.errors import (
    DeadlineExceeded,
    DriverError,
    Internal,
    ResourceExhausted,
    Unavailable,
    error_for,
)
from openshell_drivers.secrets import Secret

__all__ = ["FetchedToken", "TokenCache", "TokenPolicy", "parse_lifetime"]

_log: Final = logging.getLogger("openshell_drivers.tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedToken:
    """What an issuer gave."""

    token: Secret
    expires_in: object = None
    """The lifetime as the issuer wrote it (OAuth2's ``expires_in``): judged by `parse_lifetime`."""
    token_type: str = "Bearer"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPolicy:
    """How long things are kept. All durations in seconds."""

    fetch_timeout: float = 20.0
    """The limit of one fetch in all; below the 30 s a gateway allows a credentials call."""
    margin: float = 30.0
    """A token with less life left is renewed before it is given out, if the issuer answers; at
    most a quarter of the token's life."""
    refresh_ahead: float = 60.0
    """A token in use with less life left is renewed in the background; at most half its life."""
    jitter: float = 0.2
    """The share of `refresh_ahead` drawn at random, so that names do not refresh in step."""
    patience: float = 2.0
    """How long a caller waits for a renewal while the token at hand is still valid."""
    unknown_lifetime: float = 60.0
    """How long a token is reused whose lifetime the issuer does not say."""
    shortest_reuse: float = 1.0
    """A token whose lifetime is shorter, zero or negative is reused this long, and given out
    without an end, so that odd issuers are not flooded."""
    longest_lifetime: float = 86_400.0
    """A longer lifetime, absurd ones included, counts as this."""
    passing_failure: float = 1.0
    """How long a failure that may pass is given to callers before another fetch."""
    lasting_failure: float = 10.0
    """The same for a failure that somebody has to mend."""
    max_names: int = 1024
    """The names remembered; the least recently used one is forgotten."""


def parse_lifetime(raw: object) -> float | None:
    """Read an ``expires_in``: seconds, or None if it says nothing usable.

    A number or a numeric string counts (RFC 6749 wants a number; real servers send both). A
    missing value, a boolean, NaN and any other text or type say nothing. Zero and negative values
    come back as 0.0, infinity as ``inf``.
    """
    if isinstance(raw, bool) or not isinstance(raw, int | float | str):
        return None
    if isinstance(raw, str) and len(raw) > 32:
        return None
    try:
        seconds = float(raw)
    except (ValueError, OverflowError):
        return math.inf if isinstance(raw, int) and raw > 0 else None
    if math.isnan(seconds):
        return None
    return max(0.0, seconds)


@dataclass(slots=True)
class _Flight:
    """One fetch under way and those who wait for it."""

    done: anyio.Event = field(default_factory=anyio.Event)
    error: DriverError | None = None


@dataclass(slots=True)
class _Held:
    """A token in hand; instants of the monotonic clock."""

    credential: Credential
    fresh_until: float
    renew_from: float
    valid_until: float


@dataclass(slots=True)
class _Entry:
    held: _Held | None = None
    flight: _Flight | None = None
    error: DriverError | None = None
    error_until: float = 0.0


class TokenCache:
    """Give out tokens by name, fetching as few as possible.

    Use as an async context manager, in a driver's `lifespan`: leaving it cancels every fetch.

    Guarantees, per name: at most one fetch at a time, which outlives the caller that started it; no
    expired token is ever given out; a valid token is given out even if renewing it fails; a failure
    is not retried before its time, whoever asks.
    """

    def __init__(
        self,
        fetch: Callable[[str], Awaitable[FetchedToken]],
        *,
        policy: TokenPolicy | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._fetch = fetch
        switch = active()
        if switch is not None:
            switch.behind_cache = True
        self._switch = switch
        self._policy = policy or TokenPolicy()
        self._clock = clock
        self._now = now
        self._entries: dict[str, _Entry] = {}
        self._tasks: anyio.abc.TaskGroup | None = None

    async def __aenter__(self) -> Self:
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        tasks, self._tasks = self._tasks, None
        if tasks is not None:
            tasks.cancel_scope.cancel()
            # Not told of the error: fetches raise none of their own, and a driver's lifespan must
            # not find its error wrapped in a group.
            await tasks.__aexit__(None, None, None)
        self._entries.clear()

    async def get(self, name: str) -> Credential:
        """Give the token of `name`, from memory if it is good.

        Raises what the fetch raised (`Internal` for anything but a `DriverError`),
        `DeadlineExceeded` if the fetch took longer than ``fetch_timeout``, `ResourceExhausted` if
        ``max_names`` fetches are under way. Cancelling the caller does not cancel the fetch.
        """
        while True:
            entry = self._entry(name)
            held = await self._best(name, entry)
            if held is not None:
                return held.credential
            flight = entry.flight or self._start_unless_failed(name, entry)
            await flight.done.wait()
            if flight.error is not None:
                raise error_for(flight.error.code, flight.error.message)

    def renew(self, name: str | None = None) -> None:
        """Fetch anew at the next use, and forget failures: the issuer or a secret has changed.

        A token in hand stays in use until the new one is there. Without a name, for all names.
        """
        for key in [name] if name is not None else list(self._entries):
            entry = self._entries.get(key)
            if entry is not None:
                entry.error = None
                entry.flight = None  # one under way began under the old terms; see _run
                if entry.held is not None:
                    entry.held.renew_from = entry.held.fresh_until = -math.inf

    def forget(self, name: str) -> None:
        """Drop the token of a name that is not served any more, or not under the same terms.

        Who waits for a fetch under way gets the result of a new one.
        """
        entry = self._entries.pop(name, None)
        if entry is not None:
            entry.held = entry.flight = None

    def _entry(self, name: str) -> _Entry:
        entry = self._entries.pop(name, None)
        if entry is None:
            entry = _Entry()
            self._make_room()
        self._entries[name] = entry  # moved to the end: most recently used
        return entry

    def _make_room(self) -> None:
        if len(self._entries) < self._policy.max_names:
            return
        for name, entry in self._entries.items():
            if entry.flight is None:
                del self._entries[name]
                return
        raise ResourceExhausted("too many tokens are being fetched")

    def _valid(self, entry: _Entry) -> _Held | None:
        return entry.held if entry.held is not None and self._alive(entry.held) else None

    def _alive(self, held: _Held) -> bool:
        ends = held.credential.expires_at
        # The wall clock has its say too: it may have been set forward.
        return self._clock() < held.valid_until and (ends is None or self._now() < ends)

    async def _best(self, name: str, entry: _Entry) -> _Held | None:
        held = self._valid(entry)
        if held is None:
            return None
        now = self._clock()
        if now >= held.renew_from and entry.flight is None and not self._pausing(entry):
            self._start(name, entry)
        if now < held.fresh_until or entry.flight is None:
            return held
        with anyio.move_on_after(self._policy.patience):
            await entry.flight.done.wait()
        return self._valid(entry)  # the newer one if it came, else the one in hand

    def _pausing(self, entry: _Entry) -> bool:
        return entry.error is not None and self._clock() < entry.error_until

    def _start_unless_failed(self, name: str, entry: _Entry) -> _Flight:
        if entry.error is not None and self._pausing(entry):
            raise error_for(entry.error.code, entry.error.message)
        return self._start(name, entry)

    def _start(self, name: str, entry: _Entry) -> _Flight:
        if self._tasks is None:
            raise Unavailable("the token cache is closed")
        flight = entry.flight = _Flight()
        self._tasks.start_soon(self._run, name, entry, flight)
        return flight

    async def _run(self, name: str, entry: _Entry, flight: _Flight) -> None:
        error: DriverError | None = Unavailable("the token cache is closed")  # if cancelled
        held = None
        try:
            held = await self._fetch_one(name)
            error = None
        except DriverError as raised:
            error = raised
        finally:
            if entry.flight is flight:  # else the terms changed meanwhile: waiters begin anew
                entry.flight = None
                entry.held = held or entry.held
                self._settle(name, entry, error)
                flight.error = error
            flight.done.set()

    async def _fetch_one(self, name: str) -> _Held:
        started, wall = self._clock(), self._now()
        try:
            with anyio.fail_after(self._policy.fetch_timeout):
                if self._switch is not None:
                    await self._switch.reach()
                fetched = await self._fetch(name)
            held = self._hold(fetched, started, wall)
        except DriverError:
            raise
        except TimeoutError:
            raise DeadlineExceeded("the issuer did not answer in time") from None
        except (Exception, asyncio.CancelledError) as error:  # none may leak
            if isinstance(error, asyncio.CancelledError) and task_cancelled():
                raise
            fault = describe(error)  # in the message too: pytest shows no extra fields
            why = {"credential": name, "fault": fault}
            _log.error("token fetch failed: %s", fault, extra=why)
            raise Internal("the token could not be fetched") from None
        if not self._alive(held):
            raise Unavailable("the issuer's token had expired when it arrived")
        return held

    def _settle(self, name: str, entry: _Entry, error: DriverError | None) -> None:
        entry.error = error
        if error is not None:
            policy = self._policy
            pause = policy.passing_failure if error.passing else policy.lasting_failure
            entry.error_until = self._clock() + pause
            why = {"credential": name, "code": error.code, "reason": error.message}
            _log.warning("no new token", extra=why)

    def _hold(self, fetched: FetchedToken, started: float, wall: datetime) -> _Held:
        policy = self._policy
        life = parse_lifetime(fetched.expires_in)
        if life is None or life < policy.shortest_reuse:
            reuse = policy.unknown_lifetime if life is None else policy.shortest_reuse
            credential = Credential(token=fetched.token, token_type=fetched.token_type)
            # Counted from now: the issuer names no instant that a slow answer could eat into.
            end = self._clock() + reuse
            return _Held(credential, fresh_until=end, renew_from=end, valid_until=end)
        life = min(life, policy.longest_lifetime)
        ahead = min(policy.refresh_ahead, life / 2) * (1 - policy.jitter * random.random())
        end = started + life
        return _Held(
            Credential(
                token=fetched.token,
                token_type=fetched.token_type,
                expires_at=wall + timedelta(seconds=life),
            ),
            fresh_until=end - min(policy.margin, life / 4),
            renew_from=end - ahead,
            valid_until=end,
        )
