"""The outbox: what a service owes to others, stored in the transaction of what happened. SQL alone.

An event says of what kind it is and what it is about, and nothing of what happened: how things
stand is read when it is delivered. So something is owed of an aggregate or it is not: there is one
event of a kind for each, however often it changed, and nothing that could overtake anything. An
event is settled when its receiver has it; until then it is delivered again.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    DateTime,
    Float,
    FromClause,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    Uuid,
    and_,
    bindparam,
    case,
    column,
    delete,
    func,
    literal,
    literal_column,
    null,
    or_,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import array, insert
from sqlalchemy.sql.selectable import CTE

from services.runtime.database import Statement, statement

Scope = tuple[UUID, ...]
"""The ids of what an event is about, in the order of the table's scope columns."""

_LONGEST_DELAY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class DueRow:
    """An event that is to be delivered now."""

    scope: list[UUID]
    tries: int
    due_time: datetime


@dataclass(frozen=True, slots=True)
class FailedRow:
    """An event whose delivery failed."""

    scope: list[UUID]
    tries: int
    set_aside_time: datetime | None


@dataclass(frozen=True, slots=True)
class KindRow:
    """How many events of a kind wait."""

    kind: str
    waiting: int
    failing: int
    """Those of the waiting ones that were tried in vain."""
    set_aside: int
    oldest: datetime | None
    """When the oldest of the waiting ones happened."""


@dataclass(frozen=True, slots=True)
class TroubledRow:
    """An event that was tried in vain."""

    kind: str
    scope: list[UUID]
    tries: int
    failure: str | None
    create_time: datetime
    set_aside_time: datetime | None


@dataclass(frozen=True, slots=True)
class NamedRow:
    """Names an event."""

    scope: list[UUID]


class OutboxTable:
    """The table, and the statements that use it."""

    def __init__(self, metadata: MetaData, scope: tuple[str, ...]) -> None:
        """Adds the table to a service's metadata; events are about the scope's columns."""
        self.scope = scope
        # The key begins with the scope and the index with the kind, so that the planner cannot take
        # one for the other while it knows nothing of what is in the table.
        self.table = Table(
            "outbox",
            metadata,
            *(Column(name, Uuid, primary_key=True) for name in scope),
            Column("kind", Text, primary_key=True),
            Column("create_time", DateTime(timezone=True), nullable=False),
            Column("due_time", DateTime(timezone=True), nullable=False),
            Column("tries", Integer, nullable=False),
            # What kind of failure the last try met; never its text, which could quote something.
            Column("failure", Text),
            Column("set_aside_time", DateTime(timezone=True)),
            Index(
                "outbox_due",
                "kind",
                "due_time",
                *scope,
                postgresql_where=text("set_aside_time IS NULL"),
            ),
        )
        self._columns = self.table.c
        self._key = [self._columns[name] for name in scope]
        self._kind = bindparam("kind", type_=Text)
        self._ids = array(self._key).label("scope")
        self._waits = self._columns.set_aside_time.is_(None)
        self._describe_delivery()
        self._describe_administration()

    def owing(self, kind: str, source: FromClause, *, revives: bool = True) -> CTE:
        """For a statement that changes things: owes an event of each scope in `source`.

        No scope may be twice in it. What is owed already stays as it is; but what was set aside is
        tried anew, since there is something new to tell. A statement that must not wait for the
        relay's locks does without (`revives`).
        """
        values = select(
            *(source.c[name] for name in self.scope),
            literal(kind, Text),
            func.now(),
            func.now(),
            literal(0),
        )
        names = [*self.scope, "kind", "create_time", "due_time", "tries"]
        owed = insert(self.table).from_select(names, values)
        if not revives:
            return owed.on_conflict_do_nothing().cte(f"owing_{kind}")
        return owed.on_conflict_do_update(
            index_elements=[*self.scope, "kind"],
            set_={"due_time": func.now(), "tries": 0, "set_aside_time": null()},
            where=~self._waits,
        ).cte(f"owing_{kind}")

    def named(self) -> FromClause:
        """The scopes that are a statement's parameters; see `parameters`."""
        return (
            func.unnest(*(bindparam(f"{name}s", type_=ARRAY(Uuid)) for name in self.scope))
            .table_valued(*(column(name, Uuid) for name in self.scope), name="named")
            .render_derived()
        )

    def parameters(self, kind: str, scopes: list[Scope]) -> dict[str, object]:
        """What names events of a kind as a statement's parameters."""
        columns = {
            f"{name}s": [scope[at] for scope in scopes] for at, name in enumerate(self.scope)
        }
        return {"kind": kind, **columns}

    def _describe_delivery(self) -> None:
        columns = self._columns
        place = tuple_(columns.due_time, *self._key)
        after = tuple_(
            bindparam("after", type_=DateTime(timezone=True)),
            *(bindparam(f"after_{name}", type_=Uuid) for name in self.scope),
        )
        self.due: Statement[DueRow] = statement(
            select(self._ids, columns.tries, columns.due_time)
            .where(
                columns.kind == self._kind,
                # As the index states it.
                self._waits,
                columns.due_time <= func.now(),
                place > after,
            )
            .order_by(columns.due_time, *self._key)
            .limit(bindparam("limit", type_=BigInteger)),
            DueRow,
        )
        """The events of a kind that are due, those that are due for longest first."""

        named = self.named()
        these = and_(
            columns.kind == self._kind,
            tuple_(*self._key).in_(select(*(named.c[name] for name in self.scope))),
        )
        self.settle: Statement[NamedRow] = statement(
            delete(self.table).where(these).returning(self._ids), NamedRow
        )
        """Removes events that their receiver has."""

        tries = columns.tries + 1
        delay = func.least(
            literal(_LONGEST_DELAY_SECONDS, Float), func.power(columns.tries, literal_column("2"))
        )
        self.fail: Statement[FailedRow] = statement(
            update(self.table)
            .where(these)
            .values(
                tries=tries,
                failure=bindparam("new_failure", type_=Text),
                due_time=func.now() + func.make_interval(0, 0, 0, 0, 0, 0, delay),
                set_aside_time=case(
                    (tries >= bindparam("maximum", type_=BigInteger), func.now()),
                ),
            )
            .returning(self._ids, columns.tries, columns.set_aside_time),
            FailedRow,
        )
        """Notes a failed try: again at once, then after longer and longer, at last never again."""

    def _describe_administration(self) -> None:
        columns = self._columns
        self.status: Statement[KindRow] = statement(
            select(
                columns.kind,
                func.count().filter(self._waits).label("waiting"),
                func.count().filter(self._waits, columns.tries > 0).label("failing"),
                func.count().filter(~self._waits).label("set_aside"),
                func.min(columns.create_time).filter(self._waits).label("oldest"),
            )
            .group_by(columns.kind)
            .order_by(columns.kind),
            KindRow,
        )
        self.troubled: Statement[TroubledRow] = statement(
            select(
                columns.kind,
                self._ids,
                columns.tries,
                columns.failure,
                columns.create_time,
                columns.set_aside_time,
            )
            .where(or_(columns.tries > 0, ~self._waits))
            .order_by(columns.create_time, *self._key)
            .limit(bindparam("limit", type_=BigInteger)),
            TroubledRow,
        )
        """The events that were tried in vain, the oldest first."""

        self.retry: Statement[NamedRow] = statement(
            update(self.table)
            .where(~self._waits)
            .values(tries=0, due_time=func.now(), set_aside_time=null())
            .returning(self._ids),
            NamedRow,
        )
        """Delivers what was set aside once more."""
