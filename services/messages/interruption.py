"""The end of growing messages whose writer vanished, whichever process it was at."""

import asyncio
import logging

from inglenook.messages.v1.messages_pb2 import MessageChange, MessageState
from psycopg import Error

from services.messages.body import body_alone, message_of, place_of, sealable
from services.messages.conversations import Conversations
from services.messages.growth import GrowthStore, OverdueRow
from services.messages.tables import Conversation
from services.runtime.encryption.data_keys import DataKeys

_log = logging.getLogger(__name__)

_LOOK_SECONDS = 2.0


class Interruption:
    """Interrupts what nobody writes any more. Every process looks; the first one does it."""

    def __init__(self, conversations: Conversations, keys: DataKeys, growth: GrowthStore) -> None:
        """Takes what opens messages, what seals them, and where growing ones are."""
        self._conversations = conversations
        self._keys = keys
        self._growth = growth

    async def run(self) -> None:
        """Looks now and then, for ever."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                overdue = await self._growth.overdue()
            except Error:
                _log.warning("overdue writers cannot be looked for; trying again", exc_info=True)
                continue
            for row in overdue:
                await self._try(row)

    async def _try(self, row: OverdueRow) -> None:
        try:
            await self._interrupt(row)
        except Exception:  # noqa: BLE001 - whatever is wrong with one, the others must end
            extra = {"session_id": str(row.session_id), "message_id": str(row.message_id)}
            _log.exception("a message cannot be interrupted", extra=extra)

    async def _interrupt(self, row: OverdueRow) -> None:
        """Ends a message with what was stored of it, unless its writer is heard of meanwhile."""
        conversation = Conversation(row.session_id, row.user_id)
        (held,) = await self._conversations.opener.messages(conversation, [row])
        if held is None:
            return  # It has ended since it was found.
        body = sealable(body_alone(held))
        keyring = await self._keys.sealing(conversation.scope)
        if keyring is None:
            return  # The conversation was erased meanwhile, and the message goes with it.
        ended = await self._growth.end(
            conversation,
            row.message_id,
            length=len(held.content),
            body=keyring.seal(body, place_of(conversation, row.message_id)),
            state=MessageState.MESSAGE_STATE_INTERRUPTED,
            writer=None,
        )
        if ended is not None:
            change = MessageChange(upserted=message_of(conversation, ended, body))
            self._conversations.changed(conversation, change, ended.revision)
