"""The sessions that people are in, compared with what the sessions service has.

A session may be deleted, and its person's row know that, while it is asked about: so whoever seems
to be in one that is gone is looked at once more.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

from inglenook.sessions.v1.sessions_pb2_grpc import SessionsServiceStub
from sqlalchemy import ARRAY, BigInteger, Uuid, any_, bindparam, select

from services.runtime.checks import Comparison, DifferenceRow
from services.runtime.database import Database, statement
from services.runtime.peers import channel_to
from services.runtime.service_tokens import ServiceTokens
from services.runtime.session_standings import AT_ONCE, gone
from services.users.settings import UsersSettings
from services.users.store import USERS


@dataclass(frozen=True, slots=True)
class _PointerRow:
    user_id: UUID
    current_session_id: UUID


_USER = USERS.c
_pointers = select(_USER.user_id, _USER.current_session_id).where(
    _USER.current_session_id.is_not(None)
)
_PAGE = statement(
    _pointers.where(_USER.user_id > bindparam("after", type_=Uuid))
    .order_by(_USER.user_id)
    .limit(bindparam("limit", type_=BigInteger)),
    _PointerRow,
)
_THESE = statement(
    _pointers.where(_USER.user_id == any_(bindparam("people", type_=ARRAY(Uuid)))), _PointerRow
)


@asynccontextmanager
async def compared_by_users(
    settings: UsersSettings, database: Database
) -> AsyncIterator[Sequence[Comparison]]:
    """What is always so between people and sessions."""
    tokens = ServiceTokens.of(settings, "users")
    async with channel_to("sessions", settings.sessions_address, settings) as channel:
        sessions = SessionsServiceStub(channel)

        async def dangling() -> AsyncIterator[DifferenceRow]:
            after = UUID(int=0)
            while True:
                page = await database.all(_PAGE, {"after": after, "limit": AT_ONCE})
                named = [(row.user_id, row.current_session_id) for row in page]
                lost = await gone(sessions, tokens, named) if named else set()
                # What was told by then is in their rows.
                people = {"people": [person for person, _ in lost]}
                for row in await database.all(_THESE, people) if lost else ():
                    if (row.user_id, row.current_session_id) in lost:
                        yield DifferenceRow(f"{row.user_id} in {row.current_session_id}", 1, 0)
                if len(page) < AT_ONCE:
                    return
                after = page[-1].user_id

        yield (Comparison("the session that a person is in is there", dangling),)
