"""The rules that single values obey, as Kubernetes has them. Messages never show the value.

Each rule is a function that gives the value back or raises `ValueError` with constant text; the
types below are these rules for pydantic. Knows nothing of the keys the values belong to.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Annotated, Final, TypeVar

from pydantic import AfterValidator, Field, WrapSerializer
from pydantic_core import PydanticCustomError

from openshell_drivers.errors import InvalidArgument
from openshell_drivers.quantities import memory_bytes

ValueT = TypeVar("ValueT")

_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
_QUALIFIED: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?")
_ROLE: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9:_.-]*[A-Za-z0-9])?")
_ENV_NAME: Final = re.compile(r"[A-Za-z_.-][A-Za-z0-9_.-]*")
_SECRET_KEY: Final = re.compile(r"[A-Za-z0-9_.-]+")
_CAPABILITY: Final = re.compile(r"[A-Z][A-Z0-9_]*")
_IMAGE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/@+-]*")
_URL: Final = re.compile(r"https?://[^\s/?#@]+(?:/[^\s?#]*)?")
_APPARMOR: Final = re.compile(r"RuntimeDefault|Unconfined|Localhost/[!-~]+")
_LONGEST_LABEL: Final = 63
_LONGEST_NAME: Final = 253
_LONGEST_PATH: Final = 1024


class Frozen(Mapping[str, ValueT]):
    """Values by text, which cannot be changed, but hashed and copied: fit to be a default."""

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[str, ValueT] = MappingProxyType({})) -> None:
        self._items = dict(items)

    def __getitem__(self, key: str) -> ValueT:
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and self._items == dict(other)

    def __repr__(self) -> str:
        return f"Frozen({self._items!r})"


def broken(rule: str) -> PydanticCustomError:
    """Make the error of a broken rule. Of this type the SDK shows the text, which is constant."""
    return PydanticCustomError("rule", rule)


def dns_label(text: str) -> str:
    """RFC 1123: the name of a namespace or a volume."""
    if len(text) > _LONGEST_LABEL or not _LABEL.fullmatch(text):
        raise broken("must be at most 63 lower-case letters, digits and '-' inside")
    return text


def dns_name(text: str) -> str:
    """RFC 1123, with dots: the name of most objects."""
    parts = text.split(".")
    if len(text) > _LONGEST_NAME or not all(map(_LABEL.fullmatch, parts)):
        raise broken("must be at most 253 lower-case letters, digits, and '-' and '.' inside")
    return text


def role_name(text: str) -> str:
    """The name of a role, which goes into a path: OpenShift's own have ':' in theirs."""
    if len(text) > _LONGEST_NAME or not _ROLE.fullmatch(text):
        raise broken("must be at most 253 letters, digits, and ':', '-', '_' and '.' inside")
    return text


def label_key(text: str) -> str:
    """The key of a label or an annotation, or the name of a resource: ``[domain/]name``."""
    domain, slash, name = text.rpartition("/")
    if slash:
        dns_name(domain)
    if len(name) > _LONGEST_LABEL or not _QUALIFIED.fullmatch(name):
        raise broken(
            "must be at most 63 letters, digits, and '-', '_' and '.' inside, perhaps after a"
            " domain and '/'"
        )
    return text


def label_value(text: str) -> str:
    """The value of a label; it may be empty."""
    if text and (len(text) > _LONGEST_LABEL or not _QUALIFIED.fullmatch(text)):
        raise broken("must be at most 63 letters, digits, and '-', '_' and '.' inside, or empty")
    return text


def env_name(text: str) -> str:
    """The name of an environment variable, as every version of Kubernetes takes it."""
    if not _ENV_NAME.fullmatch(text) or text == "." or text.startswith(".."):
        raise broken("must be letters, digits, '_', '-' and '.', not beginning with a digit")
    return text


def secret_key(text: str) -> str:
    """A key inside a Secret."""
    if len(text) > _LONGEST_NAME or not _SECRET_KEY.fullmatch(text) or text.startswith(".."):
        raise broken("must be at most 253 letters, digits, '_', '-' and '.'")
    return text


def image(text: str) -> str:
    """A container image's reference."""
    if len(text) > _LONGEST_PATH or not _IMAGE.fullmatch(text):
        raise broken("must be an image reference without white space")
    return text


