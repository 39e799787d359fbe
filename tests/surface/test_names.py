"""The public names: pinned, so that none comes or goes unnoticed, and each documented."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Final

import pytest

import openshell_drivers

ROOT: Final = Path(__file__).resolve().parents[2]
SOURCE: Final = Path(openshell_drivers.__file__).parent

MODULES: Final = {
    *(
        "backoff",
        "cli",
        "client",
        "compute",
        "config",
        "conformance",
        "credential_store",
        "credentials",
    ),
    *("driver", "environment", "errors", "feed", "launch", "naming", "quantities", "reference"),
    *("registry", "secrets", "server", "settings", "testing", "token_file", "tokens"),
}
NAMES: Final = {
    "openshell_drivers": {
        *("Aborted", "AdmissionPolicy", "AlreadyExists", "AuthenticatedSandbox", "Backoff"),
        *("ComputeDriver", "ConfigError", "CreateScope", "Credential", "CredentialInfo"),
        *("CredentialRef", "CredentialSlot", "CredentialStore", "CredentialsDriver", "DataLoss"),
        *("DeadlineExceeded", "Driver", "DriverConfig", "DriverError", "FailedPrecondition"),
        *("Internal", "InvalidArgument", "ListedCredential", "NotFound", "ObservedSandbox"),
        *("PermissionDenied", "PlatformEvent", "ProvisioningFailed", "ResourceExhausted"),
        *("SandboxFeed", "SandboxRef", "SandboxSpec", "SandboxState", "Secret", "SocketError"),
        *("StartRequest", "StoreCapabilities", "StoredCredential", "Support", "Unauthenticated"),
        *("Unavailable", "Unimplemented", "parse_config"),
    },
    "openshell_drivers.server": {
        *("Running", "ServerOptions", "SocketPolicy", "run", "running", "serve"),
    },
    "openshell_drivers.client": {
        *("BlockingConnection", "ComputeClient", "Connection", "CredentialStoreClient"),
        *("CredentialsClient", "StoredRef", "connect", "connect_blocking"),
    },
    "openshell_drivers.conformance": {"Profile"},
    "openshell_drivers.registry": {
        *("DRIVER_GROUP", "PLUGIN_GROUP", "Offer", "find", "hookimpl", "offers"),
    },
    "openshell_drivers.testing.gateway": {
        *("CredentialStoreGateway", "CredentialsGateway", "Entry", "Gateway", "GatewayAdmission"),
        *("GatewayOptions", "GatewayRefused", "NotReached", "PRESETS", "Phase", "Preset"),
        *("Progress", "Provider", "Record", "UserError", "derive_phase", "refresh_key"),
    },
    "openshell_drivers.tokens": {"FetchedToken", "TokenCache", "TokenPolicy", "parse_lifetime"},
}
CONSTANTS: Final = {"DRIVER_GROUP", "PLUGIN_GROUP", "PRESETS", "Phase", "hookimpl"}
EXPORTED: Final = [(module, name) for module, names in NAMES.items() for name in sorted(names)]


def test_the_public_modules_are_these() -> None:
    found = {module.name for module in pkgutil.iter_modules(openshell_drivers.__path__)}

    assert {name for name in found if not name.startswith("_")} == MODULES


@pytest.mark.parametrize("module", NAMES)
def test_the_public_names_are_these_in_order(module: str) -> None:
    names = importlib.import_module(module).__all__

    assert set(names) == NAMES[module]
    assert len(set(names)) == len(names)


def test_what_the_package_has_without_an_underscore_is_public_or_a_module() -> None:
    # "@": what pytest adds to the modules of a distribution that has a plugin
    public = {name for name in vars(openshell_drivers) if not name.startswith(("_", "@"))}

    assert public - NAMES["openshell_drivers"] - MODULES <= {
        "annotations",
        "TYPE_CHECKING",
        "Any",
        "Final",
    }


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'openshell_drivers' has no attribute 'Compute'"):
        getattr(openshell_drivers, "Compute")  # noqa: B009  # as an author would write it


def documented(thing: object, name: str) -> Iterator[str]:
    """The public parts of a class or function that have no words of their own."""
    if not inspect.isclass(thing):
        if not inspect.getdoc(thing):
            yield name
        return
    text = vars(thing).get("__doc__") or ""
    if not text or text.startswith(f"{thing.__name__}("):  # what dataclass() writes
        yield name
    for each, member in vars(thing).items():
        inner = getattr(member, "__func__", getattr(member, "fget", member))
        if not each.startswith("_") and isinstance(inner, FunctionType) and not inner.__doc__:
            yield f"{name}.{each}"


@pytest.mark.parametrize(
    ("module", "name"), [pair for pair in EXPORTED if pair[1] not in CONSTANTS]
)
def test_every_public_name_and_method_is_documented(module: str, name: str) -> None:
    assert list(documented(getattr(importlib.import_module(module), name), name)) == []


@pytest.mark.parametrize("module", sorted(MODULES))
def test_every_public_module_says_what_it_is(module: str) -> None:
    text = importlib.import_module(f"openshell_drivers.{module}").__doc__ or ""

    assert text.split("\n")[0].endswith((".", ":", "?")) or "\n" in text


def imported(path: Path) -> Iterator[tuple[str, str]]:
    """What a file imports of the package: module and name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("openshell_drivers"):
            yield from ((node.module or "", alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            yield from ((name, "") for name in names if name.startswith("openshell_drivers"))


def is_public(module: str, name: str) -> bool:
    inner = module.removeprefix("openshell_drivers").removeprefix(".")
    if inner and inner not in MODULES and module not in NAMES:
        return False
    names = NAMES.get(module)
    return not name.startswith("_") and (names is None or name in names | MODULES | {""})


@pytest.mark.parametrize(
    "path", sorted((ROOT / "examples").rglob("*.py")), ids=lambda path: path.name
)
def test_an_example_imports_public_names_only(path: Path) -> None:
    assert [found for found in imported(path) if not is_public(*found)] == []


def test_private_names_would_be_noticed(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_text(
        "import openshell_drivers._logs\n"
        "from openshell_drivers import _rpc, Driver\n"
        "from openshell_drivers._wire import health_pb2\n"
        "from openshell_drivers.server import services_of, run\n"
    )

    assert [found for found in imported(path) if not is_public(*found)] == [
        ("openshell_drivers._logs", ""),
        ("openshell_drivers", "_rpc"),
        ("openshell_drivers._wire", "health_pb2"),
        ("openshell_drivers.server", "services_of"),
    ]


def reads_environment(tree: ast.AST) -> bool:
    wanted = {"environ", "environb", "getenv", "getenvb"}
    return any(
        (isinstance(node, ast.Attribute) and node.attr in wanted)
        or (isinstance(node, ast.ImportFrom) and wanted & {alias.name for alias in node.names})
        for node in ast.walk(tree)
    )


def test_only_the_settings_read_the_environment() -> None:
    readers = {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        if reads_environment(ast.parse(path.read_text()))
    }

    assert readers == {"settings.py", "_dialled.py"}  # the second for the socket to dial
