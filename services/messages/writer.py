"""The writer: appends that arrive together commit together.

There is one for each process. It takes what waits, whosever it is, writes it in one transaction and
one round trip, and answers each caller on its own. An append that comes alone is written at once;
under load, batches form of what arrives while the last ones commit, and for a moment after.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence

from psycopg import Error, OperationalError

from services.messages.appends import Append, AppendedRow, store_appends
from services.messages.backlog import Backlog, BacklogFullError
from services.messages.tables import Conversation
from services.runtime.database import Database
from services.runtime.errors import server_busy

_log = logging.getLogger(__name__)

# With two, the database has work while the answers of the other batch go out; with more, batches
# are smaller and gain nothing.
_IN_FLIGHT = 2
# A batch costs this process as much as several appends do. Where the processor is what is short, a
# batch commits before the next appends have been read, and would be of one or two for ever: so they
# get as long as they keep coming, looked at in steps.
_GATHERING_STEPS = 4
_GATHERING_STEP_SECONDS = 0.001
_BATCH_APPENDS = 256
_BATCH_BYTES = 4 << 20
_WAITING_APPENDS = 8_192
_WAITING_BYTES = 64 << 20
_RETRY_SECONDS = 0.25


class Writer:
    """Writes a process's appends."""

    def __init__(self, database: Database, committed: Callable[[Conversation], None]) -> None:
        """Takes where they go, and what to call for each conversation that has got new ones."""
        self._database = database
        self._committed = committed
        self._backlog = Backlog(maximum_appends=_WAITING_APPENDS, maximum_bytes=_WAITING_BYTES)
        self._writing: set[asyncio.Task[None]] = set()

    async def write(self, appends: Sequence[Append]) -> list[AppendedRow | None]:
        """Writes appends, in their order within each conversation; on disk when this returns.

        A caller that is cancelled meanwhile may find each of them stored, or not.

        Raises:
            Refusal: SERVER_BUSY, and nothing was written.
            psycopg.Error: the database failed; each may have been written or not.
        """
        try:
            self._backlog.add(appends)
        except BacklogFullError:
            raise server_busy(_RETRY_SECONDS) from None
        self._start_writing()
        if len(appends) == 1:
            return [await appends[0].stored]
        return await asyncio.gather(*(append.stored for append in appends))

    def _start_writing(self) -> None:
        if self._backlog.ready and len(self._writing) < _IN_FLIGHT:
            task = asyncio.create_task(self._write_batches(), name="writer")
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)

    async def _write_batches(self) -> None:
        if len(self._writing) > 1:
            await self._gather()
        while batch := self._backlog.take(appends=_BATCH_APPENDS, size=_BATCH_BYTES):
            try:
                await self._write_batch(batch)
            finally:
                self._backlog.written(batch)
            if self._backlog.ready:
                await self._gather()

    async def _gather(self) -> None:
        """Lets appends come, for a few milliseconds at most and no longer than they do."""
        for _ in range(_GATHERING_STEPS):
            waiting = len(self._backlog)
            await asyncio.sleep(_GATHERING_STEP_SECONDS)
            if len(self._backlog) <= waiting:
                return

    async def _write_batch(self, batch: Sequence[Append]) -> None:
        try:
            rows = await store_appends(self._database, batch)
        except OperationalError as error:
            _fail(batch, error)
        except Error as error:
            if len(batch) == 1:
                _fail(batch, error)
                return
            # Nothing of it was stored. One append must not be the others' ruin: in halves, and
            # halves of these, whoever it is is found.
            _log.warning("a batch was refused; writing it in parts", extra={"appends": len(batch)})
            middle = len(batch) // 2
            await self._write_batch(batch[:middle])
            await self._write_batch(batch[middle:])
        except asyncio.CancelledError:
            for append in batch:
                append.stored.cancel()
            raise
        else:
            self._answer(batch, rows)

    def _answer(self, batch: Sequence[Append], rows: Sequence[AppendedRow | None]) -> None:
        for append, row in zip(batch, rows, strict=True):
            if not append.stored.done():
                append.stored.set_result(row)
        stored = (append for append, row in zip(batch, rows, strict=True) if row is not None)
        for conversation in {append.conversation: None for append in stored}:
            self._committed(conversation)


def _fail(batch: Sequence[Append], error: Exception) -> None:
    for append in batch:
        if not append.stored.done():
            append.stored.set_exception(error)
