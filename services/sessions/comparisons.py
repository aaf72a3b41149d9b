"""What sessions know and told, compared with what the messages and the users service have of it.

All go on changing meanwhile. So a session is read after the other service was asked: what was told
by then is in its row. What is in its row may be newer than the answer, though: where the two
differ, both are looked at again, and what changed in between is looked at once more.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Generic, Protocol, TypeVar
from uuid import UUID

from inglenook.messages.v1.messages_pb2 import (
    ConversationName,
    ConversationStanding,
    DescribeConversationsRequest,
)
from inglenook.messages.v1.messages_pb2_grpc import MessagesServiceStub
from inglenook.users.v1.users_pb2 import DescribeHoldsRequest, HoldName, HoldStanding
from inglenook.users.v1.users_pb2_grpc import UsersServiceStub
from sqlalchemy import BigInteger, Uuid, bindparam, literal, select, tuple_

from services.runtime.checks import Comparison, DifferenceRow
from services.runtime.database import Database, statement
from services.runtime.peers import TIMEOUT, as_service, channel_to
from services.runtime.service_tokens import ServiceTokens
from services.sessions.settings import SessionsSettings
from services.sessions.store import OUTBOX, SESSIONS

_AT_ONCE = 500
_LOOKS = 5
_NIL = UUID(int=0)
_Name = tuple[UUID, UUID]
"""A person, and a session of theirs."""


@dataclass(frozen=True, slots=True)
class _KnownRow:
    user_id: UUID
    session_id: UUID
    message_count: int
    activity_revision: int
    """The conversation's, as of which the count was told."""
    is_deleted: bool
    is_held: bool
    owes: bool
    """Whether others are still to be told of it."""


_SESSION, _OWED = SESSIONS.c, OUTBOX.table.c
_owes = (
    select(literal(1))
    .where(
        _OWED.user_id == _SESSION.user_id,
        _OWED.session_id == _SESSION.session_id,
        _OWED.set_aside_time.is_(None),
    )
    .exists()
)
_known = select(
    _SESSION.user_id,
    _SESSION.session_id,
    _SESSION.message_count,
    _SESSION.activity_revision,
    _SESSION.delete_time.is_not(None).label("is_deleted"),
    _SESSION.is_held,
    _owes.label("owes"),
)
_PAGE = statement(
    _known.where(
        tuple_(_SESSION.user_id, _SESSION.session_id)
        > tuple_(bindparam("after_user", type_=Uuid), bindparam("after_session", type_=Uuid))
    )
    .order_by(_SESSION.user_id, _SESSION.session_id)
    .limit(bindparam("limit", type_=BigInteger)),
    _KnownRow,
)
_named = OUTBOX.named()
_THESE = statement(
    _known.where(
        tuple_(_SESSION.user_id, _SESSION.session_id).in_(
            select(_named.c.user_id, _named.c.session_id)
        )
    ),
    _KnownRow,
)


@asynccontextmanager
async def compared_by_sessions(
    settings: SessionsSettings, database: Database
) -> AsyncIterator[Sequence[Comparison]]:
    """What is always so between sessions, conversations and people."""
    tokens = ServiceTokens.of(settings, "sessions")
    async with (
        channel_to("messages", settings.messages_address, settings) as to_messages,
        channel_to("users", settings.users_address, settings) as to_users,
    ):
        messages, users = MessagesServiceStub(to_messages), UsersServiceStub(to_users)

        async def conversations(named: Sequence[_Name]) -> Sequence[ConversationStanding]:
            request = DescribeConversationsRequest(
                conversations=[
                    ConversationName(user_id=str(person), session_id=str(session))
                    for person, session in named
                ]
            )
            answer = await messages.DescribeConversations(
                request, timeout=TIMEOUT, metadata=as_service(tokens)
            )
            return answer.conversations

        async def holds(named: Sequence[_Name]) -> Sequence[HoldStanding]:
            request = DescribeHoldsRequest(
                sessions=[
                    HoldName(user_id=str(person), session_id=str(session))
                    for person, session in named
                ]
            )
            metadata = as_service(tokens)
            return (await users.DescribeHolds(request, timeout=TIMEOUT, metadata=metadata)).holds

        of_messages, of_users = _Compared(database, conversations), _Compared(database, holds)
        yield (
            Comparison(
                "a session knows how many messages its conversation has: none once it is deleted",
                partial(of_messages.differences, _difference_of_counts),
            ),
            Comparison(
                "a conversation knows whether its session is under a legal hold",
                partial(of_messages.differences, _difference_of_holds),
            ),
            Comparison(
                "who erases people knows which sessions are under a legal hold",
                partial(of_users.differences, _difference_of_keeping),
            ),
        )


