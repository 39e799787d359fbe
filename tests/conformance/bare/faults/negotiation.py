"""What the driver says of itself, and how it takes a gateway."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.unknown_fields import UnknownFieldSet

from tests.conformance.bare.driver import Driver
from tests.conformance.bare.errors import FailedPrecondition, Refusal
from tests.conformance.bare.faults._tools import fault, override

LAUNCH = "openshell.compute.launch-authentication"


def saying(driver: Driver, **fields: Any) -> None:
    """Change what GetCapabilities says; None leaves a field out, a function is asked each time."""

    @override(driver.compute, "capabilities")
    def _(original: Any) -> Any:
        said = {**original(), **fields}
        said = {key: value() if callable(value) else value for key, value in said.items()}
        return {key: value for key, value in said.items() if value is not None}


def peering(driver: Driver, change: Callable[[Any], None]) -> None:
    """Change the extension of the compute service."""

    @override(driver.compute.handshake, "metadata")
    def _(original: Any, peer_class: Any) -> Any:
        made = original(peer_class)
        change(made)
        return made


@fault("no-extension", kills=("COMP01-NEG-01",))
def _(driver: Driver) -> None:
    """The compute service says nothing of its protocol."""
    saying(driver, extension=None)


@fault("protocol-version-2", kills=("COMP01-NEG-01",))
def _(driver: Driver) -> None:
    """The driver speaks another major version."""
    peering(driver, lambda made: setattr(made.protocol_version, "major", 2))


@fault("implementation-name-is-blank", kills=("COMP01-NEG-02",))
def _(driver: Driver) -> None:
    """The implementation has no name."""
    peering(driver, lambda made: setattr(made, "implementation_name", "  "))


@fault("implementation-name-is-long-in-bytes", kills=("COMP01-NEG-02",))
def _(driver: Driver) -> None:
    """The name has less than 128 characters and more than 128 bytes."""
    peering(driver, lambda made: setattr(made, "implementation_name", "é" * 65))


@fault("contract-is-not-supported", kills=("COMP01-NEG-03.a",))
def _(driver: Driver) -> None:
    """The list of what is supported lacks the contract."""

    def change(made: Any) -> None:
        made.supported_capabilities[:] = ["openshell.compute.other"]

    peering(driver, change)


@fault("capability-of-the-vendor", kills=("COMP01-NEG-03.b",))
def _(driver: Driver) -> None:
    """A capability has the vendor's own prefix."""
    peering(driver, lambda made: made.supported_capabilities.append("bare.compute.extra"))


@fault("capability-twice", kills=("COMP01-NEG-03.b",))
def _(driver: Driver) -> None:
    """A capability is listed twice."""
    peering(driver, lambda made: made.supported_capabilities.append("openshell.compute.contract"))


@fault("requires-launch-authentication", kills=("COMP01-NEG-04",))
def _(driver: Driver) -> None:
    """The driver requires what gateways up to 0.1.2 do not offer."""

    def change(made: Any) -> None:
        made.supported_capabilities.append(LAUNCH)
        made.required_capabilities.append(LAUNCH)

    peering(driver, change)


@fault(
    "requires-launch-authentication-unsaid", kills=("COMP01-LAUNCH-04",), also=("COMP01-NEG-04",)
)
def _(driver: Driver) -> None:
    """What is required is not listed as supported."""
    peering(driver, lambda made: made.required_capabilities.append(LAUNCH))


@fault("minor-version-must-fit", kills=("COMP01-NEG-05.a",))
def _(driver: Driver) -> None:
    """A gateway of protocol 1.1 or later is refused."""

    @override(driver.compute.handshake, "judge_version")
    def _(_original: Any, gateway: Any) -> None:
        version = gateway.protocol_version
        if (version.major, version.minor) != (1, 0):
            raise FailedPrecondition("gateway metadata refused: protocol_version is not 1.0")


@fault("capabilities-must-be-known", kills=("COMP01-NEG-05.b",))
def _(driver: Driver) -> None:
    """A gateway that can more than the driver knows is refused."""

    @override(driver.compute.handshake, "judge_capabilities")
    def _(original: Any, gateway: Any) -> None:
        if set(gateway.supported_capabilities) - {"openshell.compute.contract", LAUNCH}:
            raise FailedPrecondition("gateway metadata refused: an unknown capability")
        original(gateway)


