"""Read YAML without surprises: safe types only, a key twice is an error, no text in messages."""

from __future__ import annotations

from typing import Any

import yaml

from openshell_drivers.errors import ConfigError


class _Loader(yaml.SafeLoader):
    """SafeLoader, which would let the last of two equal keys win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise ConfigError(f"line {key.start_mark.line + 1}: key {key.value!r} occurs twice")
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def parse(raw: bytes) -> Any:
    """Parse one document. Raises `ConfigError` with the line."""
    try:
        return yaml.load(raw, Loader=_Loader)  # noqa: S506  # a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" (line {mark.line + 1})" if mark is not None else ""
        raise ConfigError(f"is not valid YAML{where}") from None
    except (yaml.YAMLError, ValueError):
        raise ConfigError("is not valid YAML") from None
