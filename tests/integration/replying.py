"""A service that replies in a person's conversation, and a client that reads along."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import grpc
import pytest
from inglenook.messages.v1.messages_pb2 import (
    GetMessageRequest,
    Message,
    MessageChange,
    MessageState,
    StopMessageRequest,
    StreamMessageHeader,
    StreamMessageRequest,
    WatchMessagesRequest,
    WatchMessagesResponse,
)
from inglenook.messages.v1.messages_pb2_grpc import MessagesServiceStub

from local.stack import Stack
from services.runtime.service_tokens import ServiceTokens
from tests.integration.calls import Person, Refused, refusal_over_grpc

GROWING = MessageState.MESSAGE_STATE_GROWING
COMPLETE = MessageState.MESSAGE_STATE_COMPLETE
INTERRUPTED = MessageState.MESSAGE_STATE_INTERRUPTED
STOPPED = MessageState.MESSAGE_STATE_STOPPED


class Replying:
    """A service that replies in one person's session, and the person who watches."""

    def __init__(
        self, stack: Stack, responder: ServiceTokens, alice: Person, name: str = "alice"
    ) -> None:
        self.stack = stack
        self._responder = responder
        self.session = alice.new_session()
        self.person = UUID(alice.call("GET", "/v1/me")["user"]["userId"])
        self.as_person = (("authorization", f"Bearer {stack.token(name)}"),)
        self._channels: dict[int, grpc.aio.Channel] = {}

    def stub(self, port: int = 0) -> Any:  # noqa: ANN401 - async, which its type does not say
        port = port or self.stack.ports.messages
        if port not in self._channels:
            self._channels[port] = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        return MessagesServiceStub(self._channels[port])

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close()

    def call(
        self, *, port: int = 0, acting_for: UUID | None = None
    ) -> "grpc.aio.StreamUnaryCall[Any, Any]":
        metadata = self.as_service(acting_for or self.person)
        call: grpc.aio.StreamUnaryCall[Any, Any] = self.stub(port).StreamMessage(
            metadata=metadata, timeout=60
        )
        return call

    def as_service(self, acting_for: UUID) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self._responder.token(acting_for=acting_for)}"),)

    async def begin(
        self,
        message_id: str,
        *texts: str,
        offset: int = 0,
        port: int = 0,
        model: str = "",
        after: int = 0,
    ) -> "grpc.aio.StreamUnaryCall[Any, Any]":
        call = self.call(port=port)
        header = StreamMessageHeader(
            session_id=self.session,
            message_id=message_id,
            offset=offset,
            model=model,
            after_sequence=after,
        )
        await call.write(StreamMessageRequest(header=header))
        for text in texts:
            await call.write(StreamMessageRequest(text=text))
        return call

    async def complete(self, message_id: str, *texts: str, offset: int = 0) -> Message:
        call = await self.begin(message_id, *texts, offset=offset)
        await call.done_writing()
        message: Message = (await call).message
        return message

    async def refused(self, call: Any) -> Refused:  # noqa: ANN401 - a call
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        return refusal_over_grpc(refused.value)

    async def stop(self, message_id: str, *, port: int = 0) -> Message:
        request = StopMessageRequest(session_id=self.session, message_id=message_id)
        answer = await self.stub(port).StopMessage(request, metadata=self.as_person)
        message: Message = answer.message
        return message

    async def get(self, message_id: str, *, port: int = 0) -> Message:
        request = GetMessageRequest(session_id=self.session, message_id=message_id)
        answer = await self.stub(port).GetMessage(request, metadata=self.as_person)
        message: Message = answer.message
        return message

    async def get_when(
        self, message_id: str, *, length: int = -1, longer_than: int = 50_000, state: int = 0
    ) -> Message:
        """The message, once it has a length, or is longer than one, or has a state."""
        async with asyncio.timeout(60):
            while True:
                message = await self._get_if_there(message_id)
                got = len(message.content) if message else -2
                if message and (message.state == state or got == length or got > longer_than):
                    return message
                await asyncio.sleep(0.05)

    async def _get_if_there(self, message_id: str) -> Message | None:
        try:
            return await self.get(message_id)
        except grpc.aio.AioRpcError as error:
            # Not there yet; or the service is not, for a moment.
            if error.code() not in {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE}:
                raise
            return None

    async def watch(self, *, port: int = 0, token: str = "") -> AsyncIterator[MessageChange]:
        request = WatchMessagesRequest(session_id=self.session, resume_token=token)
        call = self.stub(port).WatchMessages(request, metadata=self.as_person)
        try:
            frame: WatchMessagesResponse
            async for frame in call:
                for change in frame.changes:
                    yield change
        finally:
            call.cancel()


class Reader:
    """Applies changes as a client would: deltas only where they fit."""

    def __init__(self) -> None:
        self.content = ""
        self.states: list[int] = []
        self.deltas = 0

    async def until(self, content: str) -> None:
        """Waits until it has read a text."""
        async with asyncio.timeout(60):
            while self.content != content:  # noqa: ASYNC110 - whoever reads tells nobody
                await asyncio.sleep(0.02)

    def apply(self, change: MessageChange) -> None:
        if change.HasField("delta"):
            assert change.delta.offset == len(self.content)
            self.content += change.delta.text
            self.deltas += 1
        else:
            self.content = change.upserted.content
            self.states.append(change.upserted.state)


async def read(
    replying: Replying, reader: Reader, *, until: int, port: int = 0, token: str = ""
) -> None:
    async with asyncio.timeout(60):
        async for change in replying.watch(port=port, token=token):
            reader.apply(change)
            if reader.states[-1] == until:
                return
