"""A service's access log: the tables, and the statements that use them.

The service's role may add entries and read them, and nothing else (`migration.py`). An erased
person's log goes by a function of the database's, which erases nobody else's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    DateTime,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    Uuid,
    any_,
    bindparam,
    column,
    func,
    literal,
    or_,
    select,
    union,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from services.runtime.audit.chain import Entry, Head
from services.runtime.database import Statement, statement
from services.runtime.erasure import ErasedPeople, HeldRow

ENTRIES = "access_log"
"""The table that only grows."""


@dataclass(frozen=True, slots=True)
class PersonRow:
    """Names a person."""

    user_id: UUID


@dataclass(frozen=True, slots=True)
class CountRow:
    """How many there are."""

    count: int


class AccessLog:
    """The tables, and the statements that use them."""

    def __init__(self, metadata: MetaData, erased: ErasedPeople) -> None:
        """Adds the tables to a service's metadata; who was erased has no log."""
        self.service = str(metadata.schema)
        self.entries = Table(
            ENTRIES,
            metadata,
            Column("user_id", Uuid, primary_key=True),
            Column("sequence", BigInteger, primary_key=True),
            Column("time", DateTime(timezone=True), nullable=False),
            Column("actor_kind", SmallInteger, nullable=False),
            Column("actor", Text, nullable=False),
            Column("action", Text, nullable=False),
            Column("session_id", Uuid),
            Column("request_id", Text, nullable=False),
            Column("hash", LargeBinary, nullable=False),
        )
        self.heads = Table(
            "access_log_heads",
            metadata,
            Column("user_id", Uuid, primary_key=True),
            Column("sequence", BigInteger, nullable=False),
            Column("hash", LargeBinary, nullable=False),
            Column("seal", LargeBinary, nullable=False),
        )
        entry, head = self.entries.c, self.heads.c
        person, people = bindparam("person", type_=Uuid), bindparam("people", type_=ARRAY(Uuid))
        limit = bindparam("limit", type_=BigInteger)

        named = func.unnest(people).table_valued(column("user_id", Uuid)).render_derived()
        self.hold: Statement[HeldRow] = statement(
            select(erased.held(named.c.user_id).label("held")).select_from(named), HeldRow
        )
        """Before logs are begun; one after the other, as named: everybody names people in order."""
        self.begin: Statement[PersonRow] = statement(
            insert(self.heads)
            .from_select(
                ["user_id", "sequence", "hash", "seal"],
                select(named.c.user_id, literal(0), literal(b""), literal(b"")).where(
                    erased.none_of(named.c.user_id)
                ),
            )
            .on_conflict_do_nothing()
            .returning(head.user_id),
            PersonRow,
        )
        """Begins the logs of people who have none, unless they were erased. After `hold`."""
        self.lock: Statement[Head] = statement(
            select(self.heads)
            .where(head.user_id == any_(people))
            .order_by(head.user_id)
            .with_for_update(),
            Head,
        )
        """Takes the people's turn: nobody else adds to their logs until the transaction ends."""

        added = (
            func.unnest(
                bindparam("people", type_=ARRAY(Uuid)),
                bindparam("sequences", type_=ARRAY(BigInteger)),
                bindparam("times", type_=ARRAY(DateTime(timezone=True))),
                bindparam("actor_kinds", type_=ARRAY(SmallInteger)),
                bindparam("actors", type_=ARRAY(Text)),
                bindparam("actions", type_=ARRAY(Text)),
                bindparam("sessions", type_=ARRAY(Uuid)),
                bindparam("request_ids", type_=ARRAY(Text)),
                bindparam("hashes", type_=ARRAY(LargeBinary)),
            )
            .table_valued(*(column(one.name, one.type) for one in self.entries.columns))
            .render_derived()
        )
        adding = (
            insert(self.entries)
            .from_select([one.name for one in self.entries.columns], select(added))
            .cte("adding")
        )
        reached = (
            func.unnest(
                bindparam("headed", type_=ARRAY(Uuid)),
                bindparam("head_sequences", type_=ARRAY(BigInteger)),
                bindparam("head_hashes", type_=ARRAY(LargeBinary)),
                bindparam("seals", type_=ARRAY(LargeBinary)),
            )
            .table_valued(*(column(one.name, one.type) for one in self.heads.columns))
            .render_derived()
        )
        self.add: Statement[PersonRow] = statement(
            update(self.heads)
            .where(head.user_id == reached.c.user_id)
            .values(sequence=reached.c.sequence, hash=reached.c.hash, seal=reached.c.seal)
            .returning(head.user_id)
            .add_cte(adding),
            PersonRow,
        )
        """Adds entries, and puts the heads after them. After `lock`."""

        self.newest: Statement[Entry] = statement(
            select(self.entries)
            .where(entry.user_id == person, entry.sequence < bindparam("before", type_=BigInteger))
            .order_by(entry.sequence.desc())
            .limit(limit),
            Entry,
        )
        self.oldest: Statement[Entry] = statement(
            select(self.entries)
            .where(
                entry.user_id == person,
                entry.sequence > bindparam("after", type_=BigInteger),
                entry.sequence <= bindparam("last", type_=BigInteger),
            )
            .order_by(entry.sequence)
            .limit(limit),
            Entry,
        )
        self.head: Statement[Head] = statement(
            select(self.heads).where(head.user_id == person), Head
        )
        self.beyond: Statement[CountRow] = statement(
            select(func.count().label("count"))
            .select_from(self.entries.outerjoin(self.heads, head.user_id == entry.user_id))
            .where(
                entry.user_id == person,
                or_(entry.sequence < 1, entry.sequence > func.coalesce(head.sequence, 0)),
            ),
            CountRow,
        )
        """How many entries no head knows of: none, at any moment."""
        after = bindparam("after", type_=Uuid)
        both = union(
            *(
                select(
                    select(one.user_id)
                    .distinct()
                    .where(one.user_id > after)
                    .order_by(one.user_id)
                    .limit(limit)
                    .subquery()
                )
                for one in (entry, head)
            )
        ).subquery()
        self.people: Statement[PersonRow] = statement(
            select(both.c.user_id).order_by(both.c.user_id).limit(limit), PersonRow
        )
        """Who has entries or a head."""

        erasing = getattr(func, self.service).erase_access_log(person, type_=BigInteger)
        self.erase: Statement[CountRow] = statement(select(erasing.label("count")), CountRow)
        """For a person who is remembered as erased; gives how many entries there were."""
        again = getattr(func, self.service).erase_access_log(erased.table.c.user_id)
        self.erase_all_again: Statement[CountRow] = statement(
            select(func.coalesce(func.sum(again), 0).cast(BigInteger).label("count")).select_from(
                erased.table
            ),
            CountRow,
        )
        """For everybody who was ever erased."""

    @staticmethod
    def columns(entries: Sequence[Entry], heads: Sequence[Head]) -> dict[str, object]:
        """The parameters of `add`."""
        return {
            "people": [entry.user_id for entry in entries],
            "sequences": [entry.sequence for entry in entries],
            "times": [entry.time for entry in entries],
            "actor_kinds": [entry.actor_kind for entry in entries],
            "actors": [entry.actor for entry in entries],
            "actions": [entry.action for entry in entries],
            "sessions": [entry.session_id for entry in entries],
            "request_ids": [entry.request_id for entry in entries],
            "hashes": [entry.hash for entry in entries],
            "headed": [head.user_id for head in heads],
            "head_sequences": [head.sequence for head in heads],
            "head_hashes": [head.hash for head in heads],
            "seals": [head.seal for head in heads],
        }
