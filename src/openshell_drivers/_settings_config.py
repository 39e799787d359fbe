"""A driver's configuration: flag > environment > file, merged and judged by the driver's model.

pydantic is imported with the first configuration that is read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, Union, get_args, get_origin

from openshell_drivers._faults import describe
from openshell_drivers._settings_mistakes import explain, refuse_keys
from openshell_drivers.errors import ConfigError
from openshell_drivers.secrets import Secret

_PREFIX: Final = "OPENSHELL_DRIVER_CONFIG_"


def read_config(
    model: type[Any],
    document: Mapping[str, Any],
    path: Path | None,
    *,
    environment: Mapping[str, str],
    flags: Mapping[str, str],
) -> Any:
    """Merge a document with what is said against it, and validate. Raises `ConfigError`.

    `path` is the document's, for messages; `flags` are by key, `environment` is the process's.
    """
    from pydantic import ValidationError

    refuse_keys(flags, list(model.model_fields), "--set:")
    merged = dict(document)
    origins: dict[str, str] = {}
    for key, info in model.model_fields.items():
        variable = f"{_PREFIX}{key.upper()}"
        raw = environment.get(variable)
        if raw is not None:
            merged[key], origins[key] = _value(raw, info.annotation), variable
    for key, raw in flags.items():
        annotation = model.model_fields[key].annotation
        if _holds_secret(annotation):
            raise ConfigError(f"{key}: a secret cannot be a flag, every process could read it")
        merged[key], origins[key] = _value(raw, annotation), "the command line"
    try:
        return model.model_validate(merged)
    except ValidationError as error:
        raise ConfigError(explain(error, model, origins, path)) from None
    except Exception as error:  # noqa: BLE001  # an author's validator may raise anything
        raise ConfigError(f"the configuration cannot be judged: {describe(error)}") from None


def _value(raw: str, annotation: Any) -> Any:
    """Read a flag's or a variable's text: JSON for a list or a mapping, else the text itself."""
    if raw[:1] in {"[", "{"} and not _takes_text(annotation):
        try:
            return json.loads(raw)
        except (ValueError, RecursionError):
            return raw
    return raw


def _takes_text(annotation: Any) -> bool:
    union = get_origin(annotation) in {Union, UnionType}
    kinds = get_args(annotation) if union else (annotation,)
    return all(kind in {str, Secret, NoneType} for kind in kinds)


def _holds_secret(annotation: Any) -> bool:
    """Whether a secret is somewhere in the type: in a list, a mapping, another model."""
    from pydantic import PydanticUserError, TypeAdapter

    try:
        schema = TypeAdapter(annotation).json_schema()
    except PydanticUserError:  # a type without a schema
        return "Secret" in str(annotation)
    return '"writeOnly": true' in json.dumps(schema, default=str)
