"""The relay of strict peers: what comes before the way is open is not lost."""

from __future__ import annotations

import asyncio
from typing import cast

from openshell_drivers._relay import _Half


class Wire(asyncio.Transport):
    """Keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)


def half() -> tuple[_Half, Wire]:
    end, wire = _Half(), Wire()
    end.connection_made(wire)
    return end, wire


def test_bytes_before_the_join_are_passed_on_in_order_in_both_directions() -> None:
    (outer, to_peer), (inner, to_server) = half(), half()
    outer.data_received(b"pre")
    outer.data_received(b"face")
    inner.data_received(b"settings")

    outer.join(inner)
    inner.join(outer)
    outer.data_received(b" and more")

    assert to_server.written == b"preface and more"
    assert to_peer.written == b"settings"
    assert cast("object", outer.other) is inner
