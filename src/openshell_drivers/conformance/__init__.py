"""The conformance suite: whether a driver, in any language, will work under the real gateways.

``pytest --driver=NAME`` and ``openshell-drivers verify NAME`` run it. It is black-box: it talks to
the driver's socket, and knows nothing of the SDK's own half.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openshell_drivers.conformance._profile import Profile as Profile

__all__ = ["Profile"]


def __getattr__(name: str) -> Any:
    if name == "Profile":  # brings pydantic, which a pytest without a target need not pay for
        from openshell_drivers.conformance._profile import Profile

        return Profile
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
