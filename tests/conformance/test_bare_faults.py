"""The driver on bare grpcio, whole and changed, under the model of the gateways."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from openshell_drivers.testing.gateway import PRESETS, Gateway
from tests.conformance.bare.process import ROOT, Bare, bare

VARIANTS: Final = (
    *("null", "lagging-list", "coalesce", "unavailable-every-2s", "reverse-batches"),
    *("foreign-sandboxes", "300ms", "unknown-future-fields", "optional-rpcs-missing"),
    *("upper-case-ids", "no-spec", "resend-snapshot", "long-errors"),
)


async def lifecycle(gateway: Gateway, *, stops: bool) -> None:
    await gateway.create("one", command=("/bin/sleep", "600"))
    await gateway.wait_for("one", "Ready")
    if stops:
        await gateway.stop("one")
        await gateway.wait_for("one", "Stopped")
        await gateway.start("one")
        await gateway.wait_for("one", "Ready")
    await gateway.delete("one")
    await gateway.wait_gone("one")
    await gateway.sweep()

    assert gateway.records == ()
    phases = {entry.phase for entry in gateway.journal if entry.name == "one"}
    assert "Error" not in phases


@pytest.mark.parametrize("preset", PRESETS)
async def test_every_gateway_line_is_content(short_dir: Path, preset: str) -> None:
    with bare(short_dir) as served:
        async with Gateway(served.path, preset=preset, speed=20.0) as gateway:
            await lifecycle(gateway, stops=preset != "fork-mvp")


@pytest.mark.parametrize("variant", VARIANTS)
async def test_a_gateway_is_content_with_every_variant(short_dir: Path, variant: str) -> None:
    with bare(short_dir, "--fault", variant) as served:
        async with Gateway(served.path, preset="0.1-latest", speed=20.0) as gateway:
            await lifecycle(gateway, stops=True)


def listed() -> dict[str, dict[str, Sequence[str]]]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.conformance.bare", "--list-faults"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, dict[str, Sequence[str]]] = json.loads(done.stdout)
    return found


def test_every_fault_says_what_it_does_and_breaks_and_variants_break_nothing() -> None:
    found = listed()

    assert [name for name, fault in found.items() if not fault["text"]] == []
    assert {name for name, fault in found.items() if not fault["kills"]} == set(VARIANTS)


def test_every_fault_finds_what_it_changes() -> None:
    code = """
import asyncio
from pathlib import Path
from tests.conformance.bare import faults
from tests.conformance.bare.driver import Driver, Options

async def main():
    for each in faults.known():
        faults.apply(Driver(Options(socket=Path("s"))), [each.name])
        print(each.name)

asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == list(listed()), done.stderr


def test_an_unknown_fault_is_refused(short_dir: Path) -> None:
    found = Bare(short_dir, "--fault", "nonsense")

    assert found.ended() == 1
    assert found.log == "bare: there is no fault 'nonsense'\n"
