"""AuthenticateSandbox and the runtime identity."""

from __future__ import annotations

from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.conformance._caller import Reply
from openshell_drivers.conformance._checks import check
from openshell_drivers.conformance.benches.compute import ComputeBench

_REFUSED = ("UNAUTHENTICATED", "PERMISSION_DENIED")


async def _ask(compute: ComputeBench, credential: str) -> Reply[wire.AuthenticateSandboxResponse]:
    request = wire.AuthenticateSandboxRequest(credential=credential)
    answer = wire.AuthenticateSandboxResponse
    return await compute.caller.ask("AuthenticateSandbox", request, answer)


async def _says_so(compute: ComputeBench) -> None:
    able = (await compute.capabilities()).supports_sandbox_authentication
    compute.apply(able, "supports_sandbox_authentication is false")


async def _authenticates(compute: ComputeBench) -> None:
    await _says_so(compute)
    there = await compute.implements("AuthenticateSandbox")
    compute.need(there, "AuthenticateSandbox is UNIMPLEMENTED", "COMP01-AUTH-01")


@check("COMP01-AUTH-01", "AuthenticateSandbox is there exactly where the driver says so")
async def as_said(compute: ComputeBench) -> None:
    said = (await compute.capabilities()).supports_sandbox_authentication
    reply = await _ask(compute, compute.secret("made-up credential"))
    there = reply.code != "UNIMPLEMENTED"
    compute.hold(
        there == said,
        f"AuthenticateSandbox is {'implemented' if said else 'UNIMPLEMENTED'}, since"
        f" supports_sandbox_authentication is {str(said).lower()}",
        str(reply),
    )


@check("COMP01-AUTH-02.a", "a credential that nobody has opens nothing", profile="security")
async def made_up(compute: ComputeBench) -> None:
    await _authenticates(compute)
    sandbox = await compute.made()
    secret = compute.secret("made-up credential")
    for what, credential in {
        "an empty credential": "",
        "a made-up credential": secret,
        "a credential that begins with a living sandbox's id": f"{sandbox.id}:{secret}",
        "a sandbox's id for a credential": sandbox.id,
        "a long made-up credential": secret * 500,
    }.items():
        compute.code(await _ask(compute, credential), *_REFUSED, when=f"of {what}")


@check(
    "COMP01-AUTH-02.b",
    "the credential of a deleted sandbox opens nothing",
    profile="security",
)
async def stale(compute: ComputeBench) -> None:
    await _authenticates(compute)
    compute.require("credential")
    sandbox = await compute.made_ready()
    credential = await compute.backend.credential(sandbox.id)
    compute.world.canaries.add("sandbox credential", credential)
    good = await _ask(compute, credential)
    compute.need(good.ok, str(good), "COMP01-AUTH-03")
    reply = await compute.delete(sandbox.id)
    compute.need(reply.ok, str(reply), "COMP-DEL-01")
    await compute.gone(sandbox.id)
    when = "of the credential of a sandbox that was deleted"
    compute.code(await _ask(compute, credential), *_REFUSED, "NOT_FOUND", when=when)


def _same(
    compute: ComputeBench,
    reply: Reply[wire.AuthenticateSandboxResponse],
    sandbox_id: str,
    identity: str,
) -> None:
    compute.need(identity, "there is no runtime_identity", "COMP01-ID-01")
    compute.code(reply, "OK", when="of a sandbox's own credential")
    answer = reply.answer
    compute.hold(
        answer.sandbox_id == sandbox_id,
        f"AuthenticateSandbox gives the sandbox_id {sandbox_id!r} that was created",
        repr(answer.sandbox_id),
    )
    compute.hold(
        answer.runtime_identity == identity,
        f"AuthenticateSandbox gives the runtime_identity {identity!r} that the last CreateSandbox"
        " or StartSandbox returned",
        repr(answer.runtime_identity),
    )


@check("COMP01-AUTH-03.a", "a sandbox's credential tells which one it is")
async def own_credential(compute: ComputeBench) -> None:
    await _authenticates(compute)
    compute.require("credential")
    sandbox = compute.sandbox()
    created = await compute.create(sandbox)
    compute.need(created.ok, str(created), "COMP-CREATE-01")
    await compute.reaches(sandbox.id, "Ready")
    credential = await compute.backend.credential(sandbox.id)
    compute.world.canaries.add("sandbox credential", credential)
    _same(compute, await _ask(compute, credential), sandbox.id, created.answer.runtime_identity)


