"""Replies that grow while everything breaks, and are taken up where they are."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID

import grpc
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from inglenook.messages.v1.messages_pb2 import (
    GetMessageRequest,
    StreamMessageHeader,
    StreamMessageRequest,
)
from inglenook.messages.v1.messages_pb2_grpc import MessagesServiceStub

Metadata = tuple[tuple[str, str], ...]

_AGAIN_SECONDS = 0.1
_DEADLINE_SECONDS = 20.0
# What a fault looks like; ABORTED is a call that lost its message to the one after it.
_CUT = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.ABORTED,
}


class Replier:
    """A service that replies in one conversation, each time at any process."""

    def __init__(
        self,
        session: str,
        metadata: Callable[[], Metadata],
        ports: Callable[[], int],
        chance: random.Random,
    ) -> None:
        self.texts: dict[str, str] = {}
        """By message id, what the whole reply says."""
        self.complete: set[str] = set()
        self._session = session
        self._metadata = metadata
        self._ports = ports
        self._chance = chance

    async def reply(self, count: int) -> None:
        """Generates replies one after the other; leaves about every fourth of them unfinished."""
        for _ in range(count):
            message_id = str(UUID(int=self._chance.getrandbits(128), version=4))
            self.texts[message_id] = "".join(
                f"{self._chance.getrandbits(32):x} \N{FIRE}" for _ in range(30)
            )
            if self._chance.random() < 0.25:
                await self._abandon(message_id)
            else:
                await self._finish(message_id)
                self.complete.add(message_id)

    async def _finish(self, message_id: str) -> None:
        length = 0
        while True:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{self._ports()}") as channel:
                sent = self._sent(message_id, length)
                try:
                    await self._call(channel, "StreamMessage", sent)
                except grpc.aio.AioRpcError as error:
                    stored = _stored_length(error)
                    assert stored is not None or error.code() in _CUT, error  # noqa: PT017
                    length = length if stored is None else stored
                else:
                    return
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _abandon(self, message_id: str) -> None:
        """Begins a reply, and vanishes once some of it is stored."""
        while True:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{self._ports()}") as channel:
                call = self._call(channel, "StreamMessage", self._sent(message_id, 0, ends=False))
                if await self._is_there(message_id):
                    call.cancel()
                    return
                call.cancel()
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _is_there(self, message_id: str) -> bool:
        request = GetMessageRequest(session_id=self._session, message_id=message_id)
        for _ in range(20):
            async with grpc.aio.insecure_channel(f"127.0.0.1:{self._ports()}") as channel:
                try:
                    await self._call(channel, "GetMessage", request)
                except grpc.aio.AioRpcError as error:
                    known = error.code() in _CUT | {grpc.StatusCode.NOT_FOUND}
                    assert known, error  # noqa: PT017 - others are caught
                else:
                    return True
            await asyncio.sleep(_AGAIN_SECONDS)
        return False

    async def _sent(
        self, message_id: str, length: int, *, ends: bool = True
    ) -> AsyncIterator[StreamMessageRequest]:
        yield StreamMessageRequest(
            header=StreamMessageHeader(
                session_id=self._session, message_id=message_id, offset=length
            )
        )
        text = self.texts[message_id][length:]
        while text:
            step = self._chance.randint(1, 20)
            yield StreamMessageRequest(text=text[:step])
            text = text[step:]
            await asyncio.sleep(self._chance.uniform(0, 0.03))
        if not ends:
            await asyncio.sleep(_DEADLINE_SECONDS)

    def _call(
        self,
        channel: grpc.aio.Channel,
        method: str,
        sent: Any,  # noqa: ANN401 - a request, or a stream of them
    ) -> Any:  # noqa: ANN401 - a call
        call = getattr(MessagesServiceStub(channel), method)
        return call(sent, metadata=self._metadata(), timeout=_DEADLINE_SECONDS)


def _stored_length(error: grpc.aio.AioRpcError) -> int | None:
    """The length that a refusal names, if it is one about the length."""
    details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin")
    info = ErrorInfo()
    if isinstance(details, bytes):
        for detail in Status.FromString(details).details:
            if detail.Unpack(info) and info.reason == "OFFSET_WRONG":
                return int(info.metadata["length"])
    return None
