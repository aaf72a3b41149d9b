"""For how long a call's streams go on, whichever way they flow, and whoever reads or sends."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from uuid import UUID

from grpc import aio

from services.runtime.identity import Identity
from services.runtime.locking import LockedNow, person_locked
from services.runtime.tokens import token_expired


@dataclass(frozen=True, slots=True)
class Admission:
    """For how long a call's streams go on: until the token ends, or the person is locked."""

    ends_at: float | None
    """On the event loop's clock; None for never."""
    person: UUID | None
    locked: LockedNow

    @classmethod
    def of(cls, identity: Identity | None, locked: LockedNow) -> "Admission":
        """That of a caller."""
        return cls(_ends_at(identity), None if identity is None else identity.user_id, locked)

    async def send(
        self, frames: AsyncGenerator[Any, None], context: "aio.ServicerContext[Any, Any]"
    ) -> None:
        """Sends a handler's frames, for as long as the caller may have them.

        Sending one takes as long as the reader takes: one who reads no more holds up neither the
        end nor what the handler has to let go of then.

        Raises:
            Refusal: TOKEN_EXPIRED or PERSON_LOCKED.
        """
        # The handler is closed at once: it is not left to the garbage collector.
        async with aclosing(frames):
            async with _UntilTheEnd(self):
                first = await anext(frames, None)
            if first is None:
                return
            # By itself, and to its end: gRPC cannot end a stream that waits for its beginning to be
            # sent, alone or with the first frame. No reader can hold it up.
            await context.send_initial_metadata(())
            async with _UntilTheEnd(self):
                await context.write(first)
                async for frame in frames:
                    self.check()
                    await context.write(frame)

    async def parts_of(self, parts: AsyncIterator[Any]) -> AsyncGenerator[Any, None]:
        """The parts of a stream that may still be had.

        Raises:
            Refusal: TOKEN_EXPIRED or PERSON_LOCKED, where they end.
        """
        while True:
            # Around each part and never around the yield: a timeout that cancels the task while
            # the consumer runs would hit the consumer.
            async with _UntilTheEnd(self):
                try:
                    part = await anext(parts)
                except StopAsyncIteration:
                    return
            self.check()
            yield part

    def check(self) -> None:
        """Looks whether it is over: what is ready at once is not held up by any timeout.

        Raises:
            Refusal: TOKEN_EXPIRED or PERSON_LOCKED.
        """
        if self.ends_at is not None and self.ends_at <= asyncio.get_running_loop().time():
            raise token_expired()
        if self.person in self.locked:
            raise person_locked()


class _UntilTheEnd:
    """Ends what waits in the block when the token does, or when the person is locked.

    Raises:
        Refusal: TOKEN_EXPIRED or PERSON_LOCKED.
    """

    # No generator with `asynccontextmanager`: it is memory of every idle stream.
    __slots__ = ("_admission", "_limit")

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._limit = asyncio.timeout_at(admission.ends_at)

    async def __aenter__(self) -> None:
        self._admission.check()
        await self._limit.__aenter__()
        self._admission.locked.limit(self._limit, self._admission.person)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._admission.locked.forget(self._limit)
        try:
            await self._limit.__aexit__(kind, error, where)
        except TimeoutError:
            self._admission.check()
            # Or the person was locked and is not any more: they may come again just as well.
            raise token_expired() from None


def _ends_at(identity: Identity | None) -> float | None:
    """When a call's streams end, on the event loop's clock; None for never."""
    if identity is None or identity.expires_at == float("inf"):
        return None
    return asyncio.get_running_loop().time() + (identity.expires_at - time.time())
