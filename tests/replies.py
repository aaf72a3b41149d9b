"""A reply as a service streams it, piece by piece, for tests that are not asynchronous."""

import queue
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import grpc
from inglenook.messages.v1.messages_pb2 import StreamMessageHeader, StreamMessageRequest
from inglenook.messages.v1.messages_pb2_grpc import MessagesServiceStub

from local.stack import Stack
from services.runtime.service_tokens import ServiceTokens


class Reply:
    """A message of the assistant that grows in one person's session."""

    def __init__(
        self,
        stack: Stack,
        responder: ServiceTokens,
        *,
        person: UUID,
        session: str,
        message_id: str = "",
        offset: int = 0,
    ) -> None:
        """Begins it, or takes it up again where its stored text ends."""
        self.message_id = message_id or str(uuid4())
        header = StreamMessageHeader(session_id=session, message_id=self.message_id, offset=offset)
        self._parts: queue.SimpleQueue[StreamMessageRequest | None] = queue.SimpleQueue()
        self._parts.put(StreamMessageRequest(header=header))
        self._channel = grpc.insecure_channel(stack.ports.address("messages"))
        stub: Any = MessagesServiceStub(self._channel)
        token = responder.token(acting_for=person)
        self._call = stub.StreamMessage.future(
            self._requests(), metadata=(("authorization", f"Bearer {token}"),), timeout=120
        )

    def say(self, text: str) -> None:
        """Adds text."""
        self._parts.put(StreamMessageRequest(text=text))

    def finish(self) -> None:
        """Completes the message, and waits until it is stored."""
        self._parts.put(None)
        self._call.result()
        self._channel.close()

    def vanish(self) -> None:
        """Breaks off, as a service that crashed."""
        self._channel.close()
        self._parts.put(None)

    def _requests(self) -> Iterator[StreamMessageRequest]:
        while (part := self._parts.get()) is not None:
            yield part
