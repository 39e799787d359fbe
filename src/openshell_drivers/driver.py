"""`Driver`: what every driver has, whatever it serves: a name, a version, a config, a life.

Knows nothing of sockets, gRPC or protobuf; importing it imports none of them, nor pydantic.
"""

from __future__ import annotations

import re
from abc import ABC
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Final, Generic, get_args, get_origin

from typing_extensions import TypeVar

from openshell_drivers._faults import WrongType

ConfigT = TypeVar("ConfigT", default=None)

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")


class Driver(ABC, Generic[ConfigT]):
    """The root of all drivers. Subclass one or more of the services, not this.

    A driver that needs configuration names its model in brackets, and finds it validated in
    ``self.config``::

        class Vault(CredentialsDriver[VaultConfig]): ...

    The constructor only stores. I/O begins in `lifespan`.
    """

    name: ClassVar[str] = ""
    """The driver's name, as operators know it: letters, digits, ``-`` and ``_``, at most 63."""

    version: ClassVar[str] = ""
    """The driver's version; by default that of the distribution the class comes from."""

    config_model: ClassVar[type[Any] | None] = None
    """The pydantic model of the configuration, taken from the brackets; None if there is none."""

    config: ConfigT

    def __init__(self, config: ConfigT = None) -> None:  # type: ignore[assignment]  # PEP 696 default
        if config is None and self.config_model is not None:
            raise WrongType(f"{type(self).__name__} needs a {self.config_model.__name__}")
        self.config = config

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.name and not _NAME.fullmatch(cls.name):
            raise WrongType(f"{cls.__qualname__}.name must match {_NAME.pattern}")
        for model in _config_arguments(cls):
            cls.config_model = model

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Open what the driver needs, yield while it serves, close it.

        Entered before the socket exists and left after the last call has ended. Entering is
        limited in time by the server. Background work belongs in a task group opened here: if it
        fails, the process ends with the reason instead of serving on without it.

        Must not need the backend to be up: a gateway waits only 10 s for the socket
        (COMP-SOCK-03), and an unreachable backend is each call's own `Unavailable`.
        """
        yield

    async def reload(self, config: ConfigT) -> None:
        """Take a new configuration while serving, on SIGHUP.

        Called with a configuration that has been validated. Raising keeps the old one. The
        default refuses, since the SDK cannot know what depends on the old values.
        """
        from openshell_drivers.errors import Unimplemented

        raise Unimplemented("this driver takes a new configuration only at start")


def _config_arguments(cls: type) -> Iterator[type]:
    for base in vars(cls).get("__orig_bases__", ()):  # its own brackets, not an inherited pair
        origin = get_origin(base)
        if isinstance(origin, type) and issubclass(origin, Driver):
            for argument in get_args(base)[:1]:
                if isinstance(argument, type) and argument is not type(None):
                    yield argument
