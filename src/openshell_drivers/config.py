"""`DriverConfig`: the base of a driver's configuration model. The one author module with pydantic.

Imported only by drivers that have a configuration; `openshell_drivers` loads it on first use.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class DriverConfig(BaseModel):
    """The typed configuration of a driver. Frozen, and strict about keys.

    An unknown key is an error, since a misspelt one must not be ignored. Validation errors never
    show input values (the SDK reports key and rule only). Declare secrets as `Secret`, or better
    as the path of a file that holds one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
