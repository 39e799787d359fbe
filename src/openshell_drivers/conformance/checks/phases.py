"""What a user of a gateway sees, by the model of the line's gateway."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from openshell_drivers._codec.compute import decode_json
from openshell_drivers._sandboxes import ComputeResources, SandboxSpec, SandboxTemplate
from openshell_drivers.conformance._checks import check
from openshell_drivers.conformance.benches.compute import ComputeBench
from openshell_drivers.conformance.checks._sight import deletes, quiet
from openshell_drivers.testing.gateway import (
    Gateway,
    GatewayAdmission,
    GatewayOptions,
    GatewayRefused,
    NotReached,
    UserError,
)

_FAST: Final = 600.0
"""So many seconds of the gateway in one: its sweep comes every 0.1 s, its pruning after 0.5 s."""
_OUTAGE: Final = 1.5
_NOTICE: Final = 10.0


def _wish(compute: ComputeBench) -> SandboxSpec:
    """The profile's template as a user's wish."""
    message = compute.sandbox()
    spec, template = message.spec, message.spec.template
    resources = {field.name: value for field, value in template.resources.ListFields()}
    return SandboxSpec(
        id="",
        name=message.name,
        workspace="" if compute.line == "F" else message.workspace,
        template=SandboxTemplate(
            image=template.image,
            labels=dict(template.labels),
            environment=dict(template.environment),
            resources=ComputeResources(**resources) if resources else None,
            platform_config=decode_json(template.platform_config),
            driver_config=decode_json(template.driver_config),
        ),
        environment=dict(spec.environment),
        command=tuple(spec.command),
    )


@asynccontextmanager
async def _user(compute: ComputeBench, **options: Any) -> AsyncIterator[Gateway]:
    """A gateway; what keeps it from starting is judged elsewhere."""
    wish = compute.profile.compute.template.get("template") or {}
    admission = GatewayAdmission(allow_driver_config=bool(wish.get("driver_config")))
    try:
        async with compute.gateway(
            options=GatewayOptions(admission=admission), **options
        ) as gateway:
            yield gateway
    except GatewayRefused as error:
        compute.need(False, f"the gateway does not start with this driver: {error}", "COMP-CAP-01")


async def _created(compute: ComputeBench, gateway: Gateway) -> str:
    """The name of a sandbox that a user has asked for."""
    wish = _wish(compute)
    try:
        await gateway.create(wish.name, spec=wish)
    except UserError as error:
        compute.need(False, f"the user cannot create: {error}", "COMP-CREATE-01")
    return wish.name


async def _ready(compute: ComputeBench, gateway: Gateway) -> str:
    """The name of a sandbox that the user sees ready."""
    name = await _created(compute, gateway)
    try:
        await gateway.wait_for(name, "Ready", within=compute.profile.compute.timeouts.ready)
    except NotReached as error:
        compute.need(False, str(error), "COMP-STAT-04.a")
    return name


def _history(gateway: Gateway, name: str) -> str:
    return "; ".join(
        f"{each.phase or each.kind} {each.reason} ({each.why})"
        for each in gateway.journal
        if each.name == name and each.kind in {"phase", "gone"}
    )


@check("COMP-STAT-02.b", "a user sees no Error before Ready", profile="lifecycle")
async def no_error_before_ready(compute: ComputeBench) -> None:
    async with _user(compute) as gateway:
        name = await _created(compute, gateway)
        limit = compute.profile.compute.timeouts.ready
        try:
            await gateway.wait_for(name, "Ready", "Error", within=limit)
        except NotReached as error:
            compute.need(False, str(error), "COMP-STAT-04.a")
        await quiet()
        record = gateway.record(name)
        seen = [e.phase for e in gateway.journal if e.name == name and e.kind == "phase"]
        compute.hold(
            "Error" not in seen and record is not None and record.phase == "Ready",
            "the user sees a healthy sandbox become Ready, stay so, and never Error",
            _history(gateway, name),
        )


@check("COMP-START-03.b", "a user sees a stop and a start as such", profile="lifecycle")
async def stop_and_start(compute: ComputeBench) -> None:
    await compute.can_stop()
    async with _user(compute) as gateway:
        name = await _ready(compute, gateway)
        try:
            await gateway.stop(name)
        except UserError as error:
            compute.need(False, f"the user cannot stop: {error}", "COMP-STOP-01.a")
        await quiet()
        record = gateway.record(name)
        compute.hold(
            record is not None and record.phase == "Stopped",
            "the user sees a stopped sandbox as Stopped, and nothing changes that",
            _history(gateway, name),
        )
        try:
            await gateway.start(name)
        except UserError as error:
            compute.need(False, f"the user cannot start: {error}", "COMP-START-03.a")
        with contextlib.suppress(NotReached):  # the record says below how far it came
            limit = compute.profile.compute.timeouts.ready
            await gateway.wait_for(name, "Ready", "Error", within=limit)
        record = gateway.record(name)
        compute.hold(
            record is not None and record.phase == "Ready",
            "the user sees a started sandbox become Ready",
            _history(gateway, name),
        )


@check("COMP-DEL-01.c", "a user sees a deleted sandbox go", profile="lifecycle")
async def goes(compute: ComputeBench) -> None:
    await deletes(compute)
    async with _user(compute) as gateway:
        name = await _ready(compute, gateway)
        try:
            await gateway.delete(name)
            limit = compute.profile.compute.timeouts.gone + _NOTICE
            await gateway.wait_gone(name, within=limit)
        except UserError as error:
            compute.need(False, f"the user cannot delete: {error}", "COMP-DEL-01.a")
        except NotReached:
            compute.fail(
                "the record of a deleted sandbox goes with its `deleted` event",
                f"the user still sees it: {_history(gateway, name)}",
            )
        await quiet()
        record = gateway.record(name)
        compute.hold(
            record is None,
            "a deleted sandbox does not come back",
            _history(gateway, name),
        )


@check(
    "COMP-GET-05.c",
    "an outage costs no user a sandbox",
    profile="resilience",
    needs=("outage",),
)
async def outage_costs_nothing(compute: ComputeBench) -> None:
    async with _user(compute) as gateway:  # a create may take longer than a sweep of the fast one
        name = await _ready(compute, gateway)
        records = gateway.records
    async with _user(compute, speed=_FAST, records=records) as gateway:
        try:
            await gateway.wait_watching()
        except NotReached as error:
            compute.need(False, str(error), "COMP-WATCH-04")
        async with compute.backend.outage():
            await asyncio.sleep(_OUTAGE)  # fifteen sweeps, and twice the age to be pruned
        await quiet()
        compute.hold(
            gateway.record(name) is not None,
            "the gateway's sweeps in an outage drop no record",
            _history(gateway, name),
        )
