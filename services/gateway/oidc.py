"""OpenID Connect: bearer tokens of one issuer, each as the key it stands for.

Comes in: a signed token. Goes out: a Key of no store, with the role and authors that its claims name; Unauthenticated
where the token is not valid here. Does not know: routes, API keys.

The issuer's keys are fetched by discovery (OpenID Connect Discovery 1.0, section 4) and kept; a token signed by a key
that is not among them has them fetched anew, at most once in REFETCH seconds. What no claim grants is not granted.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
import structlog

from services.domain import Key, Role
from services.errors import Misconfigured, TwinError, Unauthenticated, Unavailable

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519", "EdDSA")
"""Only signatures by a private key: with a shared secret (HS256) anyone who verifies could also sign."""
LEEWAY = 30
"""Seconds by which the clocks of issuer and gateway may differ."""
KEEP = 3600.0
"""Seconds after which the issuer's keys are fetched anew in any case: a withdrawn one is believed no longer."""
REFETCH = 10.0
SECONDS = 5.0
"""For one request to the issuer."""
LONGEST = 16_384
"""Characters of a token."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Mapped:
    """How claims become a role and authors."""

    issuer: str
    audience: str
    role_claim: str
    authors_claim: str
    roles: Mapping[str, Role]
    """A value of the role claim → role; `reader`, `writer` and `admin` mean themselves."""


def parse_roles(text: str) -> dict[str, Role]:
    """`group=role,…`. Misconfigured."""
    found = {each.value: each for each in Role}
    for pair in filter(None, (each.strip() for each in text.split(","))):
        name, separator, role = pair.rpartition("=")
        if not separator or role not in set(Role):
            raise Misconfigured("TWIN_OIDC_ROLES is VALUE=ROLE,… with the roles reader, writer and admin.")
        found[name] = Role(role)
    return found


class OpenId:
    def __init__(self, mapped: Mapped) -> None:
        """Misconfigured where the issuer's address is not one, or what verifies tokens is not installed."""
        try:
            import joserfc  # noqa: F401
        except ModuleNotFoundError as error:
            raise Misconfigured(
                "TWIN_OIDC_ISSUER needs the Python package joserfc: install Twin with the extra oidc."
            ) from error
        parts = urlsplit(mapped.issuer)
        local = parts.hostname in ("localhost", "127.0.0.1", "::1")
        if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and local)):
            raise Misconfigured("TWIN_OIDC_ISSUER is the issuer's https:// address, as its tokens name it in `iss`.")
        if not mapped.audience:
            raise Misconfigured("TWIN_OIDC_AUDIENCE is missing: what the issuer's tokens for Twin name in `aud`.")
        self._mapped = mapped
        self._client = httpx.AsyncClient(timeout=SECONDS, trust_env=not local)
        self._keys: Any = None
        self._fetched = -KEEP
        self._tried = -REFETCH
        self._fetching = asyncio.Lock()
        self._renewing: asyncio.Task[None] | None = None

    @staticmethod
    def looks_like(secret: str) -> bool:
        """A signed token has three parts, a key of Twin's none."""
        return secret.count(".") == 2

    async def caller(self, token: str) -> Key:
        """The key that a token stands for. Unauthenticated; Unavailable where the issuer's keys cannot be had."""
        from joserfc import jwt
        from joserfc.errors import InvalidKeyIdError, JoseError

        if len(token) > LONGEST:
            raise Unauthenticated("This token is too long.")
        keys = await self._current()
        try:
            try:
                decoded = jwt.decode(token, keys, algorithms=ALGORITHMS)
            except (InvalidKeyIdError, ValueError):
                decoded = jwt.decode(token, await self._anew(), algorithms=ALGORITHMS)
            claims = jwt.JWTClaimsRegistry(
                leeway=LEEWAY,
                iss={"essential": True, "value": self._mapped.issuer},
                aud={"essential": True, "value": self._mapped.audience},
                exp={"essential": True},
                sub={"essential": True},
            )
            claims.validate(decoded.claims)
        except (JoseError, ValueError, TypeError, KeyError) as error:
            log.info("token refused", reason=type(error).__name__)
            raise Unauthenticated(
                "This token is not valid here: it must be signed by the configured issuer, for this audience, and not "
                "have expired."
            ) from None
        return self._key(decoded.claims)

    def _key(self, claims: Mapping[str, Any]) -> Key:
        roles = [
            self._mapped.roles[each] for each in _texts(claims, self._mapped.role_claim) if each in self._mapped.roles
        ]
        if not roles:
            raise Unauthenticated(
                f"This token's claim {self._mapped.role_claim} names no role here: ask who administers the issuer."
            )
        role = max(roles, key=list(Role).index)
        authors = tuple(dict.fromkeys(_texts(claims, self._mapped.authors_claim)))
        subject = hashlib.sha256(f"{claims['iss']}\n{claims['sub']}".encode()).hexdigest()[:16]
        return Key(
            id=f"oidc-{subject}",
            hash="",
            name=str(claims.get("preferred_username") or claims["sub"])[:100],
            role=role,
            authors=None if "*" in authors else authors,
            created_at=float(claims.get("iat") or 0),
            expires_at=float(claims["exp"]),
        )

    async def _current(self) -> Any:
        age = time.monotonic() - self._fetched
        if self._keys is None or age > 24 * KEEP:
            return await self._anew()
        if age > KEEP and (self._renewing is None or self._renewing.done()):
            # Beside the callers: an issuer that hangs holds none of them up, for these are still its keys.
            self._renewing = asyncio.create_task(self._renew())
        return self._keys

    async def _renew(self) -> None:
        try:
            await self._anew()
        except TwinError as error:
            log.warning("issuer's keys not renewed", error=error.message)

    async def _anew(self) -> Any:
        """The issuer's keys, fetched unless that was tried just now."""
        from joserfc.errors import JoseError
        from joserfc.jwk import KeySet

        async with self._fetching:
            if time.monotonic() - self._tried >= REFETCH:
                try:
                    found = await self._get(f"{self._mapped.issuer.rstrip('/')}/.well-known/openid-configuration")
                    if found.get("issuer") != self._mapped.issuer:
                        raise Unavailable("The issuer names itself otherwise than TWIN_OIDC_ISSUER does.")
                    published: Any = await self._get(str(found["jwks_uri"]))
                    self._keys = KeySet.import_key_set(published)
                    self._fetched = time.monotonic()
                except (httpx.HTTPError, ValueError, KeyError, TypeError, JoseError, Unavailable) as error:
                    # The keys of before are still the issuer's: it being away locks nobody out.
                    log.warning("issuer's keys not fetched", error=type(error).__name__)
                self._tried = time.monotonic()
            if self._keys is None or time.monotonic() - self._fetched > 24 * KEEP:
                raise Unavailable(
                    "The keys of the token's issuer cannot be fetched. Try again in a moment.", retry_after=5.0
                )
            return self._keys

    async def _get(self, address: str) -> dict[str, Any]:
        response = await self._client.get(address)
        response.raise_for_status()
        return dict(response.json())

    async def close(self) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
        await self._client.aclose()


def _texts(claims: Mapping[str, Any], path: str) -> list[str]:
    """A claim's values; `a.b` is claim b within claim a. A text is its words, as the claim `scope` is written."""
    found: Any = claims
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    if isinstance(found, str):
        return found.split()
    return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []
