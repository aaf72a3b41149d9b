"""People who were erased: a service remembers their ids, so that nothing of theirs is made again.

A token that is still good outlives its person. So whatever would make a person's first row makes
sure, in its own statement, that they were not erased (`not_erased`), and holds `hold` in the same
transaction; who erases holds it alone (`take`). So either the one sees the other's erasure, or the
other erases what the one has made.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import grpc
from inglenook.errors.v1.errors_pb2 import Reason
from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    ColumnElement,
    DateTime,
    MetaData,
    Table,
    Text,
    Uuid,
    bindparam,
    func,
    literal,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from services.runtime.database import Statement, statement
from services.runtime.errors import Refusal


@dataclass(frozen=True, slots=True)
class HeldRow:
    """A lock that is held until its transaction ends."""

    held: str


@dataclass(frozen=True, slots=True)
class ErasedRow:
    """A person who was erased."""

    user_id: UUID
    erase_time: datetime
    conversations: int
    messages: int
    key_ids: list[UUID]
    """Of the data keys that were destroyed."""
    access_log_entries: int


def person_erased() -> Refusal:
    """The caller was erased."""
    return Refusal(
        grpc.StatusCode.PERMISSION_DENIED,
        Reason.REASON_PERSON_ERASED,
        "Everything of yours was erased. Sign out; to begin anew, sign up anew.",
    )


class ErasedPeople:
    """The table, and the statements that use it."""

    def __init__(self, metadata: MetaData) -> None:
        """Adds the table to a service's metadata."""
        self.table = Table(
            "erased_people",
            metadata,
            Column("user_id", Uuid, primary_key=True),
            Column("erase_time", DateTime(timezone=True), nullable=False),
            # What there was of theirs, for the receipt. It is counted here and not told from what
            # one call found, since that call's answer may be lost and the next finds nothing.
            Column("conversations", BigInteger, nullable=False),
            Column("messages", BigInteger, nullable=False),
            Column("key_ids", ARRAY(Uuid), nullable=False),
            Column("access_log_entries", BigInteger, nullable=False, server_default=text("0")),
        )
        person = bindparam("person", type_=Uuid)
        self._scope = f"{metadata.schema} person "
        self.hold: Statement[HeldRow] = statement(select(self.held(person).label("held")), HeldRow)
        """Before something of a person's is made."""
        self.take: Statement[HeldRow] = statement(
            select(func.pg_advisory_xact_lock(self._lock_of(person)).cast(Text).label("held")),
            HeldRow,
        )
        """Before a person is erased."""
        self.not_erased: ColumnElement[bool] = self.none_of(person)
        """For a statement whose parameter `person` is the person."""
        self.find: Statement[ErasedRow] = statement(
            select(self.table).where(self.table.c.user_id == person), ErasedRow
        )
        self.remember: Statement[ErasedRow] = statement(
            insert(self.table)
            .values(
                user_id=person,
                erase_time=func.now(),
                conversations=0,
                messages=0,
                key_ids=bindparam("no_keys", [], type_=ARRAY(Uuid)),
            )
            .on_conflict_do_nothing()
            .returning(self.table),
            ErasedRow,
        )
        """No row when they were erased already."""

        columns = self.table.c
        self.count: Statement[ErasedRow] = statement(
            update(self.table)
            .where(columns.user_id == person)
            .values(
                conversations=columns.conversations + bindparam("conversations", type_=BigInteger),
                messages=columns.messages + bindparam("messages", type_=BigInteger),
                key_ids=func.array_cat(columns.key_ids, bindparam("key_ids", type_=ARRAY(Uuid))),
                access_log_entries=columns.access_log_entries
                + bindparam("access_log_entries", type_=BigInteger),
            )
            .returning(self.table),
            ErasedRow,
        )
        """Adds to what there was of theirs, and gives all of it."""

    def held(self, person: ColumnElement[UUID]) -> ColumnElement[str]:
        """What `hold` selects, for a person whom a statement names otherwise."""
        return func.pg_advisory_xact_lock_shared(self._lock_of(person)).cast(Text)

    def none_of(self, person: ColumnElement[UUID]) -> ColumnElement[bool]:
        """`not_erased`, for a person whom a statement names otherwise."""
        return ~select(literal(1)).where(self.table.c.user_id == person).exists()

    def _lock_of(self, person: ColumnElement[UUID]) -> ColumnElement[int]:
        return func.hashtextextended(
            func.concat(literal(self._scope), person.cast(Text)), literal(0)
        )
