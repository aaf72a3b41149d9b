"""Who calls: the signed-in person's token, fresh where it must be."""

import asyncio
import inspect
from collections.abc import Awaitable
from typing import Protocol

from grpc import StatusCode

from inglenook_client.errors import InglenookError


class TokenProvider(Protocol):
    """Gives the signed-in person's token, or None when nobody is signed in.

    With `fresh` it must get a new one: the one that it gave last was refused, most often since it
    has expired, or would end too soon for what begins. What it raises counts as a server that does
    not answer: watches and calls that can be repeated ask it again.
    """

    def __call__(self, *, fresh: bool) -> str | Awaitable[str | None] | None:
        """The token."""


class Tokens:
    """The token for the next call. One that a server refused is not sent again."""

    def __init__(self, source: str | TokenProvider) -> None:
        """Takes a token, or who gives one whenever it is needed."""
        self._source = source
        self._refused: str | None = None
        self._renewal: asyncio.Task[str] | None = None

    async def get(self) -> str:
        """The token.

        Raises:
            InglenookError: nobody is signed in, or the provider failed.
        """
        token = await self._ask(fresh=False)
        return await self._renew() if token == self._refused else token

    def refuse(self, token: str) -> None:
        """Notes that a server did not take a token."""
        self._refused = token

    async def replace(self) -> None:
        """Has the next call bring a fresh token: for one that lasts long, and ends with its token.

        Raises:
            InglenookError: nobody is signed in, or the provider failed.
        """
        self.refuse(await self.get())

    async def _renew(self) -> str:
        """Asks once, however many calls wait for it."""
        if self._renewal is None:
            self._renewal = asyncio.create_task(self._ask(fresh=True))
            self._renewal.add_done_callback(self._renewed)
        # A call that is given up leaves the others their token.
        return await asyncio.shield(self._renewal)

    def _renewed(self, _task: asyncio.Task[str]) -> None:
        self._renewal = None

    async def _ask(self, *, fresh: bool) -> str:
        if isinstance(self._source, str):
            return self._source
        try:
            given = self._source(fresh=fresh)
            token = await given if inspect.isawaitable(given) else given
        except InglenookError:
            raise
        except Exception as error:
            raise InglenookError(
                StatusCode.UNAVAILABLE, f"The token provider failed: {type(error).__name__}."
            ) from error
        if not token:
            raise InglenookError(
                StatusCode.UNAUTHENTICATED, "Nobody is signed in.", reason="TOKEN_MISSING"
            )
        return token
