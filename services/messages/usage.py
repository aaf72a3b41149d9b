"""How many bytes people keep, read from what their conversations count: SQL and nothing else."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import BigInteger, and_, bindparam, case, func, literal, select, update

from services.messages.sizes import CONVERSATION_BYTES
from services.messages.tables import CONVERSATIONS, PERSON
from services.runtime.database import Database, statement

_COUNTED_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class _TotalRow:
    bytes: int
    uncounted: int


@dataclass(frozen=True, slots=True)
class _CountedRow:
    session_id: UUID


_CONVERSATION = CONVERSATIONS.c
_is_counted = _CONVERSATION.counted_revision == _CONVERSATION.revision
_of_person = and_(_CONVERSATION.user_id == PERSON, _CONVERSATION.delete_time.is_(None))
_TOTAL = statement(
    select(
        func.coalesce(
            func.sum(case((_is_counted, _CONVERSATION.bytes), else_=CONVERSATION_BYTES)), literal(0)
        )
        .cast(BigInteger)
        .label("bytes"),
        func.count().filter(~_is_counted).label("uncounted"),
    ).where(_of_person),
    _TotalRow,
)

_seen = (
    select(
        _CONVERSATION.session_id,
        _CONVERSATION.revision,
        CONVERSATION_BYTES.label("bytes"),
    )
    .where(_of_person, ~_is_counted)
    .limit(bindparam("limit", type_=BigInteger))
    .cte("seen")
)
# What somebody writes just then is left for the next time. So nobody is waited for: appends lock
# conversations in an order that this does not keep.
_unchanged = (
    select(_CONVERSATION.session_id, _seen.c.revision, _seen.c.bytes)
    .select_from(
        CONVERSATIONS.join(
            _seen,
            and_(
                _CONVERSATION.session_id == _seen.c.session_id,
                _CONVERSATION.revision == _seen.c.revision,
            ),
        )
    )
    .where(_CONVERSATION.user_id == PERSON)
    .with_for_update(of=CONVERSATIONS, skip_locked=True)
    .cte("unchanged")
)
_COUNT = statement(
    update(CONVERSATIONS)
    .where(
        _CONVERSATION.user_id == PERSON,
        _CONVERSATION.session_id == _unchanged.c.session_id,
        _CONVERSATION.revision == _unchanged.c.revision,
    )
    .values(bytes=_unchanged.c.bytes, counted_revision=_unchanged.c.revision)
    .returning(_CONVERSATION.session_id),
    _CountedRow,
)


class UsageStore:
    """Reads what people keep."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def total(self, person: UUID) -> int:
        """How many bytes a person's envelopes take.

        Conversations that are not counted, see `CONVERSATIONS`, are counted for this, and noted as
        counted, so that it is done once.
        """
        parameters: dict[str, object] = {"person": person}
        total = await self._database.all(_TOTAL, parameters)
        left = total[0].uncounted
        while left > 0:
            await self._database.all(_COUNT, {**parameters, "limit": _COUNTED_AT_ONCE})
            left -= _COUNTED_AT_ONCE
        return total[0].bytes
