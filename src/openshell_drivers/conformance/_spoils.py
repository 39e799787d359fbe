"""`Spoil`: one way in which a driver's answers can be wrong, for whatever driver is behind.

A suite that still passes a check when the answers that it rests on are spoilt has not looked.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Final, TypeAlias

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from openshell_drivers._services.names import COMPUTE, CREDENTIAL_STORE, CREDENTIALS
from openshell_drivers._wire import compute_driver_pb2 as compute
from openshell_drivers._wire import credential_driver_pb2 as store
from openshell_drivers._wire import credentials_driver_pb2 as credentials

Forward: TypeAlias = Callable[[bytes], Awaitable[bytes]]
_MODULES: Final = {COMPUTE: compute, CREDENTIAL_STORE: store, CREDENTIALS: credentials}
_SLOW: Final = 2.5
_LATE: Final = 2.5


class Spoilt(Exception):
    """A call ends with this status."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(code)
        self.code = code
        self.text = text


def answer_type(path: str) -> type[Message] | None:
    """The answer of a method by its path; None for one that nobody knows."""
    service, _, method = path.strip("/").partition("/")
    if service == CREDENTIAL_STORE and method == "GetCapabilities":
        method = "GetCredentialDriverCapabilities"
    name = "WatchSandboxesEvent" if method == "WatchSandboxes" else f"{method}Response"
    found: type[Message] | None = getattr(_MODULES.get(service), name, None)
    return found


