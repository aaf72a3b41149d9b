"""The main job with the typed client: open a conversation, watch it, say something.

Run it beside `make run`: `.venv/bin/python examples/first_conversation.py "$TOKEN" [URL]`.
"""

import asyncio
import sys
from contextlib import aclosing

from inglenook_client import Inglenook


async def converse(token: str, url: str = "http://localhost:8080") -> None:
    """Says two things in a new conversation, and prints each as it arrives."""
    async with Inglenook(url, token=token) as inglenook:
        opened = await inglenook.sessions.create_session(title="A first talk")
        session_id = opened.session.session_id
        async with aclosing(inglenook.watch_messages(session_id)) as live:
            await anext(live)
            for line in ("It has been a long day.", "I would like to talk about it."):
                await inglenook.messages.append_message(session_id=session_id, content=line)
                heard = (await anext(live)).messages[-1]
                print(f"{heard.sequence}: {heard.content}")


if __name__ == "__main__":
    asyncio.run(converse(*sys.argv[1:]))
