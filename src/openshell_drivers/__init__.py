"""Write OpenShell drivers: subclass, run, and every gateway line can use it.

The names here are for the author of a driver. Importing them imports neither gRPC nor pydantic;
`openshell_drivers.server`, `.client`, `.tokens` and `.registry` are for those who run or call one.
"""

from __future__ import annotations

from importlib import import_module as _import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from openshell_drivers.backoff import Backoff as Backoff
    from openshell_drivers.compute import AdmissionPolicy as AdmissionPolicy
    from openshell_drivers.compute import AuthenticatedSandbox as AuthenticatedSandbox
    from openshell_drivers.compute import ComputeDriver as ComputeDriver
    from openshell_drivers.compute import CreateScope as CreateScope
    from openshell_drivers.compute import ObservedSandbox as ObservedSandbox
    from openshell_drivers.compute import PlatformEvent as PlatformEvent
    from openshell_drivers.compute import ProvisioningFailed as ProvisioningFailed
    from openshell_drivers.compute import SandboxFeed as SandboxFeed
    from openshell_drivers.compute import SandboxRef as SandboxRef
    from openshell_drivers.compute import SandboxSpec as SandboxSpec
    from openshell_drivers.compute import SandboxState as SandboxState
    from openshell_drivers.compute import StartRequest as StartRequest
    from openshell_drivers.compute import Support as Support
    from openshell_drivers.compute import parse_config as parse_config
    from openshell_drivers.config import DriverConfig as DriverConfig
    from openshell_drivers.credential_store import CredentialSlot as CredentialSlot
    from openshell_drivers.credential_store import CredentialStore as CredentialStore
    from openshell_drivers.credential_store import ListedCredential as ListedCredential
    from openshell_drivers.credential_store import StoreCapabilities as StoreCapabilities
    from openshell_drivers.credential_store import StoredCredential as StoredCredential
    from openshell_drivers.credentials import Credential as Credential
    from openshell_drivers.credentials import CredentialInfo as CredentialInfo
    from openshell_drivers.credentials import CredentialRef as CredentialRef
    from openshell_drivers.credentials import CredentialsDriver as CredentialsDriver
    from openshell_drivers.driver import Driver as Driver
    from openshell_drivers.errors import Aborted as Aborted
    from openshell_drivers.errors import AlreadyExists as AlreadyExists
    from openshell_drivers.errors import ConfigError as ConfigError
    from openshell_drivers.errors import DataLoss as DataLoss
    from openshell_drivers.errors import DeadlineExceeded as DeadlineExceeded
    from openshell_drivers.errors import DriverError as DriverError
    from openshell_drivers.errors import FailedPrecondition as FailedPrecondition
    from openshell_drivers.errors import Internal as Internal
    from openshell_drivers.errors import InvalidArgument as InvalidArgument
    from openshell_drivers.errors import NotFound as NotFound
    from openshell_drivers.errors import PermissionDenied as PermissionDenied
    from openshell_drivers.errors import ResourceExhausted as ResourceExhausted
    from openshell_drivers.errors import SocketError as SocketError
    from openshell_drivers.errors import Unauthenticated as Unauthenticated
    from openshell_drivers.errors import Unavailable as Unavailable
    from openshell_drivers.errors import Unimplemented as Unimplemented
    from openshell_drivers.secrets import Secret as Secret

__all__ = [
    "Aborted",
    "AdmissionPolicy",
    "AlreadyExists",
    "AuthenticatedSandbox",
    "Backoff",
    "ComputeDriver",
    "ConfigError",
    "CreateScope",
    "Credential",
    "CredentialInfo",
    "CredentialRef",
    "CredentialSlot",
    "CredentialStore",
    "CredentialsDriver",
    "DataLoss",
    "DeadlineExceeded",
    "Driver",
    "DriverConfig",
    "DriverError",
    "FailedPrecondition",
    "Internal",
    "InvalidArgument",
    "ListedCredential",
    "NotFound",
    "ObservedSandbox",
    "PermissionDenied",
    "PlatformEvent",
    "ProvisioningFailed",
    "ResourceExhausted",
    "SandboxFeed",
    "SandboxRef",
    "SandboxSpec",
    "SandboxState",
    "Secret",
    "SocketError",
    "StartRequest",
    "StoreCapabilities",
    "StoredCredential",
    "Support",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "parse_config",
]


#: Where each name comes from. Imported when it is asked for: the pytest plugin, for one, is in this
#: package, and costs who does not use it nothing.
_HOMES: Final = {
    "backoff": ("Backoff",),
    "compute": (
        "AdmissionPolicy",
        "AuthenticatedSandbox",
        "ComputeDriver",
        "CreateScope",
        "ObservedSandbox",
        "PlatformEvent",
        "ProvisioningFailed",
        "SandboxFeed",
        "SandboxRef",
        "SandboxSpec",
        "SandboxState",
        "StartRequest",
        "Support",
        "parse_config",
    ),
    "config": ("DriverConfig",),
    "credential_store": (
        "CredentialSlot",
        "CredentialStore",
        "ListedCredential",
        "StoreCapabilities",
        "StoredCredential",
    ),
    "credentials": (
        "Credential",
        "CredentialInfo",
        "CredentialRef",
        "CredentialsDriver",
    ),
    "driver": ("Driver",),
    "errors": (
        "Aborted",
        "AlreadyExists",
        "ConfigError",
        "DataLoss",
        "DeadlineExceeded",
        "DriverError",
        "FailedPrecondition",
        "Internal",
        "InvalidArgument",
        "NotFound",
        "PermissionDenied",
        "ResourceExhausted",
        "SocketError",
        "Unauthenticated",
        "Unavailable",
        "Unimplemented",
    ),
    "secrets": ("Secret",),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            value = getattr(_import_module(f"openshell_drivers.{home}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
