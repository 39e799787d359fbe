"""`Site`: a folder of installed packages, made as an installer would leave them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

#: A driver that says on import that it was imported.
DRIVER: Final = """\
import builtins
from openshell_drivers import Credential, CredentialRef, CredentialsDriver, NotFound

builtins.imported = [*getattr(builtins, "imported", []), __name__]


class Empty(CredentialsDriver):
    name = {name!r}

    async def resolve_credential(self, ref: CredentialRef) -> Credential:
        raise NotFound("nothing here")

    async def list_credentials(self):
        return []
"""

#: A plugin module that offers what it is told to, and says on import that it was imported.
PLUGIN: Final = """\
import builtins
from openshell_drivers.registry import hookimpl

builtins.imported = [*getattr(builtins, "imported", []), __name__]


@hookimpl
def openshell_drivers_offer():
    return {offer!r}
"""


class Site:
    """Put it on ``sys.path`` and what is installed in it is found."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def module(self, name: str, code: str) -> None:
        """Add a module that belongs to no distribution."""
        (self.folder / f"{name}.py").write_text(code)

    def install(
        self,
        distribution: str,
        modules: Mapping[str, str] | None = None,
        *,
        drivers: Mapping[str, str] | None = None,
        plugins: Mapping[str, str] | None = None,
    ) -> None:
        """Add a distribution with its modules and entry points."""
        for name, code in (modules or {}).items():
            self.module(name, code)
        groups = {"openshell_drivers": drivers, "openshell_drivers_plugins": plugins}
        lines = []
        for group, entries in groups.items():
            lines += [f"[{group}]", *(f"{key} = {value}" for key, value in (entries or {}).items())]
        info = self.folder / f"{distribution.replace('-', '_')}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n"
        )
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
