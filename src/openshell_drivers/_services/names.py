"""The gRPC services' real names, as they are on the wire. The one place that spells them."""

from __future__ import annotations

from typing import Final

CREDENTIALS: Final = "openshell.credentials.v1.CredentialsDriver"
CREDENTIAL_STORE: Final = "openshell.credentials.v1.CredentialDriver"
COMPUTE: Final = "openshell.compute.v1.ComputeDriver"
HEALTH: Final = "grpc.health.v1.Health"
