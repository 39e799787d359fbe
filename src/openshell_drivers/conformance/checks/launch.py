"""``launch_authentication``: absent, given, damaged. What becomes of its secrets: `secrecy`."""

from __future__ import annotations

import json
from typing import Final

from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.conformance._caller import Reply
from openshell_drivers.conformance._checks import check
from openshell_drivers.conformance.benches._compute_calls import Created
from openshell_drivers.conformance.benches.compute import ComputeBench
from openshell_drivers.testing.gateway._handshake import LAUNCH

_TOLD: Final = ("OK", "INVALID_ARGUMENT", "FAILED_PRECONDITION")


async def _required(compute: ComputeBench) -> bool:
    """Whether the driver tells the gateway that it cannot do without."""
    extension = (await compute.capabilities()).extension
    return LAUNCH in extension.required_capabilities


async def _created_without(compute: ComputeBench) -> Created:
    """Create without the document. `Blocked` if the document makes no difference."""
    sandbox = compute.sandbox()
    sandbox.spec.sandbox_token = await compute.token("sandbox token")
    reply = await compute.create(sandbox, bare=True)
    if not reply.ok:
        other = await compute.create(compute.sandbox())
        compute.need(other.ok, str(other), "COMP-CREATE-01")
    return reply


@check("COMP01-LAUNCH-01.a", "CreateSandbox works without launch_authentication")
async def create_without(compute: ComputeBench) -> None:
    compute.apply(not await _required(compute), f"the driver requires {LAUNCH}")
    reply = await _created_without(compute)
    compute.code(reply, "OK", when="with an empty launch_authentication, as with one,")


@check(
    "COMP01-LAUNCH-01.b", "StartSandbox works without launch_authentication", profile="lifecycle"
)
async def start_without(compute: ComputeBench) -> None:
    compute.apply(not await _required(compute), f"the driver requires {LAUNCH}")
    sandbox = await compute.made_stopped()
    reply = await compute.start(sandbox.id, launch=b"")
    if not reply.ok:
        other = await compute.start(sandbox.id)
        compute.need(other.ok, str(other), "COMP-START-01")
    compute.code(reply, "OK", when="with an empty launch_authentication, as with one,")


async def _damaged(compute: ComputeBench, document: bytes) -> Created:
    sandbox = compute.sandbox()
    sandbox.spec.launch_authentication = document
    return await compute.create(sandbox)


def _not_quoted(compute: ComputeBench, reply: Reply[wire.CreateSandboxResponse]) -> None:
    found = compute.world.canaries.found(reply.text.encode())
    compute.hold(
        not found,
        f"the message of {reply.rpc} holds nothing of launch_authentication",
        f"the message quotes the {', '.join(found)}",
    )


@check("COMP01-LAUNCH-03.a", "a damaged launch_authentication is a mistake, and is not quoted")
async def damaged(compute: ComputeBench) -> None:
    secret = compute.secret("damaged launch document")
    plain = await compute.create_with_room(compute.sandbox())
    compute.need(plain.ok, str(plain), "COMP-CREATE-01")
    documents = {
        "that is no JSON": b"{" + secret.encode(),
        "that is no UTF-8": b"\xff\xfe" + secret.encode(),
        "that is a JSON text": json.dumps(secret).encode(),
    }
    ignored = []
    for what, document in documents.items():
        reply = await _damaged(compute, document)
        _not_quoted(compute, reply)
        when = f"with a launch_authentication {what}, if it reads it,"
        compute.code(reply, *_TOLD, when=when)
        ignored += [what] if reply.ok else []
    if ignored:
        compute.note(f"launch_authentication {', '.join(ignored)} is accepted, and so not read")


@check("COMP01-LAUNCH-03.b", "unknown keys in launch_authentication are tolerated")
async def unknown_keys(compute: ComputeBench) -> None:
    plain = await compute.create_with_room(compute.sandbox())
    compute.need(plain.ok, str(plain), "COMP-CREATE-01")
    sandbox = compute.sandbox()
    document = await compute.launch_document(conformance_future_key={"a": [1]})
    sandbox.spec.launch_authentication = document
    reply = await compute.create(sandbox)
    compute.code(reply, "OK", when="with one more key in launch_authentication")


@check("COMP01-LAUNCH-04", "a driver that needs launch_authentication says so")
async def need_is_said(compute: ComputeBench) -> None:
    extension = (await compute.capabilities()).extension
    if await _required(compute):
        compute.hold(
            LAUNCH in extension.supported_capabilities,
            f"{LAUNCH} is in supported_capabilities too, since it is in required_capabilities",
            "it is only in required_capabilities",
        )
        return
    reply = await _created_without(compute)
    compute.code(
        reply,
        *("OK", "FAILED_PRECONDITION"),
        when=f"with an empty launch_authentication, where {LAUNCH} is not required,",
    )
