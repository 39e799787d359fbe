"""Dial a driver's socket on a gateway's schedule, and the channel that comes of it."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import anyio
from grpc import aio

from openshell_drivers.backoff import Backoff
from openshell_drivers.testing.gateway._errors import GatewayRefused


@asynccontextmanager
async def dialled(
    path: Path, backoff: Backoff, *, authority: str, receive_limit: int
) -> AsyncIterator[aio.Channel]:
    """Wait until something accepts at the path, on the line's schedule; a channel to it."""
    await _until_accepted(path, backoff)
    options = [
        ("grpc.default_authority", authority),
        ("grpc.max_receive_message_length", receive_limit),
        ("grpc.max_send_message_length", -1),
        ("grpc.enable_retries", 0),  # no gateway tries a call twice
        # As short as grpcio allows: a gateway redials at the next call.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 20_000),  # the limit of one attempt, in truth
        ("grpc.max_reconnect_backoff_ms", 100),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    channel = aio.insecure_channel(_target(path), options=options)
    try:
        yield channel
    finally:
        with anyio.CancelScope(shield=True):
            await channel.close()


def _target(path: Path) -> str:
    return f"unix:{quote(str(path.absolute()))}"


async def _until_accepted(path: Path, backoff: Backoff) -> None:
    attempts, reason = 1, _attempt(path)
    for delay in backoff:
        if reason is None:
            return
        await anyio.sleep(delay)
        attempts, reason = attempts + 1, _attempt(path)
    if reason is not None:
        raise GatewayRefused(
            "the socket cannot be dialled", f"{reason}, after {attempts} attempts: {str(path)!r}"
        )


def _attempt(path: Path) -> str | None:
    """Try a plain connection; say why it failed."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except OSError as error:
            return "its path is too long" if error.errno is None else os.strerror(error.errno)
    return None
