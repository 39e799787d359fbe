"""The console script: the flags and the default paths of the Go driver of the same name."""

from __future__ import annotations

from openshell_credentials_keycloak.driver import KeycloakDriver
from openshell_drivers.cli import driver_main


def main() -> None:
    """Serve until told to stop; exits non-zero on a configuration that cannot work."""
    driver_main(
        KeycloakDriver,
        socket="/run/drivers/credentials.sock",
        config="/etc/openshell/credentials.yaml",
        config_flags={"secrets-dir": "secrets_dir"},
    )
