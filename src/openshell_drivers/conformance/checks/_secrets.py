"""Ordinary calls with secrets in them, and calls that go wrong, for each service."""

from __future__ import annotations

import contextlib
from typing import Any, Final

from openshell_drivers._wire import compute_driver_pb2 as compute
from openshell_drivers._wire import credential_driver_pb2 as store
from openshell_drivers._wire import credentials_driver_pb2 as credentials
from openshell_drivers.conformance._checks import NEEDS
from openshell_drivers.conformance._outcomes import Blocked, NotTestable
from openshell_drivers.conformance.benches._base import Bench
from openshell_drivers.conformance.benches.compute import ComputeBench
from openshell_drivers.conformance.benches.credentials import CredentialsBench
from openshell_drivers.conformance.benches.store import Handle, Kept, StoreBench
from openshell_drivers.conformance.checks._evidence import FORGED, TERMINAL, Evidence, evidence

TOKEN: Final = "the sandbox token"
LAUNCH: Final = ("the gateway token in launch_authentication", "the sandbox token in it")
SPEC_VALUE: Final = "a value of the environment"
TEMPLATE_VALUE: Final = "a value of the template's environment"
CREDENTIAL: Final = "the credential for AuthenticateSandbox"
STORED: Final = "a stored value"
HOSTILE: Final = f"odd\n{FORGED} level=error{TERMINAL}"


async def gathered(bench: Bench, *, verbose: bool = True) -> Evidence:
    """What was seen of a driver that was given secrets."""
    if isinstance(bench, ComputeBench):
        return await evidence(bench, _compute, _compute_errors, verbose=verbose)
    if isinstance(bench, StoreBench):
        return await evidence(bench, _store, _store_errors, verbose=verbose)
    return await evidence(bench, _credentials, _credentials_errors, verbose=verbose)


# Compute


def planted(bench: ComputeBench, found: Evidence) -> compute.DriverSandbox:
    """A sandbox with every secret that the line sends."""
    sandbox = bench.sandbox()
    spec = sandbox.spec
    spec.environment["CONFORMANCE_API_KEY"] = found.plant(bench, SPEC_VALUE)
    spec.template.environment["CONFORMANCE_DB_KEY"] = found.plant(bench, TEMPLATE_VALUE)
    if bench.preset.mints_tokens:
        spec.sandbox_token = found.plant(bench, TOKEN)
    if bench.preset.sends_launch:
        spec.launch_authentication = _launch(bench, found)
    return sandbox


def _launch(bench: ComputeBench, found: Evidence) -> bytes:
    one, two = (found.plant(bench, label) for label in LAUNCH)
    return bench.launch_of(one, two)


async def _compute(bench: ComputeBench, found: Evidence) -> None:
    sandbox = planted(bench, found)
    async with bench.watching() as log:
        checked = await bench.validate(sandbox)
        created = await bench.create(sandbox)
        found.heard(checked)
        found.heard(created)
        bench.need(created.ok, str(created), "COMP-CREATE-01")
        await bench.settles(sandbox.id)
        await _observed(bench, found, sandbox.id)
        if bench.line != "F" and await bench.implements("StopSandbox"):
            found.heard(await bench.stop(sandbox.id))
            if await bench.implements("StartSandbox"):
                launch = sandbox.spec.launch_authentication
                found.heard(await bench.start(sandbox.id, launch=launch))
            await _observed(bench, found, sandbox.id)
        deleted = await bench.delete(sandbox.id)
        found.heard(deleted)
        await _observed(bench, found, sandbox.id)
        if deleted.ok:
            with contextlib.suppress(Blocked):  # whether it goes is another matter
                await bench.gone(sandbox.id)
        for event in log.of(sandbox.id):
            _keep(found, "WatchSandboxes", event.sandbox, event.raw)


async def _observed(bench: ComputeBench, found: Evidence, sandbox_id: str) -> None:
    got = await bench.get(sandbox_id)
    found.heard(got)
    if got.ok:
        _keep(found, "GetSandbox", got.answer.sandbox, b"")
    listed = await bench.list_all()
    found.heard(listed)
    for each in listed.answer.sandboxes:
        if each.id == sandbox_id:
            _keep(found, "ListSandboxes", each, b"")


def _keep(found: Evidence, rpc: str, sandbox: compute.DriverSandbox | None, raw: bytes) -> None:
    if sandbox is None:
        found.seen.append((rpc, raw))
        return
    found.specs.append((rpc, sandbox.spec.SerializeToString()))
    bare = compute.DriverSandbox()
    bare.CopyFrom(sandbox)
    bare.ClearField("spec")
    found.seen.append((rpc, bare.SerializeToString()))
    found.messages += [condition.message for condition in bare.status.conditions]


def _bad(sandbox: compute.DriverSandbox) -> dict[str, Any]:
    """Ways to spoil a sandbox, each next to a secret."""
    value = sandbox.spec.environment["CONFORMANCE_API_KEY"]
    template = sandbox.spec.template
    return {
        "a bad quantity": lambda: setattr(template.resources, "cpu_limit", "several"),
        "a bad name of a variable": lambda: sandbox.spec.environment.update({"A=B": value}),
        "a NUL in a variable": lambda: sandbox.spec.environment.update({"A": f"{value}\0"}),
        "driver_config": lambda: template.driver_config.update({"password": value}),
        "platform_config": lambda: template.platform_config.update({"conformance": value}),
        "a bad id": lambda: setattr(sandbox, "id", "../conformance"),
        "an image that is none": lambda: setattr(template, "image", "\n"),
    }


