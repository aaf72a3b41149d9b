"""An issuer's public keys: a JWK Set (RFC 7517) from a URL or a file, fetched without blocking.

A token that names an unknown key makes the set be read again, so a rotation at the issuer is picked
up at once; a cooldown keeps made-up key ids from turning that into a flood.
"""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from services.runtime.background import begun_apart
from services.runtime.errors import dependency_unavailable
from services.runtime.settings import TrustedIssuer

_log = logging.getLogger(__name__)

_MAXIMUM_AGE = 300.0
_COOLDOWN = 5.0
_FETCH_TIMEOUT = 5.0

Source = Callable[[], Awaitable[str]]


class KeySet:
    """The keys of one issuer."""

    def __init__(self, source: Source, *, cooldown: float, maximum_age: float) -> None:
        """Takes what reads the JWK Set, and how often that may and must be done, in seconds."""
        self._source = source
        self._cooldown = cooldown
        self._maximum_age = maximum_age
        self._keys: dict[str | None, PyJWK] = {}
        self._tried_at = -float("inf")
        self._reading: asyncio.Task[None] | None = None

    async def find(self, key_id: str | None) -> PyJWK | None:
        """The key of that id, or the only key when the token names none; None if there is no such.

        Raises:
            Refusal: DEPENDENCY_UNAVAILABLE, the keys were never read and cannot be now.
        """
        age = time.monotonic() - self._tried_at
        known = self._known(key_id)
        # Who has a key does not wait for a reading that another call began; who has none does.
        missing = known is None and (age > self._cooldown or self._is_being_read())
        if missing or age > self._maximum_age:
            await self._read_again()
            known = self._known(key_id)
        if not self._keys:
            raise dependency_unavailable()
        return known

    def _known(self, key_id: str | None) -> PyJWK | None:
        if key_id is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(key_id)

    def _is_being_read(self) -> bool:
        return self._reading is not None and not self._reading.done()

    async def _read_again(self) -> None:
        """Reads the set, or waits for the reading that another call began.

        A call that is given up leaves it to the others: they would take their keys for unknown.
        """
        if self._reading is None or self._reading.done():
            self._tried_at = time.monotonic()
            self._reading = begun_apart(self._read(), "key set")
        await asyncio.shield(self._reading)

    async def _read(self) -> None:
        try:
            self._keys = _parse(await self._source())
        except (httpx.HTTPError, OSError, ValueError, RecursionError):
            # The keys that are known stay good: an issuer that is down for a while signs nobody
            # out.
            _log.warning("an issuer's key set could not be read", exc_info=True)


def key_set_of(issuer: TrustedIssuer, client: httpx.AsyncClient) -> KeySet:
    """The key set that a trusted issuer's settings name."""
    if issuer.jwks_file is not None:
        path: Path = issuer.jwks_file

        async def read() -> str:
            return await asyncio.to_thread(path.read_text)

        return KeySet(read, cooldown=0.0, maximum_age=_COOLDOWN)

    url = str(issuer.jwks_url)

    async def fetch() -> str:
        answer = await client.get(url, timeout=_FETCH_TIMEOUT)
        return answer.raise_for_status().text

    return KeySet(fetch, cooldown=_COOLDOWN, maximum_age=_MAXIMUM_AGE)


def _parse(text: str) -> dict[str | None, PyJWK]:
    """The keys of a JWK Set that tokens can be verified with, by their ids.

    Raises:
        ValueError: it is no JWK Set.
    """
    key_set = json.loads(text)
    listed = key_set.get("keys") if isinstance(key_set, dict) else None
    if not isinstance(listed, list):
        raise ValueError("not a JWK Set")
    usable = (key for jwk in listed if (key := _usable(jwk)) is not None)
    return {key.key_id: key for key in usable}


def _usable(jwk: object) -> PyJWK | None:
    """The key of a JWK; None when tokens cannot be verified with it.

    An issuer lists keys of other kinds and for other uses, too: RFC 7517, section 5, has them left
    out, each by itself.
    """
    if not isinstance(jwk, dict) or jwk.get("use", "sig") != "sig":
        return None
    if not isinstance(jwk.get("kid"), str | None):
        return None
    try:
        return PyJWK(jwk)
    except (PyJWTError, TypeError, ValueError, LookupError) as error:
        # The kind of failure, and not its text, which quotes the key.
        _log.debug("a key of an issuer is left out", extra={"cause": type(error).__name__})
        return None
