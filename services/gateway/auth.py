"""Who calls: keys, an issuer's tokens, the page's session, the one-time link, and the process's own key.

Comes in: the headers of a request. Goes out: the Key it speaks for, or Unauthenticated, Forbidden, Overloaded.
Does not know: routes, what a request is about.

A secret is random (256 bits), so its SHA-256 is as good as any slow hash. `sk-twin-…` comes as a Bearer token and
`page-…` in a cookie, and neither is taken in the other's place: a page's cookie that leaks is no API key.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from http.cookies import CookieError, SimpleCookie

import structlog
from starlette.requests import Request

from services import telemetry
from services.domain import Key, Role
from services.errors import Forbidden, Overloaded, TwinError, Unauthenticated
from services.gateway.oidc import OpenId
from services.ports import Keys, Limits

log = structlog.get_logger()

KEY_PREFIX = "sk-twin-"
SESSION_PREFIX = "page-"
ADMIN_KEY = "deployment"
"""The id of the key that the settings name."""
_CACHED = 2.0
"""Seconds for which a key once read is believed: another process's revocation takes that long to arrive."""
_USED = 60.0
"""Seconds between two writes of when a key was last used."""
_LINK = 12 * 3600.0
"""Seconds for which a one-time link waits to be opened."""


def secret_hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def new_secret(prefix: str = KEY_PREFIX) -> str:
    return prefix + secrets.token_urlsafe(32)


async def keep_admin_key(keys: Keys, secret: str) -> None:
    """Have this admin's key in the store, in place of the one that was so kept before. Once revoked it stays so."""
    hashed = secret_hash(secret)
    if await keys.by_hash(hashed) is None:
        await keys.save(Key(ADMIN_KEY, hashed, "the deployment's own", Role.ADMIN, None, created_at=time.time()))


@dataclass(frozen=True, slots=True)
class LocalKey:
    """An admin key of this process alone, for the command line's use of the app in its own process. It is in no
    store, and it ends with the process."""

    secret: str = field(default_factory=lambda: new_secret("sk-twin-local-"), repr=False)
    key: Key = field(default_factory=lambda: Key("local", "", "this process", Role.ADMIN, None, created_at=time.time()))


class PageLinks:
    """Tokens of one-time links: each opens the page once."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waiting: dict[str, float] = {}

    def issue(self) -> str:
        """A token for `/?token=…`."""
        token = secrets.token_urlsafe(24)
        self._waiting[secret_hash(token)] = self._clock() + _LINK
        return token

    def redeem(self, token: str) -> bool:
        """Whether this token opens the page; from now on it doesn't."""
        until = self._waiting.pop(secret_hash(token), None)
        return until is not None and self._clock() < until


