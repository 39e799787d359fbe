"""Harmless questions to each service: those that every driver can be asked at any time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from openshell_drivers._wire import compute_driver_pb2 as compute
from openshell_drivers._wire import credential_driver_pb2 as store
from openshell_drivers._wire import credentials_driver_pb2 as credentials
from openshell_drivers._wire import datamodel_pb2 as datamodel
from openshell_drivers.conformance.benches._base import Bench
from openshell_drivers.conformance.benches.compute import ComputeBench
from openshell_drivers.conformance.benches.credentials import CredentialsBench
from openshell_drivers.testing.gateway._handshake import metadata


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A call that changes nothing."""

    rpc: str
    request: Message
    answer: type[Message]


async def questions(bench: Bench) -> list[Question]:
    """Those of the bench's service."""
    if isinstance(bench, ComputeBench):
        return await _of_compute(bench)
    return _of_credentials(bench) if isinstance(bench, CredentialsBench) else _of_store(bench)


async def _of_compute(bench: ComputeBench) -> list[Question]:
    sandbox = await bench.complete(bench.sandbox())
    nobody: dict[str, Any] = {"sandbox_id": bench.fresh_id(), "name": bench.fresh_name()}
    asked: list[tuple[str, Message, type[Message]]] = [
        (
            "GetCapabilities",
            compute.GetCapabilitiesRequest(gateway=metadata(bench.preset, "compute")),
            compute.GetCapabilitiesResponse,
        ),
        (
            "ValidateSandboxCreate",
            compute.ValidateSandboxCreateRequest(sandbox=sandbox),
            compute.ValidateSandboxCreateResponse,
        ),
        ("GetSandbox", compute.GetSandboxRequest(**nobody), compute.GetSandboxResponse),
        ("ListSandboxes", compute.ListSandboxesRequest(), compute.ListSandboxesResponse),
        ("StopSandbox", compute.StopSandboxRequest(**nobody), compute.StopSandboxResponse),
        ("DeleteSandbox", compute.DeleteSandboxRequest(**nobody), compute.DeleteSandboxResponse),
    ]
    if bench.line != "F":
        asked.append(
            ("StartSandbox", compute.StartSandboxRequest(**nobody), compute.StartSandboxResponse)
        )
    return [Question(rpc=rpc, request=request, answer=answer) for rpc, request, answer in asked]


def _of_store(bench: Bench) -> list[Question]:
    handle = datamodel.CredentialHandle(handle="conformance-no-handle")
    whose = {
        "credential_key": "CONFORMANCE",
        "provider": "conformance",
        "workspace": bench.profile.store.workspaces[0],
        "provider_id": "conformance",
    }
    item = store.ResolveCredentialRequest(request_id="credential-0", handle=handle, **whose)
    asked: list[tuple[str, Message, type[Message]]] = [
        (
            "GetCapabilities",
            store.GetCredentialDriverCapabilitiesRequest(
                gateway=metadata(bench.preset, "credentials")
            ),
            store.GetCredentialDriverCapabilitiesResponse,
        ),
        (
            "ResolveCredentials",
            store.ResolveCredentialsRequest(credentials=[item]),
            store.ResolveCredentialsResponse,
        ),
        (
            "DeleteCredential",
            store.DeleteCredentialRequest(handle=handle, **whose),
            store.DeleteCredentialResponse,
        ),
        ("ListCredentials", store.ListCredentialsRequest(), store.ListCredentialsResponse),
    ]
    return [Question(rpc=rpc, request=request, answer=answer) for rpc, request, answer in asked]


def _of_credentials(bench: Bench) -> list[Question]:
    unknown = bench.profile.credentials.unknown
    return [
        Question(
            rpc="ResolveCredential",
            request=credentials.ResolveCredentialRequest(name=unknown),
            answer=credentials.ResolveCredentialResponse,
        ),
        Question(
            rpc="ListCredentials",
            request=credentials.ListCredentialsRequest(),
            answer=credentials.ListCredentialsResponse,
        ),
    ]
