"""An executable model of what the gateways do with a compute or credentials driver.

It dials, shakes hands, creates, watches, sweeps and deletes by the rules of one line (`PRESETS`),
and says what that gateway's user would see. It knows nothing of the SDK's own server.
"""

from __future__ import annotations

from openshell_drivers.testing.gateway._admission import GatewayAdmission as GatewayAdmission
from openshell_drivers.testing.gateway._core import GatewayOptions as GatewayOptions
from openshell_drivers.testing.gateway._errors import GatewayRefused as GatewayRefused
from openshell_drivers.testing.gateway._errors import NotReached as NotReached
from openshell_drivers.testing.gateway._errors import UserError as UserError
from openshell_drivers.testing.gateway._gateway import Gateway as Gateway
from openshell_drivers.testing.gateway._journal import Entry as Entry
from openshell_drivers.testing.gateway._journal import Progress as Progress
from openshell_drivers.testing.gateway._named import CredentialsGateway as CredentialsGateway
from openshell_drivers.testing.gateway._phases import Phase as Phase
from openshell_drivers.testing.gateway._phases import derive_phase as derive_phase
from openshell_drivers.testing.gateway._preset import PRESETS as PRESETS
from openshell_drivers.testing.gateway._preset import Preset as Preset
from openshell_drivers.testing.gateway._providers import (
    CredentialStoreGateway as CredentialStoreGateway,
)
from openshell_drivers.testing.gateway._providers import Provider as Provider
from openshell_drivers.testing.gateway._providers import refresh_key as refresh_key
from openshell_drivers.testing.gateway._table import Record as Record

__all__ = [
    "PRESETS",
    "CredentialStoreGateway",
    "CredentialsGateway",
    "Entry",
    "Gateway",
    "GatewayAdmission",
    "GatewayOptions",
    "GatewayRefused",
    "NotReached",
    "Phase",
    "Preset",
    "Progress",
    "Provider",
    "Record",
    "UserError",
    "derive_phase",
    "refresh_key",
]