class Spoil:
    """Changes nothing; subclasses do, for one method."""

    headers = True
    """Whether a stream's headers are passed on at once."""

    def __init__(self, method: str) -> None:
        self.method = method

    @property
    def name(self) -> str:
        """A name that says it all."""
        return f"{type(self).__name__}({self.method})"

    def _mine(self, path: str) -> bool:
        return path.rpartition("/")[2] == self.method

    async def unary(self, path: str, data: bytes, forward: Forward) -> bytes:
        """Answer a call."""
        return await (self._spoil(path, data, forward) if self._mine(path) else forward(data))

    async def _spoil(self, path: str, data: bytes, forward: Forward) -> bytes:
        return await forward(data)

    async def stream(self, path: str, source: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        """Give the events of a stream."""
        async for event in source:
            if not event:
                continue
            for changed in self._events(event):
                yield changed

    def _events(self, event: bytes) -> Iterator[bytes]:
        yield event


class Fails(Spoil):
    """Answers INTERNAL where the driver answers OK."""

    async def _spoil(self, path: str, data: bytes, forward: Forward) -> bytes:
        await forward(data)
        raise Spoilt("INTERNAL", "spoilt")


class Forgives(Spoil):
    """Answers OK and nothing where the driver answers an error."""

    async def _spoil(self, path: str, data: bytes, forward: Forward) -> bytes:
        try:
            return await forward(data)
        except Spoilt:
            return b""


class Confuses(Spoil):
    """Answers another error than the driver does."""

    async def _spoil(self, path: str, data: bytes, forward: Forward) -> bytes:
        try:
            return await forward(data)
        except Spoilt as status:
            raise Spoilt("DATA_LOSS", status.text) from None


class Empties(Spoil):
    """Answers OK with an empty message."""

    async def _spoil(self, path: str, data: bytes, forward: Forward) -> bytes:
        await forward(data)
        return b""


class Swallows(Spoil):
    """Answers OK and does nothing."""

    async def _spoil(self, path: str, data: bytes, forward: Forward) -> bytes:
        answer = answer_type(path)
        message = None if answer is None else answer()
        if message is not None and "deleted" in message.DESCRIPTOR.fields_by_name:
            setattr(message, "deleted", True)  # noqa: B010  # by what it has
        return b"" if message is None else message.SerializeToString()


class Repeats(Spoil):
    """Does everything twice, and gives the second answer."""

    async def _spoil(self, path: str, data: bytes, forward: Forward) -> bytes:
        await forward(data)
        return await forward(data)


class Dawdles(Spoil):
    """Answers late."""

    async def _spoil(self, path: str, data: bytes, forward: Forward) -> bytes:
        answer = await forward(data)
        await asyncio.sleep(_SLOW)
        return answer


class _Rewrites(Spoil):
    """Changes the answer, or every event."""

    async def _spoil(self, path: str, data: bytes, forward: Forward) -> bytes:
        return self._rewritten(path, await forward(data))

    async def stream(self, path: str, source: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        async for event in source:
            if event:
                yield self._rewritten(path, event)

    def _rewritten(self, path: str, data: bytes) -> bytes:
        answer = answer_type(path)
        if answer is None:
            return data
        try:
            message = answer.FromString(data)
        except DecodeError:
            return data
        self._change(message)
        return message.SerializeToString()

    def _change(self, message: Message) -> None:
        for field, value in message.ListFields():
            if field.message_type is not None and not field.message_type.GetOptions().map_entry:
                for inner in value if field.is_repeated else (value,):
                    self._change(inner)
            self._touch(message, field, value)

    def _touch(self, message: Message, field: FieldDescriptor, value: Any) -> None:
        """Change one field that is set."""


class Garbles(_Rewrites):
    """Changes every text."""

    def _touch(self, message: Message, field: FieldDescriptor, value: Any) -> None:
        if field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated:
            setattr(message, field.name, value + "x")


class Unstable(_Rewrites):
    """Changes every text to a new one each time."""

    def __init__(self, method: str) -> None:
        super().__init__(method)
        self._count = 0

    def _touch(self, message: Message, field: FieldDescriptor, value: Any) -> None:
        if field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated:
            self._count += 1
            setattr(message, field.name, f"{value}{self._count}")


class Flips(_Rewrites):
    """Drops every boolean that is true, and every number."""

    def _touch(self, message: Message, field: FieldDescriptor, value: Any) -> None:
        plain = not field.is_repeated and field.type not in {
            FieldDescriptor.TYPE_MESSAGE,
            FieldDescriptor.TYPE_STRING,
            FieldDescriptor.TYPE_BYTES,
        }
        if plain:
            message.ClearField(field.name)


class Doubles(_Rewrites):
    """Says everything repeated twice."""

    def _touch(self, message: Message, field: FieldDescriptor, value: Any) -> None:
        if field.is_repeated and not (
            field.message_type and field.message_type.GetOptions().map_entry
        ):
            getattr(message, field.name).extend(list(value))


class Drops(_Rewrites):
    """Leaves out everything repeated."""

    def _touch(self, message: Message, field: FieldDescriptor, value: Any) -> None:
        if field.is_repeated:
            message.ClearField(field.name)


class Condemns(_Rewrites):
    """Gives every condition that is not true a reason that means Error."""

    def _touch(self, message: Message, field: FieldDescriptor, value: Any) -> None:
        if isinstance(message, compute.DriverCondition) and message.type == "Ready":
            message.status, message.reason = "False", "Spoilt"


class Revives(_Rewrites):
    """Calls everything ready."""

    def _touch(self, message: Message, field: FieldDescriptor, value: Any) -> None:
        if isinstance(message, compute.DriverSandboxStatus):
            message.deleting = False
            del message.conditions[:]
            message.conditions.add(type="Ready", status="True", reason="Spoilt")


class Blabs(_Rewrites):
    """Sends the spec along."""

    def _touch(self, message: Message, field: FieldDescriptor, value: Any) -> None:
        if isinstance(message, compute.DriverSandbox) and field.name == "id":
            message.spec.environment["SPOILT"] = "1"


class Hides(Spoil):
    """Leaves out one kind of event."""

    def __init__(self, kind: str) -> None:
        super().__init__("WatchSandboxes")
        self._kind = kind

    @property
    def name(self) -> str:
        """A name that says it all."""
        return f"Hides({self._kind})"

    def _events(self, event: bytes) -> Iterator[bytes]:
        if compute.WatchSandboxesEvent.FromString(event).WhichOneof("payload") != self._kind:
            yield event


class Echoes(Spoil):
    """Says every event twice."""

    def __init__(self) -> None:
        super().__init__("WatchSandboxes")

    def _events(self, event: bytes) -> Iterator[bytes]:
        yield event
        yield event


class Haunts(Spoil):
    """Says what it last said of a sandbox once more after its deletion."""

    def __init__(self) -> None:
        super().__init__("WatchSandboxes")
        self._last: dict[str, bytes] = {}

    def _events(self, event: bytes) -> Iterator[bytes]:
        message = compute.WatchSandboxesEvent.FromString(event)
        yield event
        if message.WhichOneof("payload") == "sandbox":
            self._last[message.sandbox.sandbox.id] = event
        elif message.WhichOneof("payload") == "deleted":
            yield self._last.get(message.deleted.sandbox_id, b"")


class Invents(Spoil):
    """Calls everything deleted as soon as it is seen."""

    def __init__(self) -> None:
        super().__init__("WatchSandboxes")

    def _events(self, event: bytes) -> Iterator[bytes]:
        message = compute.WatchSandboxesEvent.FromString(event)
        yield event
        if message.WhichOneof("payload") == "sandbox":
            gone = compute.WatchSandboxesEvent()
            gone.deleted.sandbox_id = message.sandbox.sandbox.id
            yield gone.SerializeToString()


class Ends(Spoil):
    """Ends the stream with OK after its first event, or at once."""

    def __init__(self) -> None:
        super().__init__("WatchSandboxes")

    async def stream(self, path: str, source: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        for event in list[bytes]():
            yield event


class Late(Spoil):
    """Sends headers and events late."""

    headers = False

    def __init__(self) -> None:
        super().__init__("WatchSandboxes")

    async def stream(self, path: str, source: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        await asyncio.sleep(_LATE)
        async for event in source:
            yield event


_UNARY: Final = (
    *(Fails, Forgives, Confuses, Empties, Garbles, Flips, Unstable, Doubles, Drops),
    *(Swallows, Repeats, Condemns, Revives, Blabs, Dawdles),
)
_STREAM: Final[tuple[Callable[[], Spoil], ...]] = (
    lambda: Hides("sandbox"),
    lambda: Hides("deleted"),
    lambda: Hides("platform_event"),
    Echoes,
    Haunts,
    Invents,
    Ends,
    Late,
    lambda: Garbles("WatchSandboxes"),
    lambda: Flips("WatchSandboxes"),
    lambda: Condemns("WatchSandboxes"),
    lambda: Revives("WatchSandboxes"),
    lambda: Blabs("WatchSandboxes"),
    lambda: Drops("WatchSandboxes"),
    lambda: Doubles("WatchSandboxes"),
)


def spoils(methods: list[str]) -> Iterator[Spoil]:
    """All ways to spoil these methods, the quick ones first."""
    for kind in _UNARY:
        for method in methods:
            if method != "WatchSandboxes":
                yield kind(method)
    if "WatchSandboxes" in methods:
        for make in _STREAM:
            yield make()


def named(name: str) -> Spoil | None:
    """A spoil by its name; None if there is none of that name (any more)."""
    method = name.rstrip(")").partition("(")[2]
    candidates = spoils([method, "WatchSandboxes"])
    return next((spoil for spoil in candidates if spoil.name == name), None)