async def _compute_errors(bench: ComputeBench, found: Evidence) -> None:
    first = planted(bench, found)
    created = await bench.create(first)
    found.heard(created)
    found.heard(await bench.create(first))
    for how in _bad(first):
        sandbox = compute.DriverSandbox()
        sandbox.CopyFrom(first)
        sandbox.id, sandbox.name = bench.fresh_id(), bench.fresh_name()
        _bad(sandbox)[how]()
        found.heard(await bench.validate(sandbox))
        found.heard(await bench.create(sandbox))
    for kind in ("refused", "unpullable"):
        if getattr(bench.profile.compute, kind) is not None:
            spoilt = bench.variant(kind)
            spoilt.spec.environment.update(first.spec.environment)
            spoilt.spec.sandbox_token = first.spec.sandbox_token
            found.heard(await bench.create(spoilt))
            await _observed(bench, found, spoilt.id)
    await _odd_calls(bench, found, first)
    await _observed(bench, found, first.id)


async def _odd_calls(bench: ComputeBench, found: Evidence, first: compute.DriverSandbox) -> None:
    request = compute.CreateSandboxRequest(sandbox=first).SerializeToString()
    answer = compute.CreateSandboxResponse
    found.heard(await bench.caller.ask_raw("CreateSandbox", request[:-2] + b"\xff", answer))
    if bench.preset.sends_launch:
        if await bench.implements("StartSandbox"):
            launch = first.spec.launch_authentication
            found.heard(await bench.start(first.id, launch=launch[:-4] + b"}}}"))
            found.heard(await bench.start(bench.fresh_id(), launch=launch))
        asked = compute.AuthenticateSandboxRequest(credential=found.plant(bench, CREDENTIAL))
        found.heard(
            await bench.caller.ask(
                "AuthenticateSandbox", asked, compute.AuthenticateSandboxResponse
            )
        )
    hostile = bench.sandbox(name=HOSTILE)
    found.heard(await bench.validate(hostile))
    found.heard(await bench.create(hostile))
    found.heard(await bench.get(HOSTILE, HOSTILE))
    found.heard(await bench.delete(HOSTILE, HOSTILE))


# Credential store


async def _store(bench: StoreBench, found: Evidence) -> None:
    slot = bench.slot()
    value = found.plant(bench, STORED)
    stored = await bench.store(slot, value)
    found.heard(stored)
    bench.need(stored.ok, str(stored), "CREDU-STORE-01")
    kept = Kept(slot=slot, value=value, handle=bench.configured(stored.answer.handle))
    found.heard(await bench.resolve(bench.item(kept)))
    newer = found.plant(bench, "a value that overwrites")
    found.heard(await bench.store(slot, newer, existing=kept.handle))
    found.heard(await bench.resolve(bench.item(kept)))
    found.heard(await bench.list_all())
    found.heard(await bench.delete(kept))


async def _store_errors(bench: StoreBench, found: Evidence) -> None:
    slot = bench.slot()
    value = found.plant(bench, STORED)
    bad = Handle(driver="x", handle="../conformance")
    found.heard(await bench.store(slot, value, existing=bad))
    found.heard(await bench.store(bench.slot(key="", provider=""), value))
    found.heard(await bench.store(bench.slot(key=HOSTILE), value))
    found.heard(await bench.store(bench.slot(workspace="../.."), value))
    kept = Kept(slot=slot, value=value, handle=bad)
    found.heard(await bench.resolve(bench.item(kept)))
    found.heard(await bench.delete(kept))
    request = store.StoreCredentialRequest(
        provider=slot.provider, credential_key=slot.key, value=value, workspace=slot.workspace
    )
    data = request.SerializeToString()[:-2] + b"\xff"
    answer = store.StoreCredentialResponse
    found.heard(await bench.caller.ask_raw("StoreCredential", data, answer))
    good = await bench.store(slot, value)
    found.heard(good)
    if good.ok:
        there = Kept(slot=slot, value=value, handle=bench.configured(good.answer.handle))
        found.heard(await bench.resolve(bench.item(there, workspace="elsewhere")))
        found.heard(await bench.delete(there))
        found.heard(await bench.resolve(bench.item(there)))


# The fork's credentials


async def _credentials(bench: CredentialsBench, found: Evidence) -> None:
    names = bench.profile.credentials.known
    if not names:
        raise NotTestable(NEEDS["known"])
    for name in names:
        reply = await bench.resolve(name)
        found.heard(reply)
        bench.need(reply.ok and reply.answer.token, str(reply), "CREDF-RES-01")
        found.secrets.append((f"the token of {name}", reply.answer.token))
    found.heard(await bench.list_all())


async def _credentials_errors(bench: CredentialsBench, found: Evidence) -> None:
    for name in bench.profile.credentials.known:
        reply = await bench.resolve(name)
        found.heard(reply)
        if reply.answer.token:
            found.secrets.append((f"a later token of {name}", reply.answer.token))
    for name in ("", "conformance-unknown", HOSTILE):
        found.heard(await bench.resolve(name))
    answer = credentials.ResolveCredentialResponse
    found.heard(await bench.caller.ask_raw("ResolveCredential", b"\x0a\x7f", answer))
    listed = await bench.list_all()
    found.seen.append((listed.rpc, listed.raw))
