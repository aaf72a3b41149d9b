"""The main job with the typed client: open a conversation, watch it, say something.

Run it beside `make run`: `.venv/bin/python examples/first_conversation.py "$TOKEN" [host:port]`.
"""

import asyncio
import sys
from typing import Any

import grpc
from inglenook.messages.v1.messages_pb2 import AppendMessageRequest, WatchMessagesRequest
from inglenook.messages.v1.messages_pb2_grpc import MessagesServiceStub
from inglenook.sessions.v1.sessions_pb2 import CreateSessionRequest
from inglenook.sessions.v1.sessions_pb2_grpc import SessionsServiceStub


async def converse(token: str, gateway: str) -> None:
    """Says two things in a new conversation, and prints them as they arrive."""
    metadata = (("authorization", f"Bearer {token}"),)
    async with grpc.aio.insecure_channel(gateway) as channel:
        sessions, messages = SessionsServiceStub(channel), MessagesServiceStub(channel)
        opened = await sessions.CreateSession(
            CreateSessionRequest(title="A first talk"), metadata=metadata
        )
        session_id = opened.session.session_id
        watch: Any = messages.WatchMessages(
            WatchMessagesRequest(session_id=session_id), metadata=metadata
        )
        for line in ("It has been a long day.", "I would like to talk about it."):
            await messages.AppendMessage(
                AppendMessageRequest(session_id=session_id, content=line), metadata=metadata
            )
        seen = 0
        async for frame in watch:
            for change in frame.changes:
                seen += 1
                print(f"{change.upserted.sequence}: {change.upserted.content}")
            if seen == 2:  # noqa: PLR2004 - as many as were said
                watch.cancel()
                return


if __name__ == "__main__":
    asyncio.run(converse(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "localhost:8080"))  # noqa: PLR2004
