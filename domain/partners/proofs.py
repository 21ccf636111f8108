"""What is proven with keys: client assertions (RFC 7523), DPoP proofs (RFC 9449), our own signature (RFC 9068).

One algorithm per key, named by the key, never by the message. A header may hold what its purpose needs and nothing
else: no `jku`, `x5u`, `crit`, and a `jwk` only in a DPoP proof, where it is what the proof is about (H22).
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache, lru_cache
from typing import Any
from urllib.parse import urlsplit

import orjson
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey

from domain.core.settings import settings
from domain.partners.rules import OAuthRefused

PROOF_MAX, ASSERTION_MAX = 2_048, 4_096
KEYS_MAX = 5
AHEAD_S = 10  # clocks differ (RFC 9449, 11.1)
PROOF_AGE_S = 60
ASSERTION_LIFE_S = 300
NONCE_S = 150  # a nonce is taken for one to two of these
ID_MAX = 128
IMPORTED_MAX = 1_024
_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

Key = ECKey | OKPKey


@dataclass(frozen=True, slots=True)
class Proven:
    """A proof that holds: `jkt` is the key's thumbprint; `id` counts once until `until_s` (Unix time)."""

    jkt: str
    id: str
    until_s: int


def key_of(jwk: Any) -> tuple[Key, str]:
    """A public key and the one algorithm it is for. Errors: ValueError for anything but P-256 and Ed25519."""
    key, algorithm, _ = _known(jwk)
    return key, algorithm


def _known(jwk: Any) -> tuple[Key, str, str]:
    """The key, its algorithm, its thumbprint."""
    if not isinstance(jwk, dict) or _PRIVATE & set(jwk):
        raise ValueError("not a public key")
    if (jwk.get("kty"), jwk.get("crv")) == ("EC", "P-256"):
        parts = [jwk.get(name) for name in ("kty", "crv", "x", "y")]
    elif (jwk.get("kty"), jwk.get("crv")) == ("OKP", "Ed25519"):
        parts = [jwk.get(name) for name in ("kty", "crv", "x")]
    else:
        raise ValueError("only P-256 and Ed25519 keys are taken")
    if not all(isinstance(one, str) for one in parts):
        raise ValueError("not a usable key")
    return _import(*parts)


@lru_cache(maxsize=IMPORTED_MAX)
def _import(kty: str, crv: str, x: str, y: str | None = None) -> tuple[Key, str, str]:
    """An app shows the same key with every request: looked at once it costs nothing more."""
    try:
        key: Key
        if y is not None:
            key = ECKey.import_key({"kty": kty, "crv": crv, "x": x, "y": y})
            return key, "ES256", key.thumbprint()
        key = OKPKey.import_key({"kty": kty, "crv": crv, "x": x})
        return key, "Ed25519", key.thumbprint()
    except (JoseError, ValueError, KeyError, TypeError) as error:
        raise ValueError("not a usable key") from error


def are_keys(jwks: Any) -> bool:
    """Whether a key set may be registered: one to five public keys, each with a `kid` of its own."""
    keys = jwks.get("keys") if isinstance(jwks, Mapping) else None
    if not isinstance(keys, list) or not 0 < len(keys) <= KEYS_MAX:
        return False
    kids = [one.get("kid") if isinstance(one, dict) else None for one in keys]
    if not all(isinstance(kid, str) and 0 < len(kid) <= ID_MAX for kid in kids):
        return False
    try:
        for one in keys:
            if key_of(one)[1] != one.get("alg", key_of(one)[1]):
                return False
    except ValueError:
        return False
    return len(set(kids)) == len(kids)


def public_only(jwks: Mapping[str, Any]) -> dict[str, Any]:
    """A key set as it is stored: nothing in it but what a signature is checked with."""
    names = ("kty", "crv", "x", "y", "kid")
    return {"keys": [{name: one[name] for name in names if name in one} for one in jwks["keys"]]}


def assertion(
    text: str, jwks: Mapping[str, Any], *, client_id: str, issuer: str, now: datetime
) -> Proven:
    """A client assertion of `client_id` for us, signed with one of its registered keys.

    Errors: OAuthRefused (`invalid_client`). Source: RFC 7523, FAPI 2.0 5.3.2.1 (the audience is our issuer alone).
    """
    try:
        header = _header(text, ASSERTION_MAX, {"alg", "kid", "typ"})
        kid = header.get("kid")
        known = [one for one in jwks["keys"] if kid is None or one["kid"] == kid]
        if len(known) != 1 or header.get("typ", "JWT") not in ("JWT", "client-authentication+jwt"):
            raise ValueError("no such key")
        key, algorithm, jkt = _known(known[0])
        claims = _claims(text, key, algorithm)
        at = int(now.timestamp())
        expires, issued = _time(claims, "exp"), _time(claims, "iat", at)
        if claims.get("iss") != client_id or claims.get("sub") != client_id:
            raise ValueError("iss and sub are the client_id")
        if claims.get("aud") not in (issuer, [issuer]):
            raise ValueError("aud is the issuer")
        if not at < expires <= at + ASSERTION_LIFE_S + AHEAD_S:
            raise ValueError("exp is over or too far")
        if issued > at + AHEAD_S or _time(claims, "nbf", at) > at + AHEAD_S:
            raise ValueError("from the future")
        return Proven(jkt, _id(claims), expires)
    except (ValueError, KeyError) as error:
        raise OAuthRefused("invalid_client", f"client_assertion: {error}", status=401) from None


