"""What is said of a mistake in settings: the key and the rule, and never a value."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from openshell_drivers._logs import printable
from openshell_drivers.errors import ConfigError

if TYPE_CHECKING:
    from pydantic import ValidationError

#: Shorter texts are found in any sentence, and are no secrets.
_SHORTEST_HIDDEN: Final = 4


def refuse_keys(given: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    """Raise `ConfigError` for the first key that is not known; `where` begins its message."""
    for key in given:
        if key not in known:
            raise ConfigError(f"{where} unknown key {key!r}{_suggestion(str(key), known)}")


def _suggestion(key: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def explain(
    error: ValidationError, model: type[Any], origins: Mapping[str, str], file: Path | None
) -> str:
    """One line per mistake: the path of the key and the rule. Never the input."""
    lines = []
    for item in error.errors(include_url=False, include_context=False):
        path = printable(".".join(str(part) for part in item["loc"])) or "configuration"
        if item["type"] == "extra_forbidden":
            rule = f"unknown key{_suggestion(str(item['loc'][-1]), _keys(model, item['loc']))}"
        elif item["type"] == "missing":
            rule = "is missing" + (f" in {str(file)!r}" if file and len(item["loc"]) == 1 else "")
        else:
            rule = _hide(item["input"], item["msg"].removeprefix("Value error, "))
        origin = origins.get(str(item["loc"][0])) if item["loc"] else None
        lines.append(f"{path}: {rule}" + (f" (from {origin})" if origin else ""))
    return "\n".join(lines)


def _keys(model: type[Any], place: Sequence[int | str]) -> list[str]:
    """The keys that may be meant at a place: the model's own, or those of all models in it."""
    from pydantic import PydanticUserError

    if len(place) == 1:
        return list(model.model_fields)
    try:
        parts = model.model_json_schema().get("$defs", {}).values()
    except PydanticUserError:  # a type without a schema
        return []
    return sorted({key for part in parts for key in part.get("properties", ())})


def _hide(value: object, message: str) -> str:
    """Take out what a validator, an author's or pydantic's own, quotes of the value."""
    for text in sorted(_texts(value), key=len, reverse=True):
        message = message.replace(text, "***")
    return message


def _texts(value: object) -> set[str]:
    """Every text in a value that is long enough to tell anything, plain and escaped."""
    found: set[str] = set()
    seen: set[int] = set()  # YAML can make circles
    rest = [value]
    while rest:
        each = rest.pop()
        if isinstance(each, Mapping | list | tuple | set | frozenset):
            if id(each) not in seen:
                seen.add(id(each))
                rest += each.values() if isinstance(each, Mapping) else each
        elif each is not None:
            text = str(each).strip()
            found |= {text, repr(text)[1:-1]}
    return {text for text in found if len(text) >= _SHORTEST_HIDDEN}
