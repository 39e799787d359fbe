"""`ComputeDriver`, served from a driver."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from functools import partial
from typing import Any, Final

from openshell_drivers._abilities import (
    AdmissionPolicy,
    ComputeCapabilities,
    ResourceCapabilities,
    Support,
)
from openshell_drivers._board import Change
from openshell_drivers._checks import returned
from openshell_drivers._codec import compute_server as codec
from openshell_drivers._codec import extension
from openshell_drivers._codec.compute import FAMILY
from openshell_drivers._entries import Entry
from openshell_drivers._faults import WrongType, WrongValue
from openshell_drivers._guards import Rules, require_name
from openshell_drivers._lifecycle import Lifecycle
from openshell_drivers._rpc import Service, Stream, Unary
from openshell_drivers._sandboxes import AuthenticatedSandbox, SandboxDeleted
from openshell_drivers._services import names
from openshell_drivers._version import driver_version
from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.compute import ComputeDriver, parse_config
from openshell_drivers.errors import (
    FailedPrecondition,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unimplemented,
)
from openshell_drivers.secrets import Secret

_log: Final = logging.getLogger("openshell_drivers.compute")
_LARGEST_LIST: Final = 4 * 1024 * 1024
_MARGIN: Final = 5.0


def capabilities(driver: ComputeDriver[Any]) -> ComputeCapabilities:
    """Say what the class implements; nothing can be claimed that is not there."""
    support = driver.support
    return ComputeCapabilities(
        driver_name=driver.name,
        driver_version=driver_version(driver),
        default_image=driver.default_image,
        gateway_manages_lifecycle=driver.gateway_manages_lifecycle,
        supports_sandbox_authentication=driver.authenticates_sandboxes(),
        driver_reports_runtime_readiness=driver.reports_runtime_readiness,
        resources=ResourceCapabilities(
            cpu_limit=support.cpu_limit,
            memory_limit=support.memory_limit,
            gpu_default=support.gpu or support.gpu_count or support.gpu_device,
            gpu_count=support.gpu_count,
        ),
        resource_admission_policy=driver.admission_policy().acknowledgement(),
    )


def rules(driver: ComputeDriver[Any]) -> Rules:
    """Say what requests are held to. Raises `TypeError` if the class contradicts itself."""
    name, model = type(driver).__name__, driver.driver_config_model
    policy: object = driver.admission_policy()
    support: object = driver.support
    if not isinstance(policy, AdmissionPolicy):
        raise WrongType(f"{name}.admission_policy returned {type(policy).__name__}")
    if not isinstance(support, Support):
        raise WrongType(f"{name}.support must be a Support, not {type(support).__name__}")
    allowed = policy.allow_driver_config
    if allowed and model is None:
        raise WrongType(f"{name} allows driver_config and has no model of it")
    if _stops(driver) and not _starts(driver):
        _log.warning("%s stops sandboxes and cannot start them again", name)
    return Rules(
        support=driver.support,
        default_image=driver.default_image,
        allow_driver_config=allowed,
        parse_driver_config=None if model is None else partial(parse_config, model),
    )


def _stops(driver: ComputeDriver[Any]) -> bool:
    return type(driver).stop_sandbox is not ComputeDriver.stop_sandbox


def _starts(driver: ComputeDriver[Any]) -> bool:
    return type(driver).start_sandbox is not ComputeDriver.start_sandbox


class _Methods:
    def __init__(self, driver: ComputeDriver[Any], *, require_handshake: bool) -> None:
        self._driver = driver
        self._require_handshake = require_handshake
        self._authenticates = driver.authenticates_sandboxes()
        self.lifecycle = Lifecycle(driver, rules(driver))  # before `capabilities`: it judges
        # Once: gateways compare its bytes before every create (COMP01-ADM-03).
        self._capabilities = codec.encode_capabilities(capabilities(driver)).SerializeToString(
            deterministic=True
        )

    async def get_capabilities(self, request: wire.GetCapabilitiesRequest) -> bytes:
        if request.HasField("gateway"):
            extension.judge(request.gateway, FAMILY)
        elif self._require_handshake:
            raise FailedPrecondition("gateway metadata refused: it is missing")
        return self._capabilities

    async def get_gateway_listener_requirements(
        self, request: wire.GetGatewayListenerRequirementsRequest
    ) -> wire.GetGatewayListenerRequirementsResponse:
        method = self._driver.get_gateway_listener_requirements
        return wire.GetGatewayListenerRequirementsResponse(
            requirements=[
                codec.encode_requirement(each) for each in await returned(Iterable, method)
            ]
        )

    async def authenticate_sandbox(
        self, request: wire.AuthenticateSandboxRequest
    ) -> wire.AuthenticateSandboxResponse:
        method = self._driver.authenticate_sandbox
        credential = Secret(request.credential)
        if not self._authenticates:  # as the capability says, for the life of the process
            raise Unimplemented("this driver does not authenticate sandboxes")
        if not request.credential:
            raise Unauthenticated("the credential is empty")
        try:
            found = await returned(AuthenticatedSandbox, method, credential)
        except NotFound:
            raise PermissionDenied("the credential belongs to no sandbox") from None
        if not found.sandbox_id or not found.runtime_identity:
            raise PermissionDenied("the credential belongs to no sandbox")
        return wire.AuthenticateSandboxResponse(
            sandbox_id=found.sandbox_id, runtime_identity=found.runtime_identity
        )

    async def validate(
        self, request: wire.ValidateSandboxCreateRequest
    ) -> wire.ValidateSandboxCreateResponse:
        await self.lifecycle.validate(codec.decode_spec(request))
        return wire.ValidateSandboxCreateResponse()

    async def create(self, request: wire.CreateSandboxRequest) -> wire.CreateSandboxResponse:
        identity = await self.lifecycle.create(codec.decode_spec(request))
        return wire.CreateSandboxResponse(runtime_identity=identity or "")

    async def get(self, request: wire.GetSandboxRequest) -> bytes:
        return codec.get_response(_item(await self.lifecycle.get(codec.decode_ref(request))))

    async def list_(self, request: wire.ListSandboxesRequest) -> bytes:
        await self.lifecycle.list()
        response = codec.list_response(map(_item, self.lifecycle.board.entries()))
        if len(response) > _LARGEST_LIST:
            response = codec.list_response(map(_brief_item, self.lifecycle.board.entries()))
        if len(response) > _LARGEST_LIST:  # an error keeps records that a part would lose
            raise ResourceExhausted("the list is larger than a gateway can receive")
        return response

    async def stop(self, request: wire.StopSandboxRequest) -> wire.StopSandboxResponse:
        await self.lifecycle.stop(codec.decode_ref(request))
        return wire.StopSandboxResponse()

    async def start(self, request: wire.StartSandboxRequest) -> wire.StartSandboxResponse:
        identity = await self.lifecycle.start(
            codec.decode_ref(request), codec.decode_start(request)
        )
        return wire.StartSandboxResponse(runtime_identity=identity or "")

    async def delete(self, request: wire.DeleteSandboxRequest) -> wire.DeleteSandboxResponse:
        deleted = await self.lifecycle.delete(codec.decode_ref(request))
        return wire.DeleteSandboxResponse(deleted=deleted)

    async def watch(
        self, request: wire.WatchSandboxesRequest
    ) -> AsyncGenerator[wire.WatchSandboxesEvent | bytes, None]:
        async with aclosing(self.lifecycle.board.watch()) as changes:
            async for change in changes:
                yield self._event(change)

    def _event(self, change: Change) -> wire.WatchSandboxesEvent | bytes:
        if isinstance(change, Entry):
            return codec.seen_event(_item(change))
        if isinstance(change, SandboxDeleted):
            return codec.encode_deleted(change.sandbox_id)
        return codec.encode_happening(change.sandbox_id, change.event, self._driver.name)

    async def ensure_workspace(
        self, request: wire.EnsureWorkspaceRequest
    ) -> wire.EnsureWorkspaceResponse:
        require_name("workspace", request.workspace)
        await self._driver.ensure_workspace(request.workspace)
        return wire.EnsureWorkspaceResponse()

    async def delete_workspace(
        self, request: wire.DeleteWorkspaceRequest
    ) -> wire.DeleteWorkspaceResponse:
        require_name("workspace", request.workspace)
        with contextlib.suppress(NotFound):  # gone is what was asked for (COMP-WS-03)
            await self._driver.delete_workspace(request.workspace)
        return wire.DeleteWorkspaceResponse()


def _item(entry: Entry) -> bytes:
    """Encode what is told of a sandbox, once per change."""
    if entry.encoded is None:
        if entry.view is None:
            raise WrongValue("a sandbox without a state")
        entry.encoded = codec.encode_sandbox_item(entry.view)
    return entry.encoded


def _brief_item(entry: Entry) -> bytes:
    """Encode what a gateway acts on, without the messages for people, once per change."""
    if entry.brief is None:
        if entry.view is None:
            raise WrongValue("a sandbox without a state")
        entry.brief = codec.encode_sandbox_item(entry.view, brief=True)
    return entry.brief


def service(driver: ComputeDriver[Any], *, require_handshake: bool = False) -> Service:
    """Bind the thirteen methods. Raises `TypeError` if the class contradicts itself."""
    methods = _Methods(driver, require_handshake=require_handshake)
    longer = driver.lifecycle_timeout + _MARGIN

    def about(request: Any) -> str:
        return str(request.sandbox_id)

    def created(request: Any) -> str:
        return str(request.sandbox.id)

    unary: list[Unary[Any, Any]] = [
        Unary(
            name="GetCapabilities",
            request=wire.GetCapabilitiesRequest,
            answer=methods.get_capabilities,
            quiet=True,  # read before every create and start (COMP01-NEG-07)
        ),
        Unary(
            name="GetGatewayListenerRequirements",
            request=wire.GetGatewayListenerRequirementsRequest,
            answer=methods.get_gateway_listener_requirements,
        ),
        Unary(
            name="AuthenticateSandbox",
            request=wire.AuthenticateSandboxRequest,
            answer=methods.authenticate_sandbox,
        ),
        Unary(
            name="ValidateSandboxCreate",
            request=wire.ValidateSandboxCreateRequest,
            answer=methods.validate,
            about=created,
        ),
        Unary(
            name="CreateSandbox",
            request=wire.CreateSandboxRequest,
            answer=methods.create,
            about=created,
            timeout=longer,
        ),
        Unary(name="GetSandbox", request=wire.GetSandboxRequest, answer=methods.get, about=about),
        Unary(name="ListSandboxes", request=wire.ListSandboxesRequest, answer=methods.list_),
        Unary(
            name="StopSandbox",
            request=wire.StopSandboxRequest,
            answer=methods.stop,
            about=about,
            timeout=longer,
        ),
        Unary(
            name="StartSandbox",
            request=wire.StartSandboxRequest,
            answer=methods.start,
            about=about,
            timeout=longer,
        ),
        Unary(
            name="DeleteSandbox",
            request=wire.DeleteSandboxRequest,
            answer=methods.delete,
            about=about,
            timeout=longer,
        ),
        Unary(
            name="EnsureWorkspace",
            request=wire.EnsureWorkspaceRequest,
            answer=methods.ensure_workspace,
            about=lambda request: request.workspace,
        ),
        Unary(
            name="DeleteWorkspace",
            request=wire.DeleteWorkspaceRequest,
            answer=methods.delete_workspace,
            about=lambda request: request.workspace,
        ),
    ]
    watch = Stream(name="WatchSandboxes", request=wire.WatchSandboxesRequest, answer=methods.watch)
    return Service(name=names.COMPUTE, methods=[*unary, watch], life=methods.lifecycle.running)
