"""The tables of a service's data keys and of the key-encryption keys that wrap them: SQL alone.

Two rules are kept by the statements themselves, whatever races with them:

- A data key is stored only under a key-encryption key that is on the books and not retired: its row
  is locked FOR SHARE by the statement that stores, and FOR UPDATE by the one that retires.
- The uses of a data key are counted in its row before they are made.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    ColumnElement,
    DateTime,
    LargeBinary,
    MetaData,
    Table,
    Text,
    Uuid,
    bindparam,
    column,
    func,
    insert,
    literal,
    select,
    true,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import array

from services.runtime.database import Statement, statement

MAXIMUM_USES = 1 << 32
"""How often one key may seal with random nonces (NIST SP 800-38D, section 8.3)."""
_SAMPLES = 3


@dataclass(frozen=True, slots=True)
class WrappedRow:
    """A wrapped data key."""

    key_id: UUID
    kek_id: str
    wrapped: bytes


@dataclass(frozen=True, slots=True)
class ReservedRow:
    """The data key that uses were reserved of; all None when the newest has none left."""

    key_id: UUID | None
    kek_id: str | None
    wrapped: bytes | None

    @property
    def data_key(self) -> WrappedRow | None:
        """The data key, if uses of it were reserved."""
        if self.key_id is None or self.kek_id is None or self.wrapped is None:
            return None
        return WrappedRow(self.key_id, self.kek_id, self.wrapped)


@dataclass(frozen=True, slots=True)
class ScopedRow:
    """A wrapped data key, and the ids of its scope."""

    scope: list[UUID]
    key_id: UUID
    kek_id: str
    wrapped: bytes


@dataclass(frozen=True, slots=True)
class KeyIdRow:
    """Names a data key."""

    key_id: UUID


@dataclass(frozen=True, slots=True)
class CountRow:
    """How many there are."""

    count: int


@dataclass(frozen=True, slots=True)
class KekRow:
    """A key-encryption key as it stands on the books."""

    kek_id: str
    retire_time: datetime | None


@dataclass(frozen=True, slots=True)
class KekUseRow:
    """A key-encryption key, and how many data keys it wraps."""

    kek_id: str
    create_time: datetime | None
    """None when data keys name it and the books do not."""
    retire_time: datetime | None
    data_keys: int


@dataclass(frozen=True, slots=True)
class Alive:
    """What must be so for a scope to get a data key: what was erased gets none."""

    condition: ColumnElement[bool]
    """Of a statement whose parameters are the scope's, and must stay so until it commits."""
    hold: Statement[Any] | None = None
    """What sees to that in the same transaction, if the condition itself does not."""