@check(
    "COMP01-AUTH-03.b",
    "a sandbox's credential tells which one it is after a start, too",
    profile="lifecycle",
)
async def credential_after_a_start(compute: ComputeBench) -> None:
    await _authenticates(compute)
    compute.require("credential")
    sandbox = await compute.made_stopped()
    started = await compute.start(sandbox.id)
    compute.need(started.ok, str(started), "COMP-START-01")
    await compute.reaches(sandbox.id, "Ready")
    credential = await compute.backend.credential(sandbox.id)
    compute.world.canaries.add("sandbox credential", credential)
    _same(compute, await _ask(compute, credential), sandbox.id, started.answer.runtime_identity)


async def _identified(compute: ComputeBench) -> tuple[wire.DriverSandbox, str]:
    """A sandbox and the identity of its runtime."""
    sandbox = compute.sandbox()
    reply = await compute.create(sandbox)
    compute.need(reply.ok, str(reply), "COMP-CREATE-01")
    identity = reply.answer.runtime_identity
    compute.need(identity, "CreateSandbox gives no runtime_identity", "COMP01-ID-01")
    await compute.reaches(sandbox.id, "Ready")
    return sandbox, identity


@check("COMP01-ID-01.a", "CreateSandbox says what it has made")
async def create_identifies(compute: ComputeBench) -> None:
    await _says_so(compute)
    reply = await compute.create(compute.sandbox())
    compute.need(reply.ok, str(reply), "COMP-CREATE-01")
    compute.hold(
        reply.answer.runtime_identity,
        "CreateSandboxResponse.runtime_identity is not empty, since"
        " supports_sandbox_authentication is true",
        "it is empty",
    )


@check("COMP01-ID-01.b", "StartSandbox says what it has started", profile="lifecycle")
async def start_identifies(compute: ComputeBench) -> None:
    await _says_so(compute)
    sandbox = await compute.made_stopped()
    reply = await compute.start(sandbox.id)
    compute.need(reply.ok, str(reply), "COMP-START-01")
    compute.hold(
        reply.answer.runtime_identity,
        "StartSandboxResponse.runtime_identity is not empty, since"
        " supports_sandbox_authentication is true",
        "it is empty",
    )


@check("COMP01-ID-01.c", "a repeated start does not change the identity", profile="lifecycle")
async def same_identity(compute: ComputeBench) -> None:
    await _says_so(compute)
    sandbox = await compute.made_stopped()
    generation = compute.fresh_id()
    replies = [await compute.start(sandbox.id, generation=generation) for _ in range(2)]
    for reply in replies:
        compute.need(reply.ok, str(reply), "COMP01-START-01")
    first, again = (reply.answer.runtime_identity for reply in replies)
    compute.need(first, "StartSandbox gives no runtime_identity", "COMP01-ID-01")
    compute.hold(
        again == first,
        f"StartSandbox with the same generation_id gives runtime_identity {first!r} again",
        repr(again),
    )


@check(
    "COMP01-ID-01.d",
    "a restart of the driver does not change the identity",
    profile="resilience",
    own=True,
    once=True,
)
async def identity_survives(compute: ComputeBench) -> None:
    await _says_so(compute)
    await compute.can_stop()
    sandbox, _ = await _identified(compute)
    generation = compute.fresh_id()
    before = await compute.start(sandbox.id, generation=generation)
    compute.need(before.ok, str(before), "COMP-START-01")
    await compute.kill_and_restart()
    found = await compute.observed(sandbox.id)
    compute.need(found is not None, "the sandbox is lost in a restart", "COMP-SOCK-11")
    after = await compute.start(sandbox.id, generation=generation)
    compute.need(after.ok, str(after), "COMP01-START-01")
    first, again = before.answer.runtime_identity, after.answer.runtime_identity
    compute.hold(
        again == first,
        f"after kill -9 and a restart StartSandbox with the same generation_id gives"
        f" runtime_identity {first!r} again",
        repr(again),
    )


@check("COMP01-ID-02", "a start of another object than the gateway knows is refused")
async def expected_identity(compute: ComputeBench) -> None:
    sandbox = compute.sandbox()
    created = await compute.create(sandbox)
    compute.need(created.ok, str(created), "COMP-CREATE-01")
    compute.apply(created.answer.runtime_identity, "the driver gives no runtime_identity")
    await compute.can_stop()
    await compute.reaches(sandbox.id, "Ready")
    stopped = await compute.stop(sandbox.id)
    compute.need(stopped.ok, str(stopped), "COMP-STOP-01")
    await compute.halts(sandbox.id)
    reply = await compute.start(sandbox.id, identity="conformance://another-object")
    compute.code(
        reply,
        "FAILED_PRECONDITION",
        when="with an expected_runtime_identity that is of no object",
    )
    found = await compute.observed(sandbox.id)
    compute.hold(
        found is not None and compute.halted(found),
        "after a StartSandbox that was refused the sandbox is still Stopped",
        "it is gone" if found is None else compute.described(found),
    )
