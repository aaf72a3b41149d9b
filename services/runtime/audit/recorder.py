"""Recording accesses, each before what it is about; what comes together commits together."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID

from services.runtime.audit.chain import Access, extended
from services.runtime.audit.log import AccessLog
from services.runtime.background import begun_apart
from services.runtime.database import Connection, Database, fetch_all
from services.runtime.errors import server_busy
from services.runtime.telemetry.traces import traces

if TYPE_CHECKING:
    from opentelemetry.trace import Span

_AT_ONCE = 256
_WAITING = 8_192
_RETRY_SECONDS = 0.25


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    access: Access
    caller: "Span | None" = field(default_factory=traces.here, repr=False)
    """What the call that waits is in the traces."""
    recorded: "asyncio.Future[None]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class AccessRecorder:
    """Records the accesses that a process serves."""

    def __init__(self, database: Database, log: AccessLog, key: bytes) -> None:
        """Takes where they are recorded, and the key of the chains."""
        self._database = database
        self._log = log
        self._key = key
        self._waiting: list[_Waiting] = []
        self._recording: asyncio.Task[None] | None = None

    async def record(self, access: Access) -> None:
        """Records an access; on disk when this returns. Nothing of a person who was erased.

        Raises:
            Refusal: SERVER_BUSY, and it was not recorded.
            psycopg.Error: the database failed; it may have been recorded or not.
        """
        if len(self._waiting) >= _WAITING:
            raise server_busy(_RETRY_SECONDS)
        waiting = _Waiting(access)
        self._waiting.append(waiting)
        if self._recording is None or self._recording.done():
            self._recording = begun_apart(self._record_batches(), "access log")
        await waiting.recorded

    async def _record_batches(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:_AT_ONCE], self._waiting[_AT_ONCE:]
            try:
                await self._record(batch)
            except Exception as error:  # noqa: BLE001 - whatever it is, whoever waits is told
                for one in batch:
                    if not one.recorded.done():
                        one.recorded.set_exception(error)
            else:
                for one in batch:
                    if not one.recorded.done():
                        one.recorded.set_result(None)
            finally:
                for one in batch:
                    # Whoever has no answer by now gets none: this process ends.
                    one.recorded.cancel()

    async def _record(self, batch: Sequence[_Waiting]) -> None:
        with traces.batch("record accesses", lambda: (one.caller for one in batch)):
            await record(self._database, self._log, self._key, [one.access for one in batch])


async def record(
    database: Database, log: AccessLog, key: bytes, accesses: Sequence[Access]
) -> None:
    """Records accesses, whosever data they are to."""
    async with database.transaction() as connection:
        left = await _add(connection, log, key, accesses)
    if left:
        # In a transaction before: heads that are locked in one order, and then begun in another,
        # could be waited for in a circle.
        people = sorted({access.user_id for access in left})
        await database.all_after(log.hold, log.begin, {"people": people})
        async with database.transaction() as connection:
            await _add(connection, log, key, left)


async def record_within(connection: Connection, log: AccessLog, key: bytes, access: Access) -> None:
    """Records an access in the transaction of what it is about."""
    people = {"people": [access.user_id]}
    await fetch_all(connection, log.hold, people)
    await fetch_all(connection, log.begin, people)
    await _add(connection, log, key, [access])


async def _add(
    connection: Connection, log: AccessLog, key: bytes, accesses: Sequence[Access]
) -> list[Access]:
    """Adds to the logs of those who have one; gives what is left."""
    by_person: defaultdict[UUID, list[Access]] = defaultdict(list)
    for access in accesses:
        by_person[access.user_id].append(access)
    heads = await fetch_all(connection, log.lock, {"people": list(by_person)})
    if heads:
        made = [extended(key, head, by_person.pop(head.user_id)) for head in heads]
        entries = [entry for added, _ in made for entry in added]
        await fetch_all(connection, log.add, log.columns(entries, [head for _, head in made]))
    return [access for left in by_person.values() for access in left]
