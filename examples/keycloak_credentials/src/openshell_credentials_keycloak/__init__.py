"""An OpenShell credentials driver that gets its tokens from Keycloak, or any OAuth 2.0 issuer."""

from __future__ import annotations

from openshell_credentials_keycloak.config import CredentialConfig as CredentialConfig
from openshell_credentials_keycloak.config import KeycloakConfig as KeycloakConfig
from openshell_credentials_keycloak.driver import KeycloakDriver as KeycloakDriver

__all__ = ["CredentialConfig", "KeycloakConfig", "KeycloakDriver"]