@fault("fields-must-be-known", kills=("COMP01-NEG-05.c",))
def _(driver: Driver) -> None:
    """A gateway that sends a new field is refused."""

    @override(driver.compute.handshake, "judge")
    def _(original: Any, request: Any) -> None:
        if len(UnknownFieldSet(request.gateway)):
            raise FailedPrecondition("gateway metadata refused: an unknown field")
        original(request)


@fault("any-gateway-is-welcome", kills=("COMP01-NEG-06.a",))
def _(driver: Driver) -> None:
    """What a gateway says of itself is not looked at."""

    @override(driver.compute.handshake, "judge")
    def _(_original: Any, _request: Any) -> None:
        return


@fault("gateways-are-refused-with-internal", kills=("COMP01-NEG-06.b",))
def _(driver: Driver) -> None:
    """A gateway that does not fit is told to try again."""

    @override(driver.compute.handshake, "judge")
    def _(original: Any, request: Any) -> None:
        try:
            original(request)
        except FailedPrecondition as error:
            raise Refusal(error.message) from None


@fault("extension-changes", kills=("COMP01-NEG-07.a",))
def _(driver: Driver) -> None:
    """The protocol's minor version counts the calls."""
    numbers = itertools.count()
    peering(driver, lambda made: setattr(made.protocol_version, "minor", next(numbers)))


@fault("capabilities-ask-the-platform", kills=("COMP-CAP-01.b", "COMP01-NEG-07.b"))
def _(driver: Driver) -> None:
    """GetCapabilities looks at the platform first."""

    @override(driver.compute, "get_capabilities")
    async def _(original: Any, request: Any) -> Any:
        await driver.platform.reach()
        return await original(request)


@fault("capabilities-are-slow", kills=("COMP-CAP-01.a",), also=("COMP-CAP-01.b", "COMP01-NEG-07.b"))
def _(driver: Driver) -> None:
    """GetCapabilities takes two and a half seconds."""

    @override(driver.compute, "get_capabilities")
    async def _(original: Any, request: Any) -> Any:
        await asyncio.sleep(2.5)
        return await original(request)


@fault("driver-has-no-name", kills=("COMP-CAP-02.a",))
def _(driver: Driver) -> None:
    """The driver's name is empty."""
    saying(driver, driver_name="")


@fault("driver-name-changes", kills=("COMP-CAP-02.b",))
def _(driver: Driver) -> None:
    """The driver's name counts the calls."""
    numbers = itertools.count()
    saying(driver, driver_name=lambda: f"bare-{next(numbers)}")


@fault("no-default-image", kills=("COMP-CAP-03",))
def _(driver: Driver) -> None:
    """There is no default image, and a sandbox without one is accepted."""
    saying(driver, default_image="")


@fault("driver-version-is-another", kills=("COMP01-NEG-08",))
def _(driver: Driver) -> None:
    """The old version field was forgotten at the last release."""
    saying(driver, driver_version="0.9.0")


@fault("lifecycle-is-promised-only", kills=("COMP-CAP-04",))
def _(driver: Driver) -> None:
    """The gateway may manage the lifecycle, but sandboxes cannot be stopped."""
    compute: Any = driver.compute
    compute.stop_sandbox = None
    compute.start_sandbox = None


@fault("limits-are-denied", kills=("COMP01-RES-01.a", "COMP01-RES-01.b"))
def _(driver: Driver) -> None:
    """Limits are said to be unsupported, and accepted."""
    no = {"limit_supported": False}
    saying(driver, resource_capabilities={"cpu": no, "memory": no})


@fault("resources-change", kills=("COMP01-RES-01.d",))
def _(driver: Driver) -> None:
    """Whether limits are supported is now said and now not."""
    numbers = itertools.count()

    def now() -> Any:
        return {"cpu": {"limit_supported": True}} if next(numbers) % 2 else {}

    saying(driver, resource_capabilities=now)


@fault("uploads-have-no-folder", kills=("COMP01-RES-02",))
def _(driver: Driver) -> None:
    """Uploads are offered with no place for them."""
    saying(driver, rootfs_tar_max_bytes=1 << 30)