def container_path(text: str) -> str:
    """A path in a container that has one spelling only: absolute, normal, not the root."""
    path = PurePosixPath(text)
    if (
        len(text) > _LONGEST_PATH
        or not text.startswith("/")
        or str(path) != text
        or text.startswith("//")
        or ".." in path.parts
        or text == "/"
    ):
        raise broken("must be an absolute path without '.', '..', '//' and a '/' at its end")
    if not text.isprintable() or any(each in text for each in ":$") or text != text.strip():
        raise broken("must not hold ':', '$', control characters or white space at its ends")
    return text


def sub_path(text: str) -> str:
    """A path below a volume's root."""
    path = PurePosixPath(text)
    if (
        not text
        or len(text) > _LONGEST_PATH
        or path.is_absolute()
        or ".." in path.parts
        or text != text.strip()
        or not text.isprintable()
    ):
        raise broken("must be a relative path without '..'")
    return text


def quantity(text: str) -> str:
    """An amount above zero, as ``500m`` or ``1.5Gi``."""
    try:
        memory_bytes(text)
    except InvalidArgument:
        raise broken("must be a Kubernetes quantity above zero, such as 500m or 1.5Gi") from None
    return text


def resource_name(text: str) -> str:
    """A resource that a container can have amounts of. Huge pages are not for sandboxes."""
    domain, slash, _ = label_key(text).rpartition("/")
    if not slash and text not in {"cpu", "memory", "ephemeral-storage"}:
        raise broken("must be cpu, memory, ephemeral-storage or a device with a domain")
    if domain == "kubernetes.io" or domain.endswith(".kubernetes.io") or "requests." in domain:
        raise broken("must not be in a domain of Kubernetes' own")
    return text


def _or_empty(rule: Callable[[str], str]) -> Callable[[str], str]:
    return lambda text: rule(text) if text else text


def _url(text: str) -> str:
    if text and not _URL.fullmatch(text):
        raise broken("must be an http or https URL without user, query and fragment")
    return text


def _capability(text: str) -> str:
    if not _CAPABILITY.fullmatch(text) or text.startswith("CAP_"):
        raise broken("must be a Linux capability's name in capitals, without CAP_")
    return text


def _apparmor(text: str) -> str:
    if not _APPARMOR.fullmatch(text):
        raise broken("must be RuntimeDefault, Unconfined or Localhost/ and a profile's name")
    return text


def _plain(text: str) -> str:
    if "\0" in text:
        raise broken("must not hold NUL")
    return text


_FROZEN: Final = AfterValidator(Frozen)
_DUMPED: Final = WrapSerializer(lambda items, write: write(dict(items)))

DnsLabel = Annotated[str, AfterValidator(dns_label)]
DnsName = Annotated[str, AfterValidator(dns_name)]
MaybeName = Annotated[str, AfterValidator(_or_empty(dns_name))]
LabelKey = Annotated[str, AfterValidator(label_key)]
MaybeKey = Annotated[str, AfterValidator(_or_empty(label_key))]
LabelValue = Annotated[str, AfterValidator(label_value)]
EnvName = Annotated[str, AfterValidator(env_name)]
EnvValue = Annotated[str, AfterValidator(_plain)]
Quantity = Annotated[str, AfterValidator(quantity)]
MaybeQuantity = Annotated[str, AfterValidator(_or_empty(quantity))]
ResourceName = Annotated[str, AfterValidator(resource_name)]
SecretKey = Annotated[str, AfterValidator(secret_key)]
RoleName = Annotated[str, AfterValidator(role_name)]
Image = Annotated[str, AfterValidator(image)]
AbsolutePath = Annotated[str, AfterValidator(container_path)]
SubPath = Annotated[str, AfterValidator(sub_path)]
Url = Annotated[str, Field(max_length=1024), AfterValidator(_url)]
Capability = Annotated[str, Field(max_length=64), AfterValidator(_capability)]
AppArmorProfile = Annotated[str, Field(max_length=512), AfterValidator(_apparmor)]
Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=600, allow_inf_nan=False)]
UserId = Annotated[int, Field(ge=1, le=2**31 - 1)]

Labels = Annotated[Mapping[LabelKey, LabelValue], _FROZEN, _DUMPED]
Annotations = Annotated[Mapping[LabelKey, EnvValue], _FROZEN, _DUMPED]
Environment = Annotated[Mapping[EnvName, EnvValue], _FROZEN, _DUMPED]
Quantities = Annotated[Mapping[ResourceName, Quantity], _FROZEN, _DUMPED]
Items = Annotated[Mapping[EnvName, ValueT], _FROZEN, _DUMPED]
"""Environment variables whose values are no text: ``Items[SecretKeyRef]``."""
