"""The writer: what arrives together commits together.

There is one for each process. It takes what waits, whosever it is, writes it in one transaction and
one round trip, and answers each caller on its own. Whoever comes alone is written at once. Where
many have come together lately, they are let gather again for some milliseconds: a batch costs this
process and PostgreSQL as much as several writes do, and callers who were answered together come
back one by one.
"""

import asyncio
import logging
from asyncio import Future
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

from psycopg import OperationalError

from services.messages.appends import (
    APPEND_ALL,
    LOCK_ALL,
    Append,
    AppendedRow,
    append_columns,
)
from services.messages.backlog import Backlog, BacklogFullError, Write
from services.messages.metrics import BATCH_SECONDS, BATCH_WRITES, show_backlog
from services.messages.parts import GROW_ALL, GrownRow, Growth, growth_columns
from services.messages.tables import Conversation
from services.runtime.background import begun_apart
from services.runtime.database import Database
from services.runtime.errors import server_busy
from services.runtime.telemetry.traces import traces

Stored = Sequence[tuple[Write, AppendedRow | GrownRow]]
"""What a conversation has got, in the order of its revisions."""

_log = logging.getLogger(__name__)

# One batch is written while the next one gathers. Beside one that is held up, by a lock or a slow
# disk, another is.
_IN_FLIGHT = 2
_HELD_UP_SECONDS = 0.01
_GATHERING_SECONDS = 0.008
_MOMENT_SECONDS = 0.001
_BATCH_WRITES = 256
_BATCH_BYTES = 4 << 20
_WAITING_WRITES = 8_192
_WAITING_BYTES = 64 << 20
_RETRY_SECONDS = 0.25


