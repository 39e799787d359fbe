"""`Namespaces`: what is read of namespaces, whosever they are."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from openshell_compute_k8s._api import Api
from openshell_compute_k8s._failures import ApiRefusal, answer
from openshell_compute_k8s._objects import Metadata, Object
from openshell_compute_k8s._urls import namespace

_FRESH: Final = 60.0
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


class Namespaces:
    """The namespaces of one cluster."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._notes: dict[str, tuple[float, Mapping[str, str]]] = {}

    async def read(self, name: str) -> Metadata | None:
        """Read a namespace's metadata; None if there is none. Raises `PermissionDenied` if it may
        not be read, and as `Api.get`."""
        try:
            return (await self._api.get(namespace(name), Object)).metadata
        except ApiRefusal as refusal:
            if refusal.code == 404:
                return None
            raise answer(refusal, "read the workspace's namespace") from None

    async def annotations(self, name: str) -> Mapping[str, str]:
        """Give a namespace's annotations, at most a minute old; none if it may not be read."""
        until, known = self._notes.get(name, (0.0, _NOTHING))
        if time.monotonic() < until:
            return known
        try:
            known = (await self._api.get(namespace(name), Object)).metadata.annotations
        except ApiRefusal as refusal:
            if refusal.code not in {403, 404}:
                raise answer(refusal, "read the namespace") from None
            known = _NOTHING
        self._notes[name] = (time.monotonic() + _FRESH, known)
        return known

    def forget(self, name: str) -> None:
        """Take that a namespace is not as it was read."""
        self._notes.pop(name, None)
