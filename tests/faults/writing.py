"""Writers that do all that can be done to a conversation, at random, until all of it is done."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import grpc
from inglenook.messages.v1.messages_pb2 import (
    AppendMessageRequest,
    DeleteMessageRequest,
    Message,
    UpdateMessageRequest,
)
from inglenook.messages.v1.messages_pb2_grpc import MessagesServiceStub

Metadata = tuple[tuple[str, str], ...]

_AGAIN_SECONDS = 0.1
_DEADLINE_SECONDS = 10.0
NOT_ANSWERED = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.INTERNAL,  # How gRPC names a reset in the middle of an answer.
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}


class Writer:
    """Writes to one conversation, each time at any process. More kinds of steps go in `steps`."""

    def __init__(
        self, session: str, metadata: Metadata, ports: Callable[[], int], chance: random.Random
    ) -> None:
        self.attempted: dict[str, set[str]] = {}
        """By message id, the contents that it may have had."""
        self.acknowledged: set[str] = set()
        """The messages whose append was answered."""
        self.reached: dict[str, int] = {}
        """By message id, the highest revision that was answered."""
        self.deleted: set[str] = set()
        """The messages whose deletion was answered."""
        self._session = session
        self._metadata = metadata
        self._ports = ports
        self._chance = chance
        self.steps: list[tuple[int, Callable[[], Awaitable[None]]]] = [
            (6, self._append),
            (3, self._edit),
            (1, self._delete),
        ]
        """Each with how often it comes, among the others."""

    async def write(self, count: int) -> None:
        weights, steps = zip(*self.steps, strict=True)
        for _ in range(count):
            (step,) = self._chance.choices(steps, weights)
            await step()
            if self._chance.random() < 0.2:
                await asyncio.sleep(self._chance.uniform(0, 0.1))

    async def _append(self) -> None:
        message_id = str(UUID(int=self._chance.getrandbits(128), version=4))
        request = AppendMessageRequest(
            session_id=self._session, message_id=message_id, content=self._content()
        )
        self.attempted[message_id] = {request.content}
        answer = await self._until_answered("AppendMessage", request)
        self._note(answer.message)
        self.acknowledged.add(message_id)

    async def _edit(self) -> None:
        if not self.acknowledged:
            return
        message_id = self._chance.choice(sorted(self.acknowledged))
        request = UpdateMessageRequest(
            session_id=self._session, message_id=message_id, content=self._content()
        )
        self.attempted[message_id].add(request.content)
        answer = await self._until_answered("UpdateMessage", request)
        if answer is not None:
            self._note(answer.message)

    async def _delete(self) -> None:
        if not self.acknowledged:
            return
        message_id = self._chance.choice(sorted(self.acknowledged))
        request = DeleteMessageRequest(session_id=self._session, message_id=message_id)
        await self._until_answered("DeleteMessage", request)
        self.deleted.add(message_id)

    def _note(self, message: Message) -> None:
        known = self.reached.get(message.message_id, 0)
        self.reached[message.message_id] = max(known, int(message.etag, 16))

    def _content(self) -> str:
        return f"{self._chance.getrandbits(64):x} " * self._chance.choice([1, 1, 1, 20, 1000])

    async def _until_answered(self, method: str, request: Any) -> Any:  # noqa: ANN401 - any
        """Repeats a call until it is answered; None when it is refused."""
        while True:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{self._ports()}") as channel:
                call = getattr(MessagesServiceStub(channel), method)
                try:
                    return await call(request, metadata=self._metadata, timeout=_DEADLINE_SECONDS)
                except grpc.aio.AioRpcError as error:
                    if error.code() is grpc.StatusCode.NOT_FOUND and method == "UpdateMessage":
                        return None  # It was deleted before.
                    assert error.code() in NOT_ANSWERED, error  # noqa: PT017 - others are caught
            await asyncio.sleep(_AGAIN_SECONDS)
