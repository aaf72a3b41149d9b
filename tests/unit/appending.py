"""An append, for what is done with it short of a database."""

import asyncio
from uuid import uuid4

from inglenook.messages.v1.messages_pb2 import Role

from services.messages.appends import Append
from services.messages.tables import Conversation


def an_append() -> Append:
    """The append of a message to a conversation of its own. It waits for nothing else."""
    return Append(
        conversation=Conversation(uuid4(), uuid4()),
        message_id=uuid4(),
        role=Role.ROLE_USER,
        body=b"",
        plaintext=b"",
        stored=asyncio.get_running_loop().create_future(),
    )
