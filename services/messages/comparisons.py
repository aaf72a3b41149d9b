"""The conversations that there are, compared with the sessions that the sessions service has.

A conversation may be deleted while its session is asked about: so one that seems to have none is
looked at once more.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

from inglenook.sessions.v1.sessions_pb2_grpc import SessionsServiceStub
from sqlalchemy import BigInteger, Uuid, bindparam, select, tuple_

from services.messages.settings import MessagesSettings
from services.messages.tables import CONVERSATIONS, OUTBOX
from services.runtime.checks import Comparison, DifferenceRow
from services.runtime.database import Database, statement
from services.runtime.peers import channel_to
from services.runtime.service_tokens import ServiceTokens
from services.runtime.session_standings import AT_ONCE, gone


@dataclass(frozen=True, slots=True)
class _ConversationRow:
    session_id: UUID
    user_id: UUID
    message_count: int


_CONVERSATION = CONVERSATIONS.c
_key = tuple_(_CONVERSATION.session_id, _CONVERSATION.user_id)
_alive = select(_CONVERSATION.session_id, _CONVERSATION.user_id, _CONVERSATION.message_count).where(
    _CONVERSATION.delete_time.is_(None)
)
_PAGE = statement(
    _alive.where(
        _key > tuple_(bindparam("after_session", type_=Uuid), bindparam("after_user", type_=Uuid))
    )
    .order_by(_CONVERSATION.session_id, _CONVERSATION.user_id)
    .limit(bindparam("limit", type_=BigInteger)),
    _ConversationRow,
)
_named = OUTBOX.named()
_THESE = statement(
    _alive.where(_key.in_(select(_named.c.session_id, _named.c.user_id))), _ConversationRow
)


@asynccontextmanager
async def compared_by_messages(
    settings: MessagesSettings, database: Database
) -> AsyncIterator[Sequence[Comparison]]:
    """What is always so between conversations and sessions."""
    tokens = ServiceTokens.of(settings, "messages")
    async with channel_to("sessions", settings.sessions_address, settings) as channel:
        sessions = SessionsServiceStub(channel)

        async def orphans() -> AsyncIterator[DifferenceRow]:
            after_session = after_user = UUID(int=0)
            while True:
                place = {"after_session": after_session, "after_user": after_user}
                page = await database.all(_PAGE, {**place, "limit": AT_ONCE})
                named = [(row.user_id, row.session_id) for row in page]
                lost = await gone(sessions, tokens, named) if named else set()
                # What was told by then is in their rows.
                ids = {
                    "session_ids": [session for _, session in lost],
                    "user_ids": [person for person, _ in lost],
                }
                for row in await database.all(_THESE, ids) if lost else ():
                    yield DifferenceRow(f"{row.session_id}/{row.user_id}", row.message_count, 0)
                if len(page) < AT_ONCE:
                    return
                after_session, after_user = page[-1].session_id, page[-1].user_id

        yield (Comparison("every conversation is of a session that is there", orphans),)
