"""What every driver has: a name, a version, a configuration."""

from __future__ import annotations

from typing import Any, Generic

import pytest
from typing_extensions import TypeVar

from openshell_drivers import CredentialInfo, CredentialRef, CredentialsDriver, DriverConfig
from openshell_drivers._version import driver_version
from openshell_drivers.credentials import Credential


class Config(DriverConfig):
    key: str = "value"


class Other(DriverConfig):
    other: int = 1


AnyConfig = TypeVar("AnyConfig", bound=DriverConfig)


class Base(CredentialsDriver[AnyConfig], Generic[AnyConfig]):
    """A base of somebody's own, whose configuration its subclasses choose."""

    name = "base"

    async def resolve_credential(self, ref: CredentialRef) -> Credential:
        raise NotImplementedError

    async def list_credentials(self) -> list[CredentialInfo]:
        return []


class Chosen(Base[Config]):
    pass


def test_the_brackets_name_the_model_also_through_a_base_of_one_s_own() -> None:
    assert Base.config_model is None
    assert Chosen.config_model is Config


def test_a_subclass_without_brackets_keeps_its_parent_s_model() -> None:
    class Child(Chosen):
        pass

    assert Child.config_model is Config


def test_a_subclass_that_says_its_model_in_the_body_has_that_one() -> None:
    class Child(Chosen):
        config_model = Other

    assert Child.config_model is Other


def test_a_driver_with_a_model_cannot_be_built_without_one() -> None:
    with pytest.raises(TypeError, match="needs a Config"):
        Chosen()

    assert Chosen(Config(key="other")).config.key == "other"


@pytest.mark.parametrize("name", ["a b", "-a", "a/b", "x" * 64, "ä"])
def test_a_name_that_is_no_name_is_refused_with_the_class(name: str) -> None:
    with pytest.raises(TypeError, match="must match"):
        type("Bad", (Chosen,), {"name": name})


def test_the_version_is_the_class_s_own_or_its_distribution_s() -> None:
    class Versioned(Chosen):
        version = "7.1"

    class Packaged(Chosen):
        __module__ = "openshell_drivers.somewhere"

    class Nowhere(Chosen):
        __module__ = "no_such_distribution"

    kinds: list[type[CredentialsDriver[Any]]] = [Versioned, Packaged, Nowhere]
    assert [driver_version(kind) for kind in kinds] == ["7.1", "0.1.0", "0.0.0"]
