"""The profile of a target: the user's file, or what the driver's own package offers."""

from __future__ import annotations

from importlib import metadata

from openshell_drivers._faults import describe
from openshell_drivers.conformance._profile import PROFILE_GROUP, Profile, read_profile
from openshell_drivers.conformance._request import Request
from openshell_drivers.errors import ConfigError


def profile_for(request: Request) -> tuple[Profile, str]:
    """Find the profile, and say where it comes from. Raises `ConfigError`."""
    if request.profile is not None:
        return read_profile(request.profile), str(request.profile)
    if request.target.kind == "driver":
        for entry in metadata.entry_points(group=PROFILE_GROUP, name=request.target.name):
            return _offered(entry), f"offered by {entry.value}"
    return Profile(), "defaults"


def _offered(entry: metadata.EntryPoint) -> Profile:
    try:
        found = entry.load()
        found = found() if callable(found) and not isinstance(found, Profile) else found
    except Exception as error:  # noqa: BLE001  # a package may do anything
        raise ConfigError(
            f"the conformance profile {entry.value!r} cannot be loaded: {describe(error)}"
        ) from None
    if not isinstance(found, Profile):
        raise ConfigError(f"{entry.value!r} is no conformance Profile")
    return found
