"""Names and labels for the objects of a backend: bounded, and never the same for two sandboxes.

A sandbox's name is its own in its workspace only (COMP-IN-02), and may be longer than a backend
takes. What fits stays readable; what does not is shortened and told apart by a digest. A name of
one form is never one of the other.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from typing import Final

from openshell_drivers._faults import WrongValue
from openshell_drivers._sandboxes import SandboxSpec

__all__ = [
    "GATEWAY_ID",
    "MANAGED_BY",
    "SANDBOX_ID",
    "SANDBOX_NAME",
    "SANDBOX_WORKSPACE",
    "identity_labels",
    "label_value",
    "merge_labels",
    "object_name",
]

#: Label keys that belong to the driver (COMP-IN-09).
MANAGED_BY: Final = "openshell.ai/managed-by"
SANDBOX_ID: Final = "openshell.ai/sandbox-id"
SANDBOX_NAME: Final = "openshell.ai/sandbox-name"
SANDBOX_WORKSPACE: Final = "openshell.ai/sandbox-workspace"
GATEWAY_ID: Final = "openshell.ai/gateway-id"

_OWN_DOMAINS: Final = ("openshell.ai/", "internal.openshell.ai/")
_LONGEST_LABEL: Final = 63
#: Base32 digits of a SHA-256: 65 bits.
_DIGITS: Final = 13
_DNS_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
_PREFIX: Final = re.compile(r"(?:[a-z0-9][a-z0-9-]*)?")
_LABEL_VALUE: Final = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?)?")
_DIGEST_MARK: Final = "__"
_LOOKS_DIGESTED: Final = re.compile(rf".*{_DIGEST_MARK}[a-z2-7]{{{_DIGITS}}}")


def object_name(workspace: str, name: str, *, prefix: str = "", max_length: int = 63) -> str:
    """Give a sandbox's object a name: a DNS-1123 label, the same for the same sandbox, always.

    ``{workspace}--{name}`` where both are labels without ``--`` and it fits; else a readable rest,
    ``-`` and 13 base32 digits of a SHA-256 of both, which then has no ``--``. So, for one `prefix`,
    two sandboxes have the same name only if their digests are the same. Raises `ValueError` for a
    `prefix` that cannot begin a label, or that leaves no room for the digest.
    """
    room = max_length - len(prefix)
    if _PREFIX.fullmatch(prefix) is None:
        raise WrongValue(
            "prefix must be lower-case letters, digits and '-', and not begin with '-'"
        )
    if room < _DIGITS:
        raise WrongValue(f"max_length must leave {_DIGITS} characters after the prefix")
    plain = f"{workspace}--{name}"
    if len(plain) <= room and _is_plain(workspace) and _is_plain(name):
        return prefix + plain
    slug = re.sub(r"[^a-z0-9]+", "-", f"{workspace}-{name}".lower())
    return prefix + _shortened(slug, "-", _digest(workspace, name), room)


def label_value(text: str) -> str:
    """Make text a Kubernetes label value: as it is where that is one, else a shortened form.

    The shortened form ends in ``__`` and 13 base32 digits of a SHA-256 of the text. A text that
    looks like it is shortened too, so two texts have the same value only if their digests are the
    same.
    """
    if (
        len(text) <= _LONGEST_LABEL
        and _LABEL_VALUE.fullmatch(text)
        and not _LOOKS_DIGESTED.fullmatch(text)
    ):
        return text
    slug = re.sub(r"[^A-Za-z0-9]+", "-", text)
    return _shortened(slug, _DIGEST_MARK, _digest(text), _LONGEST_LABEL, empty="x")


def identity_labels(
    spec: SandboxSpec, *, driver: str = "openshell", gateway_id: str = ""
) -> dict[str, str]:
    """Make the labels by which a driver finds its objects again (COMP-IN-09).

    An id of at most 63 letters, digits and ``.-_`` stays as it is. Look objects up with
    `label_value` of what is searched for. `gateway_id` is left out if empty.
    """
    values = {
        MANAGED_BY: driver,
        SANDBOX_ID: spec.id,
        SANDBOX_NAME: spec.name,
        SANDBOX_WORKSPACE: spec.workspace,
    }
    if gateway_id:
        values[GATEWAY_ID] = gateway_id
    return {key: label_value(value) for key, value in values.items()}


def merge_labels(user: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """Put the driver's labels over a user's, of which those in OpenShell's domains are dropped.

    The user's values are taken as they are (COMP-IN-09).
    """
    kept = {key: value for key, value in user.items() if not key.lower().startswith(_OWN_DOMAINS)}
    return {**kept, **own}


def _is_plain(text: str) -> bool:
    return _DNS_LABEL.fullmatch(text) is not None and "--" not in text


def _shortened(slug: str, mark: str, digest: str, room: int, empty: str = "") -> str:
    head = slug.strip("-")[: max(0, room - len(mark) - len(digest))].rstrip("-") or empty
    return f"{head}{mark}{digest}" if head else digest


def _digest(*parts: str) -> str:
    # With lengths, so that no two lists of parts make the same bytes.
    raw = [part.encode("utf-8", "surrogatepass") for part in parts]
    whole = b"".join(b"%d:%b" % (len(each), each) for each in raw)
    return base64.b32encode(hashlib.sha256(whole).digest()).decode()[:_DIGITS].lower()
