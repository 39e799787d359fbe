"""`ComputeBench`: a compute driver under test, with sandboxes that are always cleaned away."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
from google.protobuf import json_format

from openshell_drivers._codec.compute import decode_sandbox
from openshell_drivers._sandboxes import SandboxStatus
from openshell_drivers._services.names import COMPUTE
from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.conformance._caller import PATIENCE, SILENT, Caller, Reply
from openshell_drivers.conformance._outcomes import Blocked, NotApplicable, NotTestable
from openshell_drivers.conformance.benches._base import Bench, unhurried
from openshell_drivers.conformance.benches._watchlog import HEADERS, WatchLog
from openshell_drivers.conformance.report.model import Leak
from openshell_drivers.testing.gateway import Gateway, Phase, derive_phase
from openshell_drivers.testing.gateway._handshake import metadata
from openshell_drivers.testing.gateway._phases import stop_confirmed

Created = Reply[wire.CreateSandboxResponse]
Observed = Reply[wire.GetSandboxResponse]
#: Until a list may lag behind what Get and the watch say: gateways look once a minute.
LAG: Final = 6.0
#: What is told where a driver stops sandboxes and does not start them: once is enough.
_JUDGES_START: Final = ("COMP-START-03", "COMP-CAP-04")
#: How long it is waited for room on a platform that others fill.
_ROOM: Final = 15.0
_SMALL: Final = 32
#: How long headers are waited for that have come with the first event only before.
_LATE: Final = 0.4
#: How long a phase is waited for that no sandbox has reached in all the time it may take.
_VAIN: Final = 3.0
#: How many sandboxes are deleted at once.
_DELETING: Final = 16
_DEFAULT_COMMAND: Final = ("/bin/sleep", "3600")
_PUBLIC_KEY: Final = (
    "-----BEGIN PUBLIC KEY-----\n"
    "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n"
    "-----END PUBLIC KEY-----\n"
)
_POLICY: Final = b"\x08\x01"  # a SandboxPolicy with nothing but version 1


class ComputeBench(Bench):
    """The eleven RPCs, the watch, a gateway, and waits for what a user would wait for."""

    service = COMPUTE

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._made: dict[str, wire.DriverSandbox] = {}
        self._rests: dict[str, Phase] = {}
        self._looked_elsewhere = False
        self._mute = False

    @property
    def line(self) -> str:
        """F, U or N."""
        return self.preset.line

    async def ping(self, caller: Caller | None = None, *, patience: float = PATIENCE) -> Reply[Any]:
        """GetCapabilities."""
        request = wire.GetCapabilitiesRequest(gateway=metadata(self.preset, "compute"))
        answer = wire.GetCapabilitiesResponse
        return await (caller or self.caller).ask(
            "GetCapabilities", request, answer, patience=patience
        )

    # Requests

    def fresh_id(self) -> str:
        """An id that no sandbox has."""
        return str(uuid.uuid4())

    def fresh_name(self) -> str:
        """A name that no sandbox has, of this run by its looks, within the profile's limit."""
        return f"{self.world.run}-{self.world.number()}"

    def sandbox(
        self,
        *,
        id: str | None = None,  # noqa: A002
        name: str | None = None,
        workspace: int | str = 0,
        template: dict[str, Any] | None = None,
    ) -> wire.DriverSandbox:
        """A sandbox as a gateway of the line sends it: the profile's template, completed.

        `workspace` is a number into the profile's list, or a text. `template` is another spec.
        Change the message before it is sent as the check needs it.
        """
        spaces = self.profile.compute.workspaces
        message = wire.DriverSandbox(
            id=self.fresh_id() if id is None else id,
            name=self.fresh_name() if name is None else name,
            workspace=workspace if isinstance(workspace, str) else spaces[workspace],
        )
        wished = self.profile.compute.template if template is None else template
        try:
            json_format.ParseDict(wished, message.spec)
        except json_format.ParseError as error:
            raise Blocked(f"the profile's template is no DriverSandboxSpec: {error}") from None
        message.spec.template.SetInParent()
        if not message.spec.command:
            message.spec.command.extend(_DEFAULT_COMMAND)
        if self.line != "F":
            message.status.SetInParent()
        if self.line == "N":
            message.spec.workload_identity.SetInParent()
            message.spec.policy = message.spec.policy or _POLICY
        return message

    def variant(self, kind: str) -> wire.DriverSandbox:
        """A sandbox of the profile's ``unpullable``, ``refused`` or ``lengthy`` template."""
        template = getattr(self.profile.compute, kind)
        if template is None:
            raise NotTestable(f"compute.{kind} is not in the profile")
        base = {**self.profile.compute.template, **template}
        return self.sandbox(template=base)

    async def complete(self, sandbox: wire.DriverSandbox) -> wire.DriverSandbox:
        """Fill in the driver's default image where there is none, as gateways do."""
        if not sandbox.spec.template.image:
            sandbox.spec.template.image = (await self.capabilities()).default_image
        return sandbox

    # Unary calls

    async def capabilities(self) -> wire.GetCapabilitiesResponse:
        """What the driver says of itself, asked once. `Blocked` if it does not answer."""
        reply = await self.known("capabilities", self.get_capabilities)
        self.need(reply.ok, str(reply), "COMP-CAP-01")
        return reply.answer

    async def get_capabilities(self) -> Reply[wire.GetCapabilitiesResponse]:
        """Ask as the line does."""
        request = wire.GetCapabilitiesRequest(gateway=metadata(self.preset, "compute"))
        return await self.caller.ask("GetCapabilities", request, wire.GetCapabilitiesResponse)

    async def validate(
        self, sandbox: wire.DriverSandbox | None
    ) -> Reply[wire.ValidateSandboxCreateResponse]:
        """Ask whether a create would be refused; None sends no sandbox at all."""
        if sandbox is not None:
            await self.complete(sandbox)
        request = wire.ValidateSandboxCreateRequest(sandbox=sandbox)
        answer = wire.ValidateSandboxCreateResponse
        return await self.caller.ask("ValidateSandboxCreate", request, answer)

    async def create(
        self,
        sandbox: wire.DriverSandbox | None,
        *,
        deadline: float | None = None,
        caller: Caller | None = None,
        bare: bool = False,
    ) -> Created:
        """Create, as it comes out. What may exist afterwards is cleaned away after the check.

        `bare` leaves out the token and the launch document that the line's gateway mints.
        """
        if sandbox is not None:
            await self.complete(sandbox)
            if not bare:
                await self.mint(sandbox.spec)
            self.remember(sandbox)
        asked = wire.CreateSandboxRequest(sandbox=sandbox), wire.CreateSandboxResponse
        patience = time.monotonic() + _ROOM
        while True:
            reply = await (caller or self.caller).ask("CreateSandbox", *asked, deadline=deadline)
            # Where there is little room, other checks may have it just now.
            small = self.profile.compute.max_sandboxes <= _SMALL
            if reply.code != "RESOURCE_EXHAUSTED" or not small or time.monotonic() > patience:
                return reply
            await anyio.sleep(0.5)

    async def mint(self, spec: wire.DriverSandboxSpec) -> None:
        """Put in the secrets that the line's gateway mints at create, where there are none."""
        if self.preset.mints_tokens and not spec.sandbox_token:
            spec.sandbox_token = await self.token("sandbox token")
        if self.preset.sends_launch and not spec.launch_authentication:
            spec.launch_authentication = await self.launch_document()

    async def token(self, label: str) -> str:
        """A secret that is the same for all of the instance's checks under the preset."""

        async def make() -> str:
            return self.secret(label)

        return await self.known(label, make)

    async def launch_document(self, **more: Any) -> bytes:
        """What a 0.1.x gateway sends as ``launch_authentication``."""
        gateway, sandbox = "launch gateway token", "launch sandbox token"
        return self.launch_of(await self.token(gateway), await self.token(sandbox), **more)

    def launch_of(self, gateway_token: str, sandbox_token: str, **more: Any) -> bytes:
        """The same with tokens of the check's own.

        Most drivers read it as upstream does, which is strict: a generation is text, a rotation
        begins with 1, and a key comes as the numbers of its bytes.
        """
        supervisor = {
            "session_id": self.fresh_id(),
            "runtime_generation": self.fresh_id(),
            "session_rotation": 1,
            "auth_epoch": 1,
            "gateway_token": gateway_token,
            "gateway_expires_at": int(time.time()) + 3600,
            "sandbox_token": sandbox_token,
            "sandbox_expires_at": int(time.time()) + 3600,
        }
        document = {
            "supervisor": supervisor,
            "gateway_id": "conformance",
            "verification_keys": [{"key_id": "k1", "public_key_pem": list(_PUBLIC_KEY.encode())}],
            **more,
        }
        return json.dumps(document, separators=(",", ":")).encode()

    def remember(self, sandbox: wire.DriverSandbox) -> None:
        """Put a sandbox into the ledger before it can exist."""
        key = sandbox.id or f"the name {sandbox.name}"  # what has no id must go too
        if key not in self._made:
            self.world.ledger.write(
                "create",
                id=sandbox.id,
                name=sandbox.name,
                workspace=sandbox.workspace,
                socket=str(self.instance.socket),
            )
            self._made[key] = sandbox

    async def get(self, sandbox_id: str, name: str | None = None) -> Observed:
        """Observe one; gateways always send the name too, and so does this."""
        request = wire.GetSandboxRequest(sandbox_id=sandbox_id, name=self._name(sandbox_id, name))
        return await self.caller.ask("GetSandbox", request, wire.GetSandboxResponse)

    async def list_all(self) -> Reply[wire.ListSandboxesResponse]:
        """Observe all."""
        request = wire.ListSandboxesRequest()
        return await self.caller.ask("ListSandboxes", request, wire.ListSandboxesResponse)

    async def stop(
        self, sandbox_id: str, name: str | None = None, *, patience: float | None = None
    ) -> Reply[wire.StopSandboxResponse]:
        """Stop compute."""
        request = wire.StopSandboxRequest(sandbox_id=sandbox_id, name=self._name(sandbox_id, name))
        limit = patience or self.profile.compute.timeouts.stopped + PATIENCE
        answer = wire.StopSandboxResponse
        return await self.caller.ask("StopSandbox", request, answer, patience=limit)

    async def start(
        self,
        sandbox_id: str,
        name: str | None = None,
        *,
        generation: str | None = None,
        identity: str = "",
        launch: bytes | None = None,
    ) -> Reply[wire.StartSandboxResponse]:
        """Start compute again, with a generation and a launch document of its own by default."""
        if launch is None:
            launch = await self.launch_document() if self.preset.sends_launch else b""
        request = wire.StartSandboxRequest(
            sandbox_id=sandbox_id,
            name=self._name(sandbox_id, name),
            generation_id=self.fresh_id() if generation is None else generation,
            expected_runtime_identity=identity,
            launch_authentication=launch,
        )
        answer = wire.StartSandboxResponse
        limit = self.profile.compute.timeouts.ready + PATIENCE
        reply = await self.caller.ask("StartSandbox", request, answer, patience=limit)
        if reply.code == "UNIMPLEMENTED" and self.check.clause not in _JUDGES_START:
            raise Blocked(str(reply), "COMP-START-03")
        return reply

    async def delete(
        self, sandbox_id: str, name: str | None = None, *, caller: Caller | None = None
    ) -> Reply[wire.DeleteSandboxResponse]:
        """Delete."""
        request = wire.DeleteSandboxRequest(
            sandbox_id=sandbox_id, name=self._name(sandbox_id, name)
        )
        answer = wire.DeleteSandboxResponse
        return await (caller or self.caller).ask("DeleteSandbox", request, answer)

    def _name(self, sandbox_id: str, name: str | None) -> str:
        if name is not None:
            return name
        made = self._made.get(sandbox_id)
        return made.name if made is not None else self.fresh_name()

    # Whole steps, of which other checks judge the parts

    async def made(self, sandbox: wire.DriverSandbox | None = None) -> wire.DriverSandbox:
        """Create one that the driver accepts. `Blocked` if it does not."""
        sandbox = self.sandbox() if sandbox is None else sandbox
        reply = await self.create_with_room(sandbox)
        self.need(reply.ok, str(reply), "COMP-CREATE-01")
        return sandbox

    async def create_with_room(self, sandbox: wire.DriverSandbox) -> Created:
        """Create; `Blocked` if the platform is full."""
        reply = await self.create(sandbox)
        if reply.code == "RESOURCE_EXHAUSTED":
            limit = self.profile.compute.max_sandboxes
            raise Blocked(
                f"there is no room: {reply}; how many may exist at once is the profile's"
                f" compute.max_sandboxes, now {limit}",
                "COMP-CREATE-01",
            )
        return reply

    async def made_ready(self, sandbox: wire.DriverSandbox | None = None) -> wire.DriverSandbox:
        """Create one and wait until its compute runs."""
        sandbox = await self.made(sandbox)
        await self.reaches(sandbox.id, "Ready")
        return sandbox

    async def made_settled(self, sandbox: wire.DriverSandbox | None = None) -> wire.DriverSandbox:
        """Create one and wait until it runs; if it does not, it will do as it is.

        For checks that need a sandbox that is there, whatever state it shows.
        """
        sandbox = await self.made(sandbox)
        await self.settles(sandbox.id)
        return sandbox

    async def made_going(self) -> wire.DriverSandbox:
        """Create one that runs as far as can be told: some leave Ready to the supervisor."""
        sandbox = await self.made_settled()
        phase = self.at_rest(sandbox.id)
        self.need(phase != "Error", f"the sandbox did not get Ready but {phase}", "COMP-STAT-04")
        return sandbox

    async def settles(self, sandbox_id: str) -> None:
        """Wait until one runs; `at_rest` is what it shows after a time in which others would."""
        try:
            await self.reaches(sandbox_id, "Ready")
        except Blocked:
            seen = await self.observed(sandbox_id)
            if seen is None:
                raise
            self._rests[sandbox_id] = self.phase(seen)
            self.note(f"judged with a sandbox that does not get Ready: {self.described(seen)}")

    def rested(self, sandbox_id: str) -> Phase | None:
        """The phase of one that has settled without getting Ready; None for all others."""
        return self._rests.get(sandbox_id)

    def at_rest(self, sandbox_id: str) -> Phase:
        """The phase of one that has settled: Ready, or what it shows instead."""
        return self._rests.get(sandbox_id, "Ready")

    async def made_stopped(self) -> wire.DriverSandbox:
        """Create one, wait until it runs, and stop it. `NotApplicable` without StopSandbox."""
        await self.can_stop()
        sandbox = await self.made_going()
        reply = await self.stop(sandbox.id)
        self.need(reply.ok, str(reply), "COMP-STOP-01")
        await self.rests(sandbox.id)
        return sandbox

    async def rests(self, sandbox_id: str) -> None:
        """Wait until one that was stopped shows it; words that gateways do not know will do.

        One that shows still what it showed before the stop is `Blocked`.
        """
        try:
            await self.halts(sandbox_id)
        except Blocked:
            seen = await self.observed(sandbox_id)
            if seen is None or self.phase(seen) == self.at_rest(sandbox_id):
                raise
            self.note(f"judged with a stopped sandbox that is shown as {self.described(seen)}")

    async def can_stop(self) -> None:
        """`NotApplicable` if the driver does not stop sandboxes, and does not say it does."""
        if not await self.implements("StopSandbox"):
            capabilities = await self.capabilities()
            if not capabilities.gateway_manages_lifecycle:
                raise NotApplicable("the driver does not implement StopSandbox")

    async def implements(self, rpc: str) -> bool:
        """Whether an RPC answers anything but UNIMPLEMENTED to a request about nothing."""
        requests: dict[str, tuple[Any, Any]] = {
            "StopSandbox": (wire.StopSandboxRequest, wire.StopSandboxResponse),
            "StartSandbox": (wire.StartSandboxRequest, wire.StartSandboxResponse),
            "EnsureWorkspace": (wire.EnsureWorkspaceRequest, wire.EnsureWorkspaceResponse),
            "DeleteWorkspace": (wire.DeleteWorkspaceRequest, wire.DeleteWorkspaceResponse),
            "AuthenticateSandbox": (
                wire.AuthenticateSandboxRequest,
                wire.AuthenticateSandboxResponse,
            ),
        }

        async def ask() -> bool:
            request, answer = requests[rpc]
            message = request()
            if hasattr(message, "sandbox_id"):
                message.sandbox_id, message.name = self.fresh_id(), self.fresh_name()
            if hasattr(message, "workspace"):
                message.workspace = self.fresh_name()
            reply = await self.caller.ask(rpc, message, answer, whole=True)
            return reply.code != "UNIMPLEMENTED"

        return await self.known(f"implements {rpc}", ask)

    # Observations

    def phase(self, sandbox: wire.DriverSandbox) -> Phase:
        """What the line reads in an observation, without regard to sessions."""
        return derive_phase(self.status(sandbox), self.preset)

    def status(self, sandbox: wire.DriverSandbox) -> SandboxStatus | None:
        """The status as the line reads it; None where there is none."""
        heard = wire.DriverSandbox()
        heard.CopyFrom(sandbox)
        heard.ClearField("spec")
        self.caller.cut(heard)
        if not heard.HasField("status"):
            return None
        return decode_sandbox(heard).status

    async def observed(self, sandbox_id: str) -> wire.DriverSandbox | None:
        """Get it; None if it is gone. `UNAVAILABLE` is waited out for a while."""
        deadline = time.monotonic() + 10
        while True:
            reply = await self.get(sandbox_id)
            if reply.ok:  # an OK without a sandbox means to gateways what NOT_FOUND means
                return reply.answer.sandbox if reply.answer.HasField("sandbox") else None
            if reply.code == "NOT_FOUND":
                return None
            if reply.code == "INVALID_ARGUMENT":
                return (await self._instead(reply)).get(sandbox_id)
            if reply.code != "UNAVAILABLE" or time.monotonic() > deadline:
                raise Blocked(str(reply), "COMP-GET-01")
            await anyio.sleep(0.1)

    async def _instead(self, reply: Observed) -> dict[str, wire.DriverSandbox]:
        """What List shows, where Get refuses to answer. `Blocked` if that is no help either."""
        listed = await self.list_all()
        self.need(listed.ok, str(reply), "COMP-GET-01")
        if not self._looked_elsewhere:
            self._looked_elsewhere = True
            self.note(f"judged by ListSandboxes, since {reply}")
        return {each.id: each for each in listed.answer.sandboxes}

    async def listed(self) -> dict[str, wire.DriverSandbox]:
        """List; by id. Errors are waited out for a while: gateways just list again."""
        deadline = time.monotonic() + 10
        while True:
            reply = await self.list_all()
            if reply.ok:
                return {each.id: each for each in reply.answer.sandboxes}
            if reply.code == "UNIMPLEMENTED" or time.monotonic() > deadline:
                raise Blocked(str(reply), "COMP-LIST-01")
            await anyio.sleep(0.1)

    async def reaches(
        self, sandbox_id: str, *phases: Phase, within: float | None = None
    ) -> wire.DriverSandbox:
        """Wait until Get shows one of the phases. `Blocked` if it does not."""
        times = self.profile.compute.timeouts
        limit = within or max(times.ready, times.stopped)
        vain = (self.preset.name, phases)
        if vain in self.world.vain:
            limit = min(limit, _VAIN)
        last = "nothing"
        deadline = time.monotonic() + limit + 2
        pause = 0.005
        while (asked := time.monotonic()) < deadline:
            seen = await self.observed(sandbox_id)
            if seen is None:
                last = "no such sandbox"
            else:
                last = self.described(seen)
                if self.phase(seen) in phases:
                    self.world.vain.discard(vain)
                    return seen
            await anyio.sleep(unhurried(pause, asked))
            pause = min(pause * 1.4, 0.15)
        self.world.vain.add(vain)
        raise Blocked(
            f"the sandbox did not get {' or '.join(phases)} within {limit:g} s: Get shows {last}",
            "COMP-STAT-04",
        )

    def halted(self, sandbox: wire.DriverSandbox) -> bool:
        """Whether an observation ends a stop: not every way to say so is the phase Stopped."""
        status = self.status(sandbox)
        return status is not None and stop_confirmed(status)

    async def halts(self, sandbox_id: str) -> wire.DriverSandbox:
        """Wait until Get confirms a stop. `Blocked` if it does not."""
        vain = (self.preset.name, ("Stopped",))
        limit = self.profile.compute.timeouts.stopped
        limit = min(limit, _VAIN) if vain in self.world.vain else limit
        asked = time.monotonic()
        deadline = asked + limit
        while (seen := await self.observed(sandbox_id)) is None or not self.halted(seen):
            if time.monotonic() > deadline:
                last = "no such sandbox" if seen is None else self.described(seen)
                self.world.vain.add(vain)
                raise Blocked(
                    f"the stop was not confirmed within {limit:g} s: Get shows {last}",
                    "COMP-STAT-06",
                )
            await anyio.sleep(unhurried(0.02, asked))
            asked = time.monotonic()
        self.world.vain.discard(vain)
        return seen

    def described(self, sandbox: wire.DriverSandbox) -> str:
        """A sandbox's state in words, and the phase that the line's gateway makes of it."""
        status = sandbox.status
        conditions = [f"{c.type}={c.status}/{c.reason}" for c in status.conditions]
        words = [*conditions, *(["deleting"] if status.deleting else [])]
        shown = ", ".join(words) or "no conditions"
        return f"{shown}, which a gateway reads as {self.phase(sandbox)}"

    async def gone(self, sandbox_id: str, within: float | None = None) -> None:
        """Wait until Get says NOT_FOUND. `Blocked` if it does not."""
        limit = within or self.profile.compute.timeouts.gone
        deadline = time.monotonic() + limit
        pause = 0.005
        asked = time.monotonic()
        while await self.observed(sandbox_id) is not None:
            if time.monotonic() > deadline:
                raise Blocked(f"the sandbox was not gone within {limit:g} s", "COMP-DEL-01")
            await anyio.sleep(unhurried(pause, asked))
            asked = time.monotonic()
            pause = min(pause * 1.4, 0.15)

    @asynccontextmanager
    async def watching(
        self, *, reopen: bool = True, caller: Caller | None = None
    ) -> AsyncIterator[WatchLog]:
        """Keep a watch open, as a gateway does; what it says is in the log."""
        log = WatchLog(caller or self.caller, reopen=reopen, mine=self._made.__contains__)
        task = asyncio.create_task(log.run())
        late = (self.instance, "headers of a watch come late")
        try:
            if not await log.open(patience=_LATE if late in self.world.facts else HEADERS):
                self.world.facts[late] = True
            yield log
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def watch_until(
        self,
        log: WatchLog,
        sandbox_id: str,
        holds: Callable[[wire.DriverSandbox], bool],
        within: float,
        expected: str,
    ) -> float:
        """Wait until the newest event of a sandbox is as wished; fail if it does not get so."""

        def newest() -> bool:
            last = log.last(sandbox_id)
            return last is not None and holds(last)

        return await log.until(newest, within, expected, lambda: log.described(sandbox_id))

    @asynccontextmanager
    async def gateway(self, **options: Any) -> AsyncIterator[Gateway]:
        """The model of the line's gateway at this driver; `clean` deletes what it made.

        Raises `openshell_drivers.testing.gateway.GatewayRefused` if it would not start.
        """
        async with Gateway(self.instance.socket, preset=self.preset, **options) as gateway:
            try:
                yield gateway
            finally:
                asked = [each for each in gateway.records if each.spec is not None]
                for record in asked:  # the fork adopts what belongs to others
                    self.remember(
                        wire.DriverSandbox(
                            id=record.id, name=record.name, workspace=record.workspace
                        )
                    )

    # After the check

    def words(self) -> list[str]:
        """The ids and names of its sandboxes."""
        made = self._made.values()
        return [word for each in made for word in (each.id, each.name) if word]

    async def clean(self) -> list[Leak]:
        """Delete all that was created, until it is seen gone."""
        if not self._made:
            return []
        leaks: list[Leak] = []
        await self.reconnect()

        gate = asyncio.Semaphore(_DELETING)

        async def remove(sandbox: wire.DriverSandbox) -> None:
            async with gate:
                removed = not self._mute and await self._removed(sandbox)
            if removed:
                self.world.ledger.write("gone", id=sandbox.id)
            else:
                name = f"{sandbox.name} ({sandbox.id})"
                leaks.append(Leak(kind="sandbox", name=name, attributed=self.check.id))

        async with anyio.create_task_group() as tasks:
            for sandbox in self._made.values():
                tasks.start_soon(remove, sandbox)
        return leaks

    async def _removed(self, sandbox: wire.DriverSandbox) -> bool:
        deadline = time.monotonic() + self.profile.compute.timeouts.gone
        pause = 0.01
        who = (sandbox.id, sandbox.name)
        while (asked := time.monotonic()) < deadline:
            reply = await self.delete(*who)
            if reply.code == "INVALID_ARGUMENT":  # by one of the two, then
                for who in ((sandbox.id, ""), ("", sandbox.name), (sandbox.id, sandbox.name)):
                    reply = await self.delete(*who)
                    if reply.ok:
                        break
            if reply.ok and not reply.answer.deleted:
                return True
            if reply.code == SILENT:  # it hangs: do not wait again for each of the others
                self._mute = True
                return False
            seen = await self.get(*who)
            if seen.code in {"NOT_FOUND", "INVALID_ARGUMENT"} or (
                seen.ok and not seen.answer.HasField("sandbox")
            ):
                return True
            await anyio.sleep(unhurried(pause, asked))
            pause = min(pause * 1.6, 0.5)
        return False