class DataKeyTable:
    """The tables, and the statements that use them."""

    def __init__(
        self, metadata: MetaData, scope: tuple[str, ...], *, alive: Alive | None = None
    ) -> None:
        """Adds both tables to a service's metadata; data keys are keyed by the scope's columns."""
        self.scope = scope
        self.alive = alive
        self.key_encryption_keys = Table(
            "key_encryption_keys",
            metadata,
            Column("kek_id", Text, primary_key=True),
            Column("create_time", DateTime(timezone=True), nullable=False),
            Column("retire_time", DateTime(timezone=True)),
        )
        self.table = Table(
            "data_keys",
            metadata,
            *(Column(name, Uuid, primary_key=True) for name in scope),
            Column("key_id", Uuid, primary_key=True),
            Column("kek_id", Text, nullable=False, index=True),
            Column("wrapped", LargeBinary, nullable=False),
            # A row from someone who does not count is one of a key that is used up.
            Column("uses", BigInteger, nullable=False, server_default=str(MAXIMUM_USES)),
            Column("create_time", DateTime(timezone=True), nullable=False),
        )
        self._columns = self.table.c
        self._mine = [self._columns[name] == bindparam(name, type_=Uuid) for name in scope]
        self._keks = self.key_encryption_keys.c
        self._kek = bindparam("kek_id", type_=Text)
        self._describe_data_keys()
        self._describe_key_encryption_keys()
        self._describe_rewrapping()

    def _describe_data_keys(self) -> None:
        columns, mine = self._columns, self._mine
        self.get: Statement[WrappedRow] = statement(
            select(columns.key_id, columns.kek_id, columns.wrapped).where(
                *mine, columns.key_id == bindparam("key_id", type_=Uuid)
            ),
            WrappedRow,
        )
        """One data key of a scope."""

        # Locked, so that one that is being erased is waited for, and then is not there: by the
        # statement's snapshot alone, it would look like one that is used up.
        newest = (
            select(columns.key_id)
            .where(*mine)
            .order_by(columns.create_time.desc(), columns.key_id.desc())
            .limit(1)
            .with_for_update(key_share=True)
            .cte("newest")
        )
        uses_after = columns.uses + bindparam("block", type_=BigInteger)
        reserved = (
            update(self.table)
            .where(
                *mine,
                columns.key_id == newest.c.key_id,
                uses_after <= bindparam("limit", type_=BigInteger),
            )
            .values(uses=uses_after)
            .returning(columns.key_id, columns.kek_id, columns.wrapped)
            .cte("reserved")
        )
        self.reserve: Statement[ReservedRow] = statement(
            select(reserved.c.key_id, reserved.c.kek_id, reserved.c.wrapped).select_from(
                newest.outerjoin(reserved, true())
            ),
            ReservedRow,
        )
        """Reserves a block of uses of a scope's newest data key; no row when it has no data key."""

        usable = select(
            *(bindparam(name, type_=Uuid) for name in self.scope),
            bindparam("key_id", type_=Uuid),
            self._keks.kek_id,
            bindparam("wrapped", type_=LargeBinary),
            bindparam("block", type_=BigInteger),
            func.now(),
        ).where(
            self._keks.kek_id == self._kek,
            self._keks.retire_time.is_(None),
            *(() if self.alive is None else (self.alive.condition,)),
        )
        self.add: Statement[KeyIdRow] = statement(
            insert(self.table)
            .from_select(
                [*self.scope, "key_id", "kek_id", "wrapped", "uses", "create_time"],
                usable.with_for_update(read=True),
            )
            .returning(columns.key_id),
            KeyIdRow,
        )
        """Stores a data key with a block of uses.

        No row when its KEK is unknown or retired, or its scope is not alive.
        """

        self.is_alive: Statement[CountRow] = statement(
            select(literal(1).label("count")).where(
                *(() if self.alive is None else (self.alive.condition,))
            ),
            CountRow,
        )
        """A row when the scope is alive."""

    def _describe_key_encryption_keys(self) -> None:
        columns, keks = self._columns, self._keks
        self.register: Statement[KekRow] = statement(
            postgresql.insert(self.key_encryption_keys)
            .values(kek_id=self._kek, create_time=func.now())
            .on_conflict_do_update(index_elements=["kek_id"], set_={"kek_id": self._kek})
            .returning(keks.kek_id, keks.retire_time),
            KekRow,
        )
        """Enters a KEK, or finds it as it stands: what was retired stays so."""

        named = select(keks.kek_id, keks.retire_time).where(keks.kek_id == self._kek)
        self.find: Statement[KekRow] = statement(named, KekRow)
        self.lock: Statement[KekRow] = statement(named.with_for_update(), KekRow)
        self.count_wrapped: Statement[CountRow] = statement(
            select(func.count().label("count")).where(columns.kek_id == self._kek), CountRow
        )
        self.retire: Statement[KekRow] = statement(
            update(self.key_encryption_keys)
            .where(keks.kek_id == self._kek)
            .values(retire_time=func.now())
            .returning(keks.kek_id, keks.retire_time),
            KekRow,
        )

        counts = (
            select(columns.kek_id, func.count().label("count"))
            .group_by(columns.kek_id)
            .subquery("counts")
        )
        self.uses_of_keks: Statement[KekUseRow] = statement(
            select(
                func.coalesce(keks.kek_id, counts.c.kek_id).label("kek_id"),
                keks.create_time,
                keks.retire_time,
                func.coalesce(counts.c.count, 0).label("data_keys"),
            )
            .select_from(
                self.key_encryption_keys.outerjoin(
                    counts, keks.kek_id == counts.c.kek_id, full=True
                )
            )
            .order_by(keks.create_time.nulls_first(), keks.kek_id),
            KekUseRow,
        )
        """Every KEK that the books or a data key name, the oldest first."""

        sample = (
            select(self.table).where(columns.kek_id == keks.kek_id).limit(_SAMPLES).lateral("some")
        )
        self.samples_of_keks: Statement[ScopedRow] = statement(
            select(
                array([sample.c[name] for name in self.scope]).label("scope"),
                sample.c.key_id,
                sample.c.kek_id,
                sample.c.wrapped,
            ).select_from(self.key_encryption_keys.join(sample, true())),
            ScopedRow,
        )
        """A few data keys of each KEK."""

    def _describe_rewrapping(self) -> None:
        columns = self._columns
        names = (*self.scope, "key_id")
        key = [columns[name] for name in names]
        after = tuple_(*(bindparam(f"after_{name}", type_=Uuid) for name in names))
        self.wrapped_otherwise: Statement[ScopedRow] = statement(
            select(
                array([columns[name] for name in self.scope]).label("scope"),
                columns.key_id,
                columns.kek_id,
                columns.wrapped,
            )
            .where(columns.kek_id != self._kek, tuple_(*key) > after)
            .order_by(*key)
            .limit(bindparam("limit", type_=BigInteger)),
            ScopedRow,
        )
        """The next data keys, in the order of the table's key, that another KEK wraps."""

        self.count_wrapped_otherwise: Statement[CountRow] = statement(
            select(func.count().label("count")).where(columns.kek_id != self._kek), CountRow
        )

        batch = (
            func.unnest(
                *(_array_of(name, Uuid()) for name in names),
                _array_of("old", LargeBinary()),
                _array_of("new", LargeBinary()),
            )
            .table_valued(
                *(column(name, Uuid) for name in names),
                column("old", LargeBinary),
                column("new", LargeBinary),
                name="batch",
            )
            .render_derived()
        )
        # Locked in the order of the key, so that two rotations at once cannot wait for each other.
        unchanged = (
            select(*key, batch.c.new)
            .select_from(
                self.table.join(batch, tuple_(*key) == tuple_(*(batch.c[name] for name in names)))
            )
            .where(columns.wrapped == batch.c.old)
            .order_by(*key)
            .with_for_update(of=self.table)
            .cte("unchanged")
        )
        usable = (
            select(self._keks.kek_id)
            .where(self._keks.kek_id == self._kek, self._keks.retire_time.is_(None))
            .with_for_update(read=True)
            .cte("usable")
        )
        self.rewrap: Statement[KeyIdRow] = statement(
            update(self.table)
            .where(
                literal(1) == select(func.count()).select_from(usable).scalar_subquery(),
                tuple_(*key) == tuple_(*(unchanged.c[name] for name in names)),
            )
            .values(kek_id=self._kek, wrapped=unchanged.c.new)
            .returning(columns.key_id),
            KeyIdRow,
        )
        """Replaces wrapped data keys that are still the ones that were read, by a usable KEK's."""


def _array_of(name: str, kind: Uuid[UUID] | LargeBinary) -> ColumnElement[object]:
    return bindparam(f"{name}s", type_=ARRAY(kind))
