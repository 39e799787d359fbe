"""Signs the assertion of ``private_key_jwt`` (RFC 7523 section 2.2, OpenID Connect Core 9).

The one module that imports joserfc, and only when there is something to sign.
"""

from __future__ import annotations

import json
import secrets
import time
import warnings
from typing import TYPE_CHECKING, Any, Final

from openshell_credentials_keycloak._faults import Fault
from openshell_credentials_keycloak.config import CredentialConfig
from openshell_drivers import FailedPrecondition, Secret

if TYPE_CHECKING:
    from joserfc.jwk import ECKey, OKPKey, RSAKey

    SigningKey = RSAKey | ECKey | OKPKey

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

_LIFE: Final = 60  # seconds; issuers want it short, and clocks differ by a few
#: By kind of key or curve; the first is the default.
_ALGORITHMS: Final[dict[str, tuple[str, ...]]] = {
    "RSA": ("RS256", "PS256"),
    "P-256": ("ES256",),
    "Ed25519": ("EdDSA",),
}


def load_key(text: Secret) -> SigningKey:
    """Read a private key; blocks, 60 ms for an RSA key since it is checked.

    `Fault` if there is none, it is encrypted, or joserfc is not installed.
    """
    try:
        from joserfc.jwk import ECKey, OKPKey, RSAKey
    except ImportError:
        what = "private_key_jwt needs the extra 'jwt' to be installed"
        raise Fault(FailedPrecondition, what) from None
    for kind in (RSAKey, ECKey, OKPKey):
        try:
            key = kind.import_key(_parse(text))
        except Exception:  # noqa: BLE001, S112  # wrong kind or no key; the text may show it
            continue
        if key.is_private:
            return key
    raise Fault(FailedPrecondition, "the file of private_key_ref holds no usable private key")


def sign_assertion(config: CredentialConfig, key: SigningKey, audience: str) -> str:
    """Make an assertion that is good for one minute and one use (``jti``).

    `Fault` if the key is none of RSA (2048 bits or more), P-256 and Ed25519, or does not suit
    ``signing_alg``.
    """
    from joserfc import jwt

    algorithm = _choose(config, key)
    kid = config.key_id or key.kid
    now = int(time.time())
    claims = {
        "iss": config.client_id,
        "sub": config.client_id,
        "aud": config.assertion_audience or audience,
        "jti": secrets.token_urlsafe(16),
        "iat": now,
        "exp": now + _LIFE,
    }
    header = {"alg": algorithm, **({"kid": kid} if kid else {})}
    with warnings.catch_warnings():
        # RFC 9864 renames EdDSA to Ed25519; issuers know the old name, Keycloak only that.
        warnings.simplefilter("ignore")
        return jwt.encode(header, claims, key, algorithms=[algorithm])


def _parse(text: Secret) -> Any:
    content = text.reveal()
    return json.loads(content) if content.startswith("{") else content


def _choose(config: CredentialConfig, key: SigningKey) -> str:
    possible = _ALGORITHMS.get(_shape(key), ())
    chosen = config.signing_alg or (possible[0] if possible else None)
    if chosen is None or chosen not in possible:
        raise Fault(FailedPrecondition, "the key of private_key_ref does not suit signing_alg")
    return chosen


def _shape(key: SigningKey) -> str:
    """Tell the kind of a key by what matters to an algorithm; empty if too short to use."""
    from joserfc.jwk import RSAKey

    if isinstance(key, RSAKey):
        return "RSA" if key.raw_value.key_size >= 2048 else ""
    return str(key.curve_name)