class _Standing(Protocol):
    """How another service says that something of a session stands there."""

    settled: bool
    """Whether the sessions service was told all of it."""


Standing = TypeVar("Standing", bound=_Standing)


@dataclass(frozen=True, slots=True)
class _Pair(Generic[Standing]):
    """A session, and what another service had of it before the session was read."""

    known: _KnownRow
    standing: Standing

    @property
    def name(self) -> _Name:
        return self.known.user_id, self.known.session_id

    @property
    def is_told(self) -> bool:
        """Whether each of the two was told all of the other."""
        return self.standing.settled and not self.known.owes

    @property
    def about(self) -> str:
        return f"{self.known.session_id}/{self.known.user_id}"


def _difference_of_counts(pair: _Pair[ConversationStanding]) -> DifferenceRow | None:
    known, standing = pair.known, pair.standing
    if known.is_deleted:
        left = bool(standing.revision) and not standing.deleted
        return DifferenceRow(pair.about, standing.message_count, 0) if left else None
    if known.message_count == standing.message_count:
        return None
    return DifferenceRow(pair.about, known.message_count, standing.message_count)


def _difference_of_holds(pair: _Pair[ConversationStanding]) -> DifferenceRow | None:
    known, standing = pair.known, pair.standing
    if known.is_deleted or standing.deleted or known.is_held == standing.legal_hold:
        return None
    return DifferenceRow(pair.about, int(standing.legal_hold), int(known.is_held))


def _difference_of_keeping(pair: _Pair[HoldStanding]) -> DifferenceRow | None:
    # Also of a deleted session: a hold on it would keep its person from being erased.
    keeps, held = pair.standing.held, pair.known.is_held and not pair.known.is_deleted
    return None if keeps == held else DifferenceRow(pair.about, int(keeps), int(held))


class _Compared(Generic[Standing]):
    """Sessions, and what another service has of them."""

    def __init__(
        self,
        database: Database,
        describe: Callable[[Sequence[_Name]], Awaitable[Sequence[Standing]]],
    ) -> None:
        """`describe` asks the other service how sessions stand there; it answers in their order."""
        self._database = database
        self._describe = describe

    async def differences(
        self, difference_of: Callable[[_Pair[Standing]], DifferenceRow | None]
    ) -> AsyncIterator[DifferenceRow]:
        """The sessions of which the two know different things."""
        after_user, after_session = _NIL, _NIL
        while True:
            place = {"after_user": after_user, "after_session": after_session, "limit": _AT_ONCE}
            page = await self._database.all(_PAGE, place)
            named = [(row.user_id, row.session_id) for row in page]
            for pair in await self._different(named, difference_of):
                if (difference := difference_of(pair)) is not None:
                    yield difference
            if len(page) < _AT_ONCE:
                return
            after_user, after_session = page[-1].user_id, page[-1].session_id

    async def _different(
        self,
        named: Sequence[_Name],
        difference_of: Callable[[_Pair[Standing]], DifferenceRow | None],
    ) -> Sequence[_Pair[Standing]]:
        """The pairs that differ and stand still: twice the same, with nothing to be told."""
        before: dict[_Name, _Pair[Standing]] = {}
        still: list[_Pair[Standing]] = []
        for _ in range(_LOOKS):
            if not named:
                break
            differing = [
                pair for pair in await self._look(named) if pair.is_told and difference_of(pair)
            ]
            still += [pair for pair in differing if before.get(pair.name) == pair]
            before = {pair.name: pair for pair in differing}
            named = [pair.name for pair in differing if pair not in still]
        return still

    async def _look(self, named: Sequence[_Name]) -> Sequence[_Pair[Standing]]:
        """What the other service has of sessions, and then what is known of them here."""
        standings = dict(zip(named, await self._describe(named), strict=True))
        ids = {"user_ids": [one[0] for one in named], "session_ids": [one[1] for one in named]}
        rows = await self._database.all(_THESE, ids)
        return [_Pair(row, standings[row.user_id, row.session_id]) for row in rows]
