"""Ending growing messages with what is stored of them, for others than whoever writes them."""

from inglenook.messages.v1.messages_pb2 import Message, MessageChange, MessageState

from services.messages.body import body_alone, message_of, place_of, sealable
from services.messages.conversations import Conversations
from services.messages.growth import GrowthStore
from services.messages.tables import Conversation, MessageRow
from services.runtime.encryption.data_keys import DataKeys


class Ending:
    """Ends growing messages."""

    def __init__(self, conversations: Conversations, keys: DataKeys, growth: GrowthStore) -> None:
        """Takes what opens messages, what seals them, and where growing ones are."""
        self._conversations = conversations
        self._keys = keys
        self._growth = growth

    async def end(
        self, conversation: Conversation, row: MessageRow, state: MessageState.ValueType
    ) -> Message | None:
        """Ends a message in a state; None when its row is not as it was read any more.

        It is interrupted only while its writer is overdue, see `GrowthStore.end`.
        """
        (held,) = await self._conversations.opener.messages(conversation, [row])
        if held is None:
            return None
        body = sealable(body_alone(held))
        keyring = await self._keys.sealing(conversation.scope)
        if keyring is None:
            return None  # The conversation was erased meanwhile, and the message goes with it.
        ended = await self._growth.end(
            conversation,
            row.message_id,
            length=len(held.content),
            body=keyring.seal(body, place_of(conversation, row.message_id)),
            state=state,
        )
        if ended is None:
            return None
        message = message_of(conversation, ended, body)
        change = MessageChange(upserted=message)
        self._conversations.changed(conversation, change, ended.revision)
        return message