class Auth:
    """Finds a request's key. One instance an app: it remembers keys for a moment, so that a store is not asked at
    every request."""

    def __init__(
        self,
        keys: Keys,
        limits: Limits,
        *,
        per_minute: int,
        session_days: float,
        local: LocalKey | None,
        openid: OpenId | None = None,
    ) -> None:
        self._keys = keys
        self._limits = limits
        self._per_minute = per_minute
        self._session_seconds = session_days * 86400
        self._local = local
        self._openid = openid
        self._read: dict[str, tuple[Key, float]] = {}
        self._reading: dict[str, asyncio.Task[Key | None]] = {}
        self._used: dict[str, float] = {}
        self._writing: set[asyncio.Task[None]] = set()

    async def caller(self, request: Request) -> Key:
        """The key that a request speaks for, valid now."""
        header = request.headers.get("authorization")
        if header is not None:
            scheme, _, secret = header.partition(" ")
            secret = secret.strip()
            if scheme.lower() != "bearer" or not secret:
                raise Unauthenticated("Send the key as `Authorization: Bearer sk-twin-…`.")
            if self._local is not None and hmac.compare_digest(secret.encode(), self._local.secret.encode()):
                return self._local.key
            if self._openid is not None and self._openid.looks_like(secret):
                return await self._openid.caller(secret)
            return await self._valid(secret, KEY_PREFIX)
        secret = _cookies(request).get(cookie_name(request), "")
        if not secret:
            raise Unauthenticated(
                "A key is needed: send it as `Authorization: Bearer sk-twin-…`. `twin keys create` makes one."
            )
        key = await self._valid(secret, SESSION_PREFIX)
        # A browser adds the cookie by itself; another site's page can add no header of its own without our consent.
        if request.method not in ("GET", "HEAD") and "x-twin-page" not in request.headers:
            raise Forbidden("A request with the page's cookie needs the header `X-Twin-Page: 1`.")
        return key

    async def _valid(self, secret: str, prefix: str) -> Key:
        key = await self._find(secret_hash(secret)) if secret.startswith(prefix) else None
        now = time.time()
        if key is None:
            raise Unauthenticated("This key is not known here. `twin keys create` makes one.")
        if key.revoked_at is not None:
            raise Unauthenticated("This key was revoked. Ask for another one.")
        if key.expires_at is not None and key.expires_at <= now:
            raise Unauthenticated("This key has expired. Ask for another one.")
        if now - self._used.get(key.id, key.used_at or 0.0) > _USED:
            self._used[key.id] = now
            task = asyncio.create_task(self._write_used(key.id, now))
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)
        return key

    async def _find(self, hash: str) -> Key | None:
        read = self._read.get(hash)
        now = time.monotonic()
        known = read is not None and read[1] > now
        telemetry.CACHE.labels("keys", "hit" if known else "miss").inc()
        if read is not None and known:
            return read[0]
        # Those that ask at the same moment ask once.
        reading = self._reading.get(hash)
        if reading is None:
            reading = self._reading[hash] = asyncio.create_task(self._look(hash))
        return await asyncio.shield(reading)

    async def _look(self, hash: str) -> Key | None:
        now = time.monotonic()
        try:
            key = await self._keys.by_hash(hash)
        finally:
            # Where keys have changed meanwhile, this is not to be remembered.
            current = self._reading.get(hash) is asyncio.current_task()
            if current:
                del self._reading[hash]
        if key is None:
            self._read.pop(hash, None)
        elif current:
            self._read[hash] = (key, now + _CACHED)
        return key

    async def _write_used(self, id: str, at: float) -> None:
        try:
            await self._keys.used(id, at)
        except TwinError as error:
            log.warning("when the key was used could not be written", key=id, error=error.message)

    async def within_limit(self, key: Key) -> None:
        """Count a request. Overloaded where the key has made too many this minute."""
        if self._local is not None and key is self._local.key:
            return
        per_minute = key.requests_per_minute or self._per_minute
        wait = await self._limits.hit(f"requests:{key.id}", per_minute)
        if wait > 0:
            raise Overloaded(
                f"More than {per_minute} requests a minute with this key. Wait, or ask for a higher limit.",
                retry_after=wait,
            )

    def forget(self) -> None:
        """Keys have changed: read them anew."""
        self._read.clear()
        self._reading.clear()

    async def open_session(self) -> tuple[str, int]:
        """A session for the page: (the cookie's value, seconds it lasts). Kept as a key, so it outlives a restart
        and can be revoked like one."""
        secret, now = new_secret(SESSION_PREFIX), time.time()
        key = Key(
            id=f"page-{secrets.token_hex(8)}",
            hash=secret_hash(secret),
            name="page, by one-time link",
            role=Role.ADMIN,
            authors=None,
            created_at=now,
            expires_at=now + self._session_seconds,
        )
        await self._keys.save(key)
        return secret, int(self._session_seconds)

    async def revoke(self, id: str) -> Key | None:
        """The key, revoked; None where there is none of this id."""
        for key in await self._keys.find():
            if key.id == id:
                revoked = key if key.revoked_at is not None else replace(key, revoked_at=time.time())
                await self._keys.save(revoked)
                self.forget()
                return revoked
        return None


def cookie_name(request: Request) -> str:
    """Cookies don't tell ports apart; by the name, two Twins on one machine keep out of each other's way."""
    _, _, port = request.headers.get("host", "").rpartition(":")
    return f"twin_page_{port}" if port.isdigit() else "twin_page"


def _cookies(request: Request) -> dict[str, str]:
    try:
        return {name: morsel.value for name, morsel in SimpleCookie(request.headers.get("cookie", "")).items()}
    except CookieError:
        return {}
