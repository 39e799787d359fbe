"""Read YAML without surprises: safe types only, a key twice is an error, no text in messages."""

from __future__ import annotations

from typing import Any, Final

import yaml

from openshell_drivers.errors import ConfigError

_MERGE: Final = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """SafeLoader, which would let the last of two equal keys win."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Look for equal keys as they are written: merging may repeat one that is overridden."""
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
                continue
            if key.value in seen:
                raise ConfigError(f"line {key.start_mark.line + 1}: key {key.value!r} occurs twice")
            seen.add(key.value)
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Merge, and keep the last of equal keys at once: merges of merges grow without end."""
        super().flatten_mapping(node)
        kept = {
            (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else id(key): (key, value)
            for key, value in node.value
        }
        node.value = list(kept.values())


def parse(raw: bytes) -> Any:
    """Parse one document. Raises `ConfigError` with the line."""
    try:
        return yaml.load(raw, Loader=_Loader)  # noqa: S506  # a SafeLoader
    except ConfigError:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" (line {mark.line + 1})" if mark is not None else ""
        raise ConfigError(f"is not valid YAML{where}") from None
    except Exception:  # noqa: BLE001  # its constructors raise what int() and dict lookups raise
        raise ConfigError("is not valid YAML") from None
