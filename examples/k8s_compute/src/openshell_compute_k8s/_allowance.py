"""`Allowance`: which namespaces an operator lets a gateway use."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from openshell_compute_k8s._namespaces import Namespaces
from openshell_compute_k8s.config import KubernetesConfig
from openshell_drivers import FailedPrecondition
from openshell_drivers.naming import label_value

_ALLOWING: Final = frozenset({"true"})
_LONGEST_LIST: Final = 2**20
_log: Final = logging.getLogger("openshell_compute_k8s")


class Allowance:
    """What the configuration, a file, or a namespace's own label allows."""

    def __init__(self, config: KubernetesConfig, namespaces: Namespaces) -> None:
        self._rules = config.workspaces
        self._allowing = {*_ALLOWING, label_value(config.gateway_id)}
        self._namespaces = namespaces

    async def require(self, name: str) -> None:
        """Raise `FailedPrecondition` for a namespace that is not allowed, and `PermissionDenied`
        if its label decides and may not be read."""
        if name in self._rules.allow or name in self._in_file() or await self._is_labelled(name):
            return
        raise FailedPrecondition(f"namespace {name} is not allowed for sandboxes")

    def _in_file(self) -> frozenset[str]:
        """Read who is allowed, anew each time: the file is small. Unreadable, it allows nobody."""
        path = self._rules.allow_file
        if path is None:
            return frozenset()
        try:
            return _lines(path)
        except (OSError, ValueError):
            _log.warning("the list of namespaces cannot be read; it allows none")
            return frozenset()

    async def _is_labelled(self, name: str) -> bool:
        key = self._rules.allow_label
        if key is None:
            return False
        found = await self._namespaces.read(name)
        return found is not None and found.labels.get(key) in self._allowing


def _lines(path: Path) -> frozenset[str]:
    with path.open("rb") as file:
        text = file.read(_LONGEST_LIST + 1)
    if len(text) > _LONGEST_LIST:
        raise ValueError("too long")
    lines = (line.partition("#")[0].strip() for line in text.decode().splitlines())
    return frozenset(line for line in lines if line)
