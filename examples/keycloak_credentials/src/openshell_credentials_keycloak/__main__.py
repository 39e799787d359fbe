"""``python -m openshell_credentials_keycloak`` is the console script."""

from __future__ import annotations

from openshell_credentials_keycloak.main import main

main()