@fault("uploads-are-open-to-all", kills=("COMP01-RES-02",))
def _(driver: Driver) -> None:
    """Everybody may write where uploads go."""
    saying(driver, rootfs_tar_max_bytes=1 << 30, rootfs_tar_staging_dir="/tmp")


@fault("older-gateways-are-refused", kills=("COMPAT01-01",))
def _(driver: Driver) -> None:
    """A gateway that says nothing of itself is refused."""

    @override(driver.compute.handshake, "judge")
    def _(original: Any, request: Any) -> None:
        if not request.HasField("gateway"):
            raise FailedPrecondition("gateway metadata refused: there is none")
        original(request)


@fault("older-gateways-break-it", kills=("COMPAT01-05",), also=("COMPAT01-01", "COMP-CAP-01.a"))
def _(driver: Driver) -> None:
    """A gateway that says nothing of itself is met with an internal error."""

    @override(driver.compute.handshake, "judge")
    def _(original: Any, request: Any) -> None:
        if not request.HasField("gateway"):
            raise RuntimeError("no gateway")
        original(request)


@fault(
    "old-field-numbers-are-reused",
    kills=("COMPAT01-02",),
    also=("CREDU-CAP-01.a", "CREDU01-NEG-03"),
)
def _(driver: Driver) -> None:
    """Fields 4 and 6 of the capabilities are texts."""

    @override(driver.calls, "encode")
    def _(original: Any, rpc: str, answer: Any) -> bytes:
        data: bytes = original(rpc, answer)
        return data + (b"\x22\x01x\x32\x01x" if rpc == "GetCapabilities" else b"")


@fault("every-method-is-there", kills=("COMPAT01-06",), also=("COMP-SOCK-09",))
def _(driver: Driver) -> None:
    """Methods that nobody knows are answered with an empty OK."""

    class All(grpc.GenericRpcHandler):
        def service(self, _details: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(lambda _raw, _context: b"")

    @override(driver.calls, "handler")
    def _(original: Any, schema: Any, implementation: Any) -> Any:
        known = original(schema, implementation)

        class Either(grpc.GenericRpcHandler):
            def service(self, details: Any) -> Any:
                found = known.service(details)
                ours = details.method.startswith(f"/{schema.service_name}/")
                return All().service(details) if found is None and ours else found

        return Either()


def listening(driver: Driver, **requirement: Any) -> None:
    """Ask for a listener."""

    async def ask(_request: Any) -> Any:
        answer = driver.compute.messages.GetGatewayListenerRequirementsResponse()
        answer.requirements.add(**requirement)
        return answer

    compute: Any = driver.compute
    compute.get_gateway_listener_requirements = ask


@fault("listeners-are-an-error", kills=("COMP-LSN-01",))
def _(driver: Driver) -> None:
    """No need for a listener is told by an error."""

    @override(driver.compute, "get_gateway_listener_requirements")
    async def _(_original: Any, _request: Any) -> Any:
        raise FailedPrecondition("no listener is needed")


@fault("listener-has-no-selector", kills=("COMP-LSN-02",), also=("COMPAT01-03",))
def _(driver: Driver) -> None:
    """A listener is wanted nowhere in particular."""
    listening(driver, reason="sandboxes call back")


@fault("listener-has-a-host-name", kills=("COMP-LSN-02",), also=("COMPAT01-03", "COMP-LSN-04"))
def _(driver: Driver) -> None:
    """A listener is wanted at a name."""
    listening(driver, reason="sandboxes call back", exact_bind_address="localhost:8080")


@fault("listener-reason-is-long", kills=("COMP-LSN-03",), also=("COMPAT01-03",))
def _(driver: Driver) -> None:
    """The reason for a listener has several lines."""
    listening(driver, reason="because\n" * 100, loopback_interface={})


@fault("listener-has-an-address", kills=("COMP-LSN-04",), also=("COMPAT01-03",))
def _(driver: Driver) -> None:
    """A listener is wanted at an exact address."""
    listening(driver, reason="sandboxes call back", exact_bind_address="10.0.0.1:8080")


@fault("listener-at-the-loopback", kills=("COMPAT01-03",))
def _(driver: Driver) -> None:
    """A listener is wanted for which a later gateway has no words."""
    listening(driver, reason="sandboxes call back", loopback_interface={})
