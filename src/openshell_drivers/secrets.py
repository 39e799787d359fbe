"""`Secret`: text that shows itself only through `reveal()`. Knows nothing of any driver."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Any, Final, NoReturn

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

_MASK: Final = "Secret(***)"


class Secret:
    """Hold a token, a password or a key so that no log, error, repr or pickle can show it.

    ``str()``, ``repr()`` and formatting give a fixed mask; comparing takes constant time; copying
    keeps the object and pickling raises `TypeError`. Text is kept exactly, including an empty
    one. As a field of a pydantic model it accepts a string, and dumps as the mask.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        if not isinstance(text, str):
            # The value is not named: it may be the secret in another shape.
            raise TypeError(f"a secret is made of str, not {type(text).__name__}")
        self._text: Final = text

    def reveal(self) -> str:
        """Give the text away. Call it only in the expression that needs it."""
        return self._text

    def __repr__(self) -> str:
        return _MASK

    def __str__(self) -> str:
        return _MASK

    def __format__(self, spec: str) -> str:
        return _MASK

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(_bytes(self._text), _bytes(other._text))

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret cannot be pickled")

    def __getstate__(self) -> NoReturn:
        raise TypeError("a Secret has no state to give away")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(
            cls._validate,
            serialization=core_schema.plain_serializer_function_ser_schema(
                str, when_used="json-unless-none"
            ),
        )

    @classmethod
    def _validate(cls, value: object) -> Secret:
        if isinstance(value, Secret):
            return value
        if isinstance(value, str):
            return cls(value)
        raise ValueError("must be text")

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"type": "string", "format": "password", "writeOnly": True}


def _bytes(text: str) -> bytes:
    # surrogatepass: text read with surrogateescape must compare, not raise with the text inside.
    return text.encode("utf-8", "surrogatepass")
