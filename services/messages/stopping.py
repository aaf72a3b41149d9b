"""StopMessage: a person ends a growing message where it stands."""

from uuid import UUID

from inglenook.messages.v1.messages_pb2 import Message, MessageState

from services.messages.conversations import Conversations
from services.messages.ending import Ending
from services.messages.tables import Conversation


class Stopping:
    """Stops growing messages, whichever process they are written at."""

    def __init__(self, conversations: Conversations, ending: Ending) -> None:
        """Takes what reads messages, and what ends them."""
        self._conversations = conversations
        self._ending = ending

    async def stop(self, conversation: Conversation, message_id: UUID) -> Message:
        """Ends a message with what is stored of it; gives it as it is when it has ended already.

        Raises:
            Refusal: SESSION_NOT_FOUND or MESSAGE_NOT_FOUND.
        """
        while True:
            row = await self._conversations.row(conversation, message_id)
            if not row.grows:
                return await self._conversations.message(conversation, row)
            ending = self._ending.end(conversation, row, MessageState.MESSAGE_STATE_STOPPED)
            stopped = await self._conversations.opened(conversation, ending)
            if stopped is not None:
                return stopped
            # It has grown or ended since it was read.
