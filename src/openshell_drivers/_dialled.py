"""Which socket to dial, when nobody says: that of the driver in the same container."""

from __future__ import annotations

import os

from openshell_drivers.errors import ConfigError

SOCKET = "OPENSHELL_DRIVER_SOCKET"
CREDENTIALS_SOCKET = "OPENSHELL_CREDENTIALS_DRIVER_SOCKET"
STORE_SOCKET = "OPENSHELL_CREDENTIAL_DRIVER_SOCKET"
COMPUTE_SOCKET = "OPENSHELL_COMPUTE_DRIVER_SOCKET"
_NAMES = (SOCKET, CREDENTIALS_SOCKET, STORE_SOCKET, COMPUTE_SOCKET)


def dialled_socket(flag: str | None) -> str:
    """Find the socket to dial: the flag, else the variables that drivers read.

    Raises `ConfigError` if there is none, or more than one.
    """
    if flag:
        return flag
    found = {os.environ[name] for name in _NAMES if os.environ.get(name)}
    if len(found) != 1:
        state = "several differ" if found else "none is set"
        raise ConfigError(f"--socket is missing, and of {', '.join(_NAMES)} {state}")
    return found.pop()