def dpop(
    text: str,
    *,
    method: str,
    url: str,
    nonces: Iterable[str],
    now: datetime,
    token: str | None = None,
) -> Proven:
    """A DPoP proof for exactly this request; with `token` for exactly this access token.

    Errors: OAuthRefused: `invalid_dpop_proof`, or `use_dpop_nonce` when all but the nonce is right.
    """
    try:
        header = _header(text, PROOF_MAX, {"alg", "jwk", "typ"})
        if header.get("typ") != "dpop+jwt":
            raise ValueError("typ is dpop+jwt")
        key, algorithm, jkt = _known(header.get("jwk"))
        claims = _claims(text, key, algorithm)
        if claims.get("htm") != method or not _is_same(claims.get("htu"), url):
            raise ValueError("htm and htu are another request's")
        at, issued = int(now.timestamp()), _time(claims, "iat")
        if not at - PROOF_AGE_S <= issued <= at + AHEAD_S:
            raise ValueError("iat is too old or from the future")
        if token is not None and claims.get("ath") != _ath(token):
            raise ValueError("ath is another token's")
        proven = Proven(jkt, _id(claims), issued + PROOF_AGE_S + AHEAD_S)
    except (ValueError, KeyError) as error:
        raise OAuthRefused("invalid_dpop_proof", str(error)) from None
    if claims.get("nonce") not in set(nonces):
        raise OAuthRefused("use_dpop_nonce", "put the nonce of this answer into the proof")
    return proven


def _header(text: str, size_max: int, allowed: set[str]) -> dict[str, Any]:
    """The header, before anything of it is believed. Errors: ValueError."""
    if len(text) > size_max or not text.isascii() or text.count(".") != 2:
        raise ValueError("not a JWT")
    first = text.partition(".")[0]
    found = orjson.loads(urlsafe_b64decode(first + "=" * (-len(first) % 4)))
    if not isinstance(found, dict) or set(found) - allowed:
        raise ValueError("the header holds more than it may")
    return found


def _claims(text: str, key: Key, algorithm: str) -> dict[str, Any]:
    try:
        return dict(jwt.decode(text, key, algorithms=[algorithm]).claims)
    except (JoseError, ValueError, TypeError, KeyError):
        raise ValueError("the signature is not valid") from None


def _time(claims: Mapping[str, Any], name: str, default: int | None = None) -> int:
    found = claims.get(name, default)
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise ValueError(f"{name} is missing")
    return int(found)


def _id(claims: Mapping[str, Any]) -> str:
    found = claims.get("jti")
    if not isinstance(found, str) or not 0 < len(found) <= ID_MAX:
        raise ValueError("jti is missing")
    return found


def _is_same(given: Any, url: str) -> bool:
    """Whether `htu` names this address, leaving out query and fragment (RFC 9449, 4.3)."""
    if not isinstance(given, str):
        return False
    mine, its = urlsplit(url), urlsplit(given)
    return (its.scheme.lower(), its.netloc.lower(), its.path) == (
        mine.scheme,
        mine.netloc,
        mine.path,
    )


def _ath(token: str) -> str:
    return _text(hashlib.sha256(token.encode("ascii")).digest())


def _text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


@cache
def _derived(purpose: bytes, length: int) -> bytes:
    return HKDF(hashes.SHA256(), length, None, b"kami/" + purpose).derive(
        settings().secret("signing_key")
    )


def nonces(now: datetime) -> list[str]:
    """The nonces that count now, the one to hand out first; the same in every process."""
    step = int(now.timestamp()) // NONCE_S
    return [_nonce(step - age) for age in (0, 1)]


def _nonce(step: int) -> str:
    return _text(hmac.digest(_derived(b"dpop-nonce", 32), b"%d" % step, "sha256")[:18])


def seal_form(*parts: str) -> str:
    """What a page puts into its form, so that only the browser and the session it was made for can send it."""
    return _text(hmac.digest(_derived(b"oauth-form", 32), "\0".join(parts).encode(), "sha256"))


def is_form(given: str, *parts: str) -> bool:
    """Whether a form came from a page of ours, made for the same parts."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), seal_form(*parts).encode())


@cache
def _own() -> ECKey:
    """Our signing key: P-256, derived, so that every process has the same and no setting more is needed."""
    # 48 bytes modulo the order: the bias is below 2^-128 (FIPS 186-5, A.2.1).
    secret = int.from_bytes(_derived(b"access-token-es256", 48), "big") % (_P256_ORDER - 1) + 1
    pem = ec.derive_private_key(secret, ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return ECKey.import_key(pem)


def own_keys() -> dict[str, Any]:
    """Our public keys (RFC 7517) for who checks our access tokens."""
    key = _own()
    shown = key.as_dict(private=False)
    return {"keys": [{**shown, "kid": key.thumbprint(), "use": "sig", "alg": "ES256"}]}


def sign_access_token(claims: dict[str, Any]) -> str:
    """A JWT access token (RFC 9068)."""
    key = _own()
    header = {"alg": "ES256", "typ": "at+jwt", "kid": key.thumbprint()}
    return jwt.encode(header, claims, key, algorithms=["ES256"])


def forget() -> None:
    """Drop what was derived; for tests, and after the settings changed."""
    _derived.cache_clear()
    _own.cache_clear()
