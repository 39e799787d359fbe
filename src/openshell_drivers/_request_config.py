"""JSON of a request, read into an author's pydantic model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from openshell_drivers._faults import WrongValue, describe
from openshell_drivers._sandboxes import Json
from openshell_drivers.errors import InvalidArgument

_MOST_MISTAKES = 5


def parse(model: type[Any], value: Mapping[str, Json], field: str) -> Any:
    """Validate; what is wrong is named by its path and pydantic's rule, without the value.

    A rule of the author's own is not quoted, since its text may hold what it judged.
    """
    try:
        return model.model_validate(plain(value))
    except ValidationError as error:
        mistakes = error.errors(include_url=False, include_context=False, include_input=False)
        told = "; ".join(_mistake(field, each) for each in mistakes[:_MOST_MISTAKES])
        raise InvalidArgument(told) from None
    except Exception as error:  # noqa: BLE001  # an author's validator may raise anything
        raise WrongValue(f"{field} cannot be judged: {describe(error)}") from None


def _mistake(field: str, mistake: Any) -> str:
    path = ".".join([field, *(str(part)[:64] for part in mistake["loc"])])
    if mistake["type"] == "extra_forbidden":
        return f"{path}: unknown key"
    if mistake["type"] in {"value_error", "assertion_error"}:
        return f"{path}: not allowed"
    return f"{path}: {mistake['msg']}"


def plain(value: Json) -> Any:
    """Give JSON in plain dicts and lists; a whole number as an int."""
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, tuple):
        return [plain(each) for each in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value
