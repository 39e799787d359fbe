"""The resource admission policy: the gateway's own, and what a driver acknowledges of it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from openshell_drivers._logs import printable
from openshell_drivers.testing.gateway._errors import GatewayRefused
from openshell_drivers.testing.gateway._preset import Preset

_PREFIX: Final = "v1:"
_LONGEST: Final = 300
_WORKSPACE: Final = "${workspace}"
_RESERVED: Final = frozenset(
    f"openshell.ai/{each}" for each in ("managed-by", "gateway-id", "sandbox-workspace")
)
_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_DOMAIN: Final = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayAdmission:
    """What a gateway of the 0.1.x line is configured with for its driver."""

    allow_driver_config: bool = False
    enabled: bool = True
    required_labels: Mapping[str, str] | None = None
    """None means the line's default labels."""

    def filled(self, preset: Preset) -> GatewayAdmission:
        """Give the same policy with the line's labels in place of None."""
        labels = preset.default_labels if self.required_labels is None else self.required_labels
        return GatewayAdmission(
            allow_driver_config=self.allow_driver_config,
            enabled=self.enabled,
            required_labels=dict(labels),
        )

    def canonical(self) -> str:
        """Write it as a driver would acknowledge it in full."""
        labels = dict(sorted((self.required_labels or {}).items()))
        inner = {"enabled": self.enabled, "required_labels": labels}
        whole = {"allow_driver_config": self.allow_driver_config, "resource_admission": inner}
        return _PREFIX + json.dumps(whole, separators=(",", ":"), ensure_ascii=False)


def judge_policy(policy: GatewayAdmission) -> None:
    """Refuse to start with a policy of the gateway's own that no gateway accepts."""
    labels = policy.required_labels or {}
    if policy.enabled and not labels:
        raise GatewayRefused("own policy: required_labels is empty while enabled")
    if policy.enabled and all(value == _WORKSPACE for value in labels.values()):
        raise GatewayRefused("own policy: no label has a fixed value")
    if _RESERVED & set(labels):
        raise GatewayRefused("own policy: a label is reserved")
    if not all(_is_key(key) and _is_value(value) for key, value in labels.items()):
        raise GatewayRefused("own policy: a label is malformed")


def _is_key(key: str) -> bool:
    domain, slash, name = key.rpartition("/")
    good = not slash or (len(domain) <= 253 and bool(_DOMAIN.fullmatch(domain)))
    return good and bool(_NAME.fullmatch(name))


def _is_value(value: str) -> bool:
    return value in {"", _WORKSPACE} or bool(_NAME.fullmatch(value))


def judge_acknowledgement(text: str, policy: GatewayAdmission, preset: Preset) -> None:
    """Refuse a driver whose ``resource_admission_policy`` is not this policy (COMP01-ADM-02).

    Compared are values, with the gateway's defaults where the driver leaves something out.
    """
    if not policy.enabled and not text:
        return
    if not text.startswith(_PREFIX):
        raise GatewayRefused("the driver does not acknowledge the resource admission policy")
    try:
        acknowledged = _parse(text.removeprefix(_PREFIX), preset)
    except (ValueError, RecursionError):
        raise GatewayRefused("the driver's policy acknowledgement is invalid") from None
    if acknowledged != policy:
        raise GatewayRefused(
            "the driver's resource admission policy differs",
            f"it has {printable(text, _LONGEST)}, this gateway {policy.canonical()}",
        )


def _parse(text: str, preset: Preset) -> GatewayAdmission:
    whole = _table(json.loads(text, object_pairs_hook=_unique))
    _only(whole, {"allow_driver_config", "resource_admission"})
    inner = _table(whole.get("resource_admission", {}))
    _only(inner, {"enabled", "required_labels"})
    labels = _table(inner.get("required_labels", dict(preset.default_labels)))
    if not all(isinstance(value, str) for value in labels.values()):
        raise ValueError("a label is no text")
    return GatewayAdmission(
        allow_driver_config=_switch(whole.get("allow_driver_config", False)),
        enabled=_switch(inner.get("enabled", True)),
        required_labels=labels,
    )


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _only(table: Mapping[str, Any], known: set[str]) -> None:
    if set(table) - known:
        raise ValueError("unknown key")


def _table(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def _switch(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("not a bool")
    return value
