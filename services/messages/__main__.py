"""The messages service as a program: `python -m services.messages [migrate | keys …]`."""

import sys
from pathlib import Path
from typing import Annotated

from inglenook.messages.v1 import messages_pb2
from inglenook.sessions.v1.sessions_pb2_grpc import SessionsServiceStub
from pydantic import Field

from services.messages.conversations import Conversations
from services.messages.service import Messages
from services.messages.store import DATA_KEYS, MessageStore
from services.runtime.cursors import Cursors, read_token_key
from services.runtime.database import Database
from services.runtime.encryption.data_keys import DataKeys
from services.runtime.encryption.providers import key_provider
from services.runtime.feed import Feeds
from services.runtime.peers import channel_to
from services.runtime.program import Program, commands_of
from services.runtime.server import Implementation, serve
from services.runtime.settings import ServiceSettings
from services.runtime.wakeups import Wakeups

_SERVICE = messages_pb2.DESCRIPTOR.services_by_name["MessagesService"]
_WAKEUPS = "inglenook_messages"


class MessagesSettings(ServiceSettings):
    """What the messages service needs to run."""

    token_key_file: Path
    """The key of page and resume tokens: 32 bytes in base64, the same for all replicas."""
    sessions_address: Annotated[str, Field(min_length=1)]
    """Where the sessions service answers."""


async def run(settings: MessagesSettings) -> None:
    """Serves messages until told to stop."""
    provider = key_provider(settings)
    cursors = Cursors(read_token_key(settings.token_key_file))
    feeds = Feeds()
    async with (
        Database(
            settings.database_url, pool_size=settings.database_pool, name="messages"
        ) as database,
        channel_to(settings.sessions_address) as sessions,
        Wakeups(database, _WAKEUPS, feeds.wake) as wakeups,
    ):
        keys = DataKeys(database, DATA_KEYS, provider)
        await keys.prepare()
        conversations = Conversations(MessageStore(database), keys, SessionsServiceStub(sessions))
        messages = Messages(conversations, feeds, wakeups, cursors)
        await serve(settings, Implementation(_SERVICE, messages, feeds.stop))


def main() -> None:
    """Runs the command that the program was started with."""
    parser, _ = commands_of("messages")
    Program("messages", MessagesSettings, run, DATA_KEYS).main(parser, sys.argv[1:])


if __name__ == "__main__":
    main()
