"""The end of growing messages whose writer vanished, whichever process it was at."""

import asyncio
import logging

from inglenook.messages.v1.messages_pb2 import MessageState
from psycopg import Error

from services.messages.ending import Ending
from services.messages.growth import GrowthStore, OverdueRow
from services.messages.tables import Conversation
from services.runtime.background import ended

_log = logging.getLogger(__name__)

_LOOK_SECONDS = 2.0


class Interruption:
    """Interrupts what nobody writes any more. Every process looks; the first one does it.

    Use as `async with`.
    """

    def __init__(self, growth: GrowthStore, ending: Ending) -> None:
        """Takes where growing messages are, and what ends them."""
        self._growth = growth
        self._ending = ending
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Interruption":
        self._task = asyncio.create_task(self._run(), name="writers overdue")
        return self

    async def __aexit__(self, *_exc: object) -> None:
        if self._task is not None:
            await ended(self._task)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                for row in await self._growth.overdue():
                    await self._try(row)
            except Error:
                _log.warning("overdue writers cannot be looked for; trying again", exc_info=True)

    async def _try(self, row: OverdueRow) -> None:
        """Ends a message with what was stored of it, unless its writer is heard of meanwhile.

        One that cannot be ended is left alone for a while: it must not keep the others from it.
        """
        conversation = Conversation(row.session_id, row.user_id)
        failure: Exception | None = None
        try:
            if await self._ending.end(conversation, row, MessageState.MESSAGE_STATE_INTERRUPTED):
                return
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one, the others must end
            failure = error
        if await self._growth.put_off(conversation, row.message_id):
            extra = {"session_id": str(row.session_id), "message_id": str(row.message_id)}
            _log.error("a message cannot be interrupted", extra=extra, exc_info=failure)
