"""People who are locked: until an operator decides, whatever is called for them is refused.

The users service decides who is; the others are told through its outbox and remember it. Every
process holds who is locked in memory, so that looking costs a call nothing: it reads the table
again when it is told, and every second for what another process was told. Calls that are under way
hear of it then, whatever they wait for.
"""

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import grpc
from inglenook.errors.v1.errors_pb2 import Reason
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    MetaData,
    Table,
    Uuid,
    bindparam,
    delete,
    func,
    select,
)
from sqlalchemy.dialects.postgresql import insert

from services.runtime.background import ended
from services.runtime.database import Database, Statement, statement
from services.runtime.erasure import ErasedPeople
from services.runtime.errors import Refusal

_log = logging.getLogger(__name__)

_POLL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class LockRow:
    """Whether a person is locked: once they were, the row stays until they are erased."""

    user_id: UUID
    is_locked: bool
    revision: int
    """Grows with every change."""
    change_time: datetime


@dataclass(frozen=True, slots=True)
class _PersonRow:
    user_id: UUID


def person_locked() -> Refusal:
    """The person whom the call is for is locked."""
    return Refusal(
        grpc.StatusCode.PERMISSION_DENIED,
        Reason.REASON_PERSON_LOCKED,
        "This account is locked. Ask whoever runs this system.",
    )


class LockedPeople:
    """The table, and the statements that use it."""

    def __init__(self, metadata: MetaData, erased: ErasedPeople) -> None:
        """Adds the table to a service's metadata; who was erased is never in it."""
        self.table = Table(
            "locked_people",
            metadata,
            Column("user_id", Uuid, primary_key=True),
            Column("is_locked", Boolean, nullable=False),
            Column("revision", BigInteger, nullable=False),
            Column("change_time", DateTime(timezone=True), nullable=False),
        )
        columns = self.table.c
        person = bindparam("person", type_=Uuid)
        self.find: Statement[LockRow] = statement(
            select(self.table).where(columns.user_id == person), LockRow
        )
        self.locked: Statement[_PersonRow] = statement(
            select(columns.user_id).where(columns.is_locked), _PersonRow
        )
        """Everybody who is locked."""

        told = insert(self.table).from_select(
            ["user_id", "is_locked", "revision", "change_time"],
            select(
                person,
                bindparam("is_locked", type_=Boolean),
                bindparam("revision", type_=BigInteger),
                func.now(),
            ).where(erased.not_erased),
        )
        self.note: Statement[LockRow] = statement(
            told.on_conflict_do_update(
                index_elements=["user_id"],
                set_={
                    name: told.excluded[name] for name in ("is_locked", "revision", "change_time")
                },
                where=columns.revision < told.excluded.revision,
            ).returning(self.table),
            LockRow,
        )
        """Stores what another service tells; no row when it is not news. After `erased.hold`."""

        self.forget: Statement[_PersonRow] = statement(
            delete(self.table).where(columns.user_id == person).returning(columns.user_id),
            _PersonRow,
        )
        """For erasing a person."""


class LockedNow:
    """Who is locked at the moment, and what ends when its person is."""

    def __init__(self, people: Iterable[UUID] = ()) -> None:
        self._locked = frozenset(people)
        # By itself and not by its person: it is memory of every idle stream.
        self._limits: dict[asyncio.Timeout, UUID | None] = {}

    def __contains__(self, person: object) -> bool:
        return person in self._locked

    def limit(self, limit: asyncio.Timeout, person: UUID | None) -> None:
        """Ends what is limited by a timeout when the person is locked; not if they were before."""
        self._limits[limit] = person

    def forget(self, limit: asyncio.Timeout) -> None:
        """Lets go of a timeout: what it limits is over."""
        self._limits.pop(limit, None)

    def be(self, people: Iterable[UUID]) -> None:
        """Takes who is locked from now on."""
        before, self._locked = self._locked, frozenset(people)
        if new := self._locked - before:
            now = asyncio.get_running_loop().time()
            for limit, person in self._limits.items():
                if person in new and not limit.expired():
                    limit.reschedule(now)


class Locks(LockedNow):
    """Who is locked, as this process knows it: `async with Locks(…) as locks`."""

    def __init__(self, database: Database, people: LockedPeople, erased: ErasedPeople) -> None:
        """Takes where it is stored, and who was erased and is locked no more."""
        super().__init__()
        self._database = database
        self._people = people
        self._erased = erased
        # One reads at a time, so that what was read first never replaces what was read later.
        self._reading = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Locks":
        await self._database.for_a_start(self.read)
        self._task = asyncio.create_task(self._read_again_and_again(), name="locks")
        return self

    async def __aexit__(self, *_exc: object) -> None:
        if self._task is not None:
            await ended(self._task)

    async def read(self) -> None:
        """Reads who is locked now: it was just changed."""
        async with self._reading:
            rows = await self._database.all(self._people.locked, {})
            self.be(row.user_id for row in rows)

    async def note(self, person: UUID, *, is_locked: bool, revision: int) -> None:
        """Stores what the users service tells of a person; nothing when that is not news."""
        told = {"person": person, "is_locked": is_locked, "revision": revision}
        await self._database.all_after(self._erased.hold, self._people.note, told)
        await self.read()

    async def _read_again_and_again(self) -> None:
        fails = False
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            try:
                await self.read()
            except Exception:  # noqa: BLE001 - whatever it is, who is locked meanwhile must be known
                if not fails:
                    _log.warning("who is locked cannot be read; trying again", exc_info=True)
                fails = True
            else:
                fails = False
