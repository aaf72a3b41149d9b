"""Calling a method of the contract: signed in, in time, repeated where that is safe."""

import asyncio
import itertools
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Awaitable,
    Callable,
    Iterable,
)
from dataclasses import dataclass
from typing import Generic, TypeVar

from google.protobuf.message import Message
from grpc import aio

from inglenook_client.backoff import Backoff
from inglenook_client.errors import InglenookError
from inglenook_client.tokens import Tokens
from inglenook_client.uploads import uploaded

Request = TypeVar("Request", bound=Message)
Answer = TypeVar("Answer", bound=Message)
_Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Method(Generic[Request, Answer]):
    """A method of the contract."""

    path: str
    request: type[Request]
    answer: type[Answer]
    repeatable: bool
    """Whether calling it twice with the same request is as calling it once."""


class Calls:
    """Calls methods over one channel, as one person."""

    def __init__(
        self, channel: aio.Channel, tokens: Tokens, *, timeout: float, backoff: Backoff
    ) -> None:
        """Takes for how many seconds a call may last, its repetitions among them."""
        self._channel = channel
        self._tokens = tokens
        self._timeout = timeout
        self._backoff = backoff

    async def unary(self, method: Method[Request, Answer], request: Request) -> Answer:
        """A call's answer.

        What fails for a while is tried again until the time is over: where that is safe, and where
        the server says that nothing was changed.

        Raises:
            InglenookError: it was refused, or went on failing.
        """
        call = self._channel.unary_unary(
            method.path,
            request_serializer=method.request.SerializeToString,
            response_deserializer=method.answer.FromString,
        )
        ends = asyncio.get_running_loop().time() + self._timeout

        def attempt(metadata: _Metadata) -> Awaitable[Answer]:
            left = ends - asyncio.get_running_loop().time()
            return call(request, metadata=metadata, timeout=max(left, 0.0))

        for failures in itertools.count(1):
            try:
                return await self._signed_in(attempt)
            except InglenookError as error:
                wait = max(self._backoff.wait(failures), error.retry_delay or 0.0)
                over = asyncio.get_running_loop().time() + wait >= ends
                if over or not _can_be_repeated(method, error):
                    raise
            await asyncio.sleep(wait)
        raise AssertionError("counting does not end")

    async def upload(
        self, method: Method[Request, Answer], requests: Iterable[Request] | AsyncIterable[Request]
    ) -> Answer:
        """The answer to a stream of requests, which is sent once.

        Raises:
            InglenookError: it was refused, or broken off.
            Exception: what giving the requests failed of; the server gets no end of them.
        """
        open_call = self._channel.stream_unary(
            method.path,
            request_serializer=method.request.SerializeToString,
            response_deserializer=method.answer.FromString,
        )
        token = await self._tokens.get()
        try:
            return await uploaded(open_call(metadata=_metadata(token)), requests)
        except aio.AioRpcError as error:
            raise self._failure(error, token) from None

    async def stream(
        self, method: Method[Request, Answer], request: Request
    ) -> AsyncGenerator[Answer, None]:
        """What comes on a stream, until it ends.

        Raises:
            InglenookError: it was refused, or broken off.
        """
        call = self._channel.unary_stream(
            method.path,
            request_serializer=method.request.SerializeToString,
            response_deserializer=method.answer.FromString,
        )
        for last in (False, True):
            token = await self._tokens.get()
            frames = call(request, metadata=_metadata(token))
            begun = False
            try:
                async for frame in frames:
                    begun = True
                    yield frame
            except aio.AioRpcError as error:
                failure = self._failure(error, token)
                if begun or last or failure.remedy != "token":
                    raise failure from None
            else:
                return
            finally:
                frames.cancel()

    async def _signed_in(self, call: Callable[[_Metadata], Awaitable[Answer]]) -> Answer:
        """A call's answer. If it was refused for its token, it is made once more with another."""
        for last in (False, True):
            token = await self._tokens.get()
            try:
                return await call(_metadata(token))
            except aio.AioRpcError as error:
                failure = self._failure(error, token)
                if last or failure.remedy != "token":
                    raise failure from None
        raise AssertionError("the last call neither answers nor raises")

    def _failure(self, error: aio.AioRpcError, token: str) -> InglenookError:
        failure = InglenookError.from_rpc(error)
        if failure.remedy == "token":
            self._tokens.refuse(token)
        return failure


def _metadata(token: str) -> _Metadata:
    return (("authorization", f"Bearer {token}"),)


def _can_be_repeated(method: Method[Request, Answer], error: InglenookError) -> bool:
    # With a delay the server says that it did nothing, whatever the call was.
    return error.passing and (method.repeatable or error.retry_delay is not None)