class Writer:
    """Writes a process's appends, and what its growing messages get."""

    def __init__(
        self, database: Database, committed: Callable[[Conversation, Stored], None]
    ) -> None:
        """Takes where they go, and what to call with what each conversation has got."""
        self._database = database
        self._committed = committed
        self._backlog = Backlog(maximum_writes=_WAITING_WRITES, maximum_bytes=_WAITING_BYTES)
        self._writing: set[asyncio.Task[None]] = set()
        self._held_up = 0
        self._together = 1
        """How many writes have come together lately."""
        show_backlog(lambda: len(self._backlog), lambda: self._backlog.size)

    async def append(self, appends: Sequence[Append]) -> list[AppendedRow | None]:
        """Writes appends, in their order within each conversation; on disk when this returns.

        A caller that is cancelled meanwhile may find each of them stored, or not.

        Raises:
            Refusal: SERVER_BUSY, and nothing was written.
            psycopg.Error: the database failed; each may have been written or not.
        """
        self._add(appends)
        if len(appends) == 1:
            return [await appends[0].stored]
        return await asyncio.gather(*(append.stored for append in appends))

    async def grow(self, growth: Growth) -> GrownRow | None:
        """Writes what a growing message has got; on disk when this returns.

        Raises:
            Refusal: SERVER_BUSY, and nothing was written.
            psycopg.Error: the database failed; it may have been written or not.
        """
        self._add([growth])
        return await growth.stored

    def _add(self, writes: Sequence[Write]) -> None:
        try:
            self._backlog.add(writes)
        except BacklogFullError:
            raise server_busy(_RETRY_SECONDS) from None
        self._begin()

    def _begin(self) -> None:
        """Begins to write what waits, unless a batch is on its way that is not held up."""
        if self._backlog.ready and len(self._writing) < min(1 + self._held_up, _IN_FLIGHT):
            self._writing.add(begun_apart(self._write(), "writer"))

    async def _write(self) -> None:
        try:
            await self._write_batches()
        finally:
            # At once: whoever comes between its last look and a callback would be left waiting.
            self._writing.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    async def _write_batches(self) -> None:
        await self._gather()
        while batch := self._backlog.take(writes=_BATCH_WRITES, size=_BATCH_BYTES):
            self._together = max(len(batch), self._together * 7 // 8)
            try:
                with self._noticing_when_held_up():
                    await self._write_batch(batch)
            finally:
                for write in batch:
                    # Whoever has no answer by now gets none: this process fails or ends.
                    write.stored.cancel()
                self._backlog.written(batch)
            await self._gather()

    async def _gather(self) -> None:
        """Waits for as many as have come together lately, while each moment brings more of them."""
        if self._together == 1:
            return
        loop = asyncio.get_running_loop()
        until = loop.time() + _GATHERING_SECONDS
        while (waiting := len(self._backlog)) < self._together and loop.time() < until:
            await asyncio.sleep(_MOMENT_SECONDS)
            if len(self._backlog) == waiting:
                return

    @contextmanager
    def _noticing_when_held_up(self) -> Iterator[None]:
        """Around the writing of a batch: lets another begin if this takes long."""
        is_held_up = False

        def note() -> None:
            nonlocal is_held_up
            is_held_up = True
            self._held_up += 1
            self._begin()

        overdue = asyncio.get_running_loop().call_later(_HELD_UP_SECONDS, note)
        try:
            yield
        finally:
            overdue.cancel()
            self._held_up -= is_held_up

    async def _write_batch(self, batch: Sequence[Write]) -> None:
        BATCH_WRITES.observe(len(batch))
        try:
            with (
                traces.batch("write batch", lambda: (write.caller for write in batch)),
                BATCH_SECONDS.time(),
            ):
                stored = await self._store(batch)
        except Exception as error:  # noqa: BLE001 - whatever it is, whoever waits is told
            if len(batch) == 1 or isinstance(error, OperationalError):
                _fail(batch, error)
                return
            # Nothing of it was stored. One write must not be the others' ruin: in halves, and
            # halves of these, whoever it is is found.
            _log.warning("a batch was refused; writing it in parts", extra={"writes": len(batch)})
            middle = len(batch) // 2
            await self._write_batch(batch[:middle])
            await self._write_batch(batch[middle:])
        else:
            self._answer(stored)

    async def _store(
        self, batch: Sequence[Write]
    ) -> list[tuple[Write, AppendedRow | GrownRow | None]]:
        """Stores a batch; None for what was not stored, see `Append` and `Growth`.

        Raises:
            Exception: none was stored, unless the connection broke before the answer came.
        """
        appends = [write for write in batch if isinstance(write, Append)]
        growths = [write for write in batch if isinstance(write, Growth)]
        conversations = {write.conversation for write in batch}
        steps: list[tuple[Any, Any]] = [
            (
                LOCK_ALL,
                {
                    "sessions": [conversation.session_id for conversation in conversations],
                    "persons": [conversation.user_id for conversation in conversations],
                },
            )
        ]
        kinds: list[Sequence[Write]] = []
        if appends:
            steps.append((APPEND_ALL, append_columns(appends)))
            kinds.append(appends)
        if growths:
            steps.append((GROW_ALL, growth_columns(growths)))
            kinds.append(growths)
        _, *results = await self._database.in_one_trip(*steps)
        stored: list[tuple[Write, AppendedRow | GrownRow | None]] = []
        for writes, rows in zip(kinds, results, strict=True):
            by_place = {row.place: row for row in rows}
            stored += [(write, by_place.get(place)) for place, write in enumerate(writes, 1)]
        return stored

    def _answer(self, stored: Sequence[tuple[Write, AppendedRow | GrownRow | None]]) -> None:
        got: defaultdict[Conversation, list[tuple[Write, AppendedRow | GrownRow]]]
        got = defaultdict(list)
        for write, row in stored:
            if not write.stored.done():
                cast("Future[AppendedRow | GrownRow | None]", write.stored).set_result(row)
            if row is not None:
                got[write.conversation].append((write, row))
        for conversation, written in got.items():
            try:
                self._committed(conversation, written)
            except Exception:  # noqa: BLE001 - it is stored; who watches finds it by looking
                _log.exception("watchers were not told of what was stored")


def _fail(batch: Sequence[Write], error: Exception) -> None:
    for write in batch:
        if not write.stored.done():
            write.stored.set_exception(error)
