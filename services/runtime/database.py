"""Talking to PostgreSQL: SQLAlchemy Core writes the statements, psycopg runs them.

A statement is compiled once, when its module is imported, together with the type of its rows. Going
through SQLAlchemy's engine for each call would cost several times what the database takes.

Every transaction is READ COMMITTED: each statement sees what was committed before it began. What
must not change until a transaction ends is locked by it, first, and looked at by a later statement.
"""

import asyncio
import logging
import os
import re
import select
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from psycopg import AsyncConnection, AsyncCursor, OperationalError
from psycopg.errors import TransactionTimeout
from psycopg.rows import class_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout
from sqlalchemy import ARRAY, LargeBinary, Uuid
from sqlalchemy.dialects.postgresql.psycopg import dialect as psycopg_dialect
from sqlalchemy.sql import Executable
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ClauseElement

from services.runtime.background import undisturbed
from services.runtime.patience import AWAY_SECONDS, RECONNECT_SECONDS
from services.runtime.telemetry.pools import show_pool
from services.runtime.telemetry.traces import traces

_log = logging.getLogger(__name__)

_DIALECT = psycopg_dialect()  # type: ignore[no-untyped-call]
_USES = re.compile(r"\b(INSERT INTO|UPDATE|DELETE FROM|FROM|JOIN) (\w+\.\w+)")
_VERBS = {"INSERT INTO": "INSERT", "UPDATE": "UPDATE", "DELETE FROM": "DELETE"}

Row = TypeVar("Row")
Parameters = Mapping[str, object]
Connection = AsyncConnection[tuple[object, ...]]

_POOL_SECONDS = 10.0
_OPEN_SECONDS = 30.0
_CLOSE_SECONDS = 5.0
_CONNECT_SECONDS = 5
_TRANSACTION_SECONDS = 15.0
# Beyond what the server itself lets a transaction take.
_ANSWER_SECONDS = 5.0
# A host that vanished without a word is noticed after half a minute at most.
_NOTICES_VANISHED_HOSTS = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 4,
    "tcp_user_timeout": 30_000,
}


@dataclass(frozen=True, slots=True)
class Statement(Generic[Row]):
    """A compiled statement, and the class that its result's columns are the fields of."""

    name: str
    """What it does to which tables, for traces."""
    sql: bytes
    row: type[Row]
    constants: Parameters
    """The values that the statement itself was written with."""


def statement(clause: Executable, row: type[Row]) -> Statement[Row]:
    """Compiles a SQLAlchemy Core statement; its bind parameters are the call's parameters."""
    compiled = cast("SQLCompiler", cast("ClauseElement", clause).compile(dialect=_DIALECT))
    constants = {name: value for name, value in compiled.params.items() if value is not None}
    sql = _with_binary_parameters(compiled)
    return Statement(_name_of(sql), sql.encode(), row, constants)


def _name_of(sql: str) -> str:
    """What a statement does to which tables, in its order: `UPDATE users.people`.

    As OpenTelemetry's conventions have it for `db.query.summary`.
    """
    done = [f"{_VERBS.get(verb, 'SELECT')} {table}" for verb, table in _USES.findall(sql)]
    return " ".join(dict.fromkeys(done)) or "SELECT"


def _with_binary_parameters(compiled: SQLCompiler) -> str:
    """The statement's text, with ids and bytes sent as they are.

    As text an array of them costs psycopg twenty times as much: each item is spelled, searched for
    what needs quotes, and quoted.
    """
    text = str(compiled)
    for name, parameter in compiled.binds.items():
        kind = parameter.type
        item = kind.item_type if isinstance(kind, ARRAY) else kind
        if isinstance(item, Uuid | LargeBinary):
            text = text.replace(f"%({name})s", f"%({name})b")
    return text


class Database:
    """A pool of connections as one service's role: `async with Database(…) as database`."""

    def __init__(
        self,
        url: str,
        *,
        pool_size: int,
        name: str,
        transaction_seconds: float | None = _TRANSACTION_SECONDS,
    ) -> None:
        """Takes the role's URL, the most connections to keep, and the name the server lists.

        A transaction that takes longer than `transaction_seconds` is ended by the server, so that
        nobody who hangs holds locks for ever, and a server that does not answer by then is given
        up. None is for work that nobody waits for.
        """
        self.url = url
        self._name = name
        self._transaction_seconds = transaction_seconds
        self._is_away = False
        self._waiting: set[asyncio.Timeout] = set()
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            url,
            kwargs=self._connection_settings(),
            min_size=min(2, pool_size),
            max_size=pool_size,
            timeout=_POOL_SECONDS,
            configure=self._note_connected,
            # The pool's own way is to wait twice as long after each failure.
            reconnect_timeout=RECONNECT_SECONDS,
            reconnect_failed=self._note_away,
            open=False,
        )
        show_pool(name, self._pool)

    async def __aenter__(self) -> "Database":
        await self._pool.open(wait=True, timeout=_OPEN_SECONDS)
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._pool.close(timeout=_CLOSE_SECONDS)

    async def for_a_start(self, work: Callable[[], Awaitable[None]]) -> None:
        """Does what a service needs before it can serve, which can be done again.

        It is, where the database goes away meanwhile: a service is often started with it.

        Raises:
            OperationalError: it does not come back for long.
            PoolTimeout: as before.
        """
        now = asyncio.get_running_loop().time
        until = now() + _OPEN_SECONDS
        while True:
            try:
                return await work()
            except (OperationalError, PoolTimeout):
                if now() > until:
                    raise
                _log.warning("the database went away while a service starts", exc_info=True)
            await asyncio.sleep(RECONNECT_SECONDS)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A connection in a transaction, which commits when the block ends without an error."""
        async with self._connection() as connection, connection.transaction():
            yield connection

    async def all(self, query: Statement[Row], parameters: Parameters) -> Sequence[Row]:
        """Runs a statement in a transaction of its own and gives all its rows."""
        async with self._connection() as connection:
            return await fetch_all(connection, query, parameters)

    async def one(self, query: Statement[Row], parameters: Parameters) -> Row | None:
        """Runs a statement in a transaction of its own and gives its first row, if any."""
        rows = await self.all(query, parameters)
        return rows[0] if rows else None

    async def in_one_trip(self, *steps: tuple[Statement[Any], Parameters]) -> list[Sequence[Any]]:
        """Runs statements in one transaction and one round trip, and gives the rows of each.

        Each sees what was committed before it began: what one waited for, the next one sees.
        """
        async with self._connection() as connection:
            with traces.round_trip(lambda: [query.name for query, _ in steps]):
                try:
                    # PostgreSQL commits a pipeline at its end, which is when the block is left:
                    # only then is there a result.
                    async with connection.pipeline():
                        cursors = [await _executed(connection, *step) for step in steps]
                except BaseException:
                    # The server skips what follows a failure, and may lack a statement that psycopg
                    # counts as prepared from here on: it would fail at each use.
                    await connection.close()
                    raise
            return [await cursor.fetchall() for cursor in cursors]

    async def all_after(
        self, first: Statement[Any], query: Statement[Row], parameters: Parameters
    ) -> Sequence[Row]:
        """Runs a statement after another one in the same trip, and gives all its rows.

        The first one locks what the second is about, or waits for those who change it.
        """
        _, rows = await self.in_one_trip((first, parameters), (query, parameters))
        found: Sequence[Row] = rows
        return found

    async def one_after(
        self, first: Statement[Any], query: Statement[Row], parameters: Parameters
    ) -> Row | None:
        """Runs a statement after another one in the same trip, and gives its first row, if any."""
        rows = await self.all_after(first, query, parameters)
        return rows[0] if rows else None

    async def connect(self) -> Connection:
        """A connection outside the pool, for whoever holds on to one (LISTEN)."""
        return cast(
            "Connection",
            await AsyncConnection.connect(self.url, **self._connection_settings()),
        )

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        """A connection of the pool.

        Raises:
            OperationalError: the database is away, failed, or took too long: what was under way may
                have been done or not.
            PoolTimeout: all connections are in use for long.
        """
        connection = await self._open_connection()
        try:
            async with connection:
                if self._transaction_seconds is None:
                    yield connection
                else:
                    with giving_up_after(self._transaction_seconds + _ANSWER_SECONDS, connection):
                        yield connection
        except TransactionTimeout as error:
            raise OperationalError("a transaction took too long") from error
        finally:
            await self._give_back(connection)

    async def _open_connection(self) -> Connection:
        """A connection that the server did not close meanwhile.

        The pool's own check would wait after each one that was closed, and longer each time: after
        a restart of the server they all are.
        """
        while True:
            connection = await self._waited_for()
            if not _was_closed(connection):
                return connection
            await connection.close()
            await self._give_back(connection)

    async def _waited_for(self) -> Connection:
        """The next connection of the pool.

        It is worth a wait where others use them all. Where nobody can connect, the wait is short,
        also for who waits already when that is noticed.

        Raises:
            OperationalError: the database is away.
            PoolTimeout: all connections are in use for long.
        """
        try:
            async with asyncio.timeout(AWAY_SECONDS if self._is_away else None) as limit:
                self._waiting.add(limit)
                try:
                    return await self._pool.getconn()
                finally:
                    self._waiting.discard(limit)
        except TimeoutError as error:
            raise OperationalError("nobody can connect to the database") from error

    async def _give_back(self, connection: Connection) -> None:
        """Gives a connection back to the pool.

        A pool whose lock is taken has it wait. A caller who is cancelled then, as by a client that
        leaves, would take the connection along for ever, and keep whoever was to have it next
        waiting.
        """
        await undisturbed(self._pool.putconn(connection))

    async def _note_away(self, pool: "AsyncConnectionPool[Connection]") -> None:
        if not self._is_away:
            self._is_away = True
            self._let_wait_until(asyncio.get_running_loop().time() + AWAY_SECONDS)
        await pool.check()

    async def _note_connected(self, _connection: Connection) -> None:
        self._is_away = False
        self._let_wait_until(None)

    def _let_wait_until(self, time: float | None) -> None:
        for limit in self._waiting:
            # Whose wait is over has not left yet.
            if not limit.expired():
                limit.reschedule(time)

    def _connection_settings(self) -> dict[str, Any]:
        # Whatever the server's own defaults say: an acknowledged write is on disk, and who waited
        # for a lock sees, by its next statement, what whoever had it has done.
        options = ["-c synchronous_commit=on", r"-c default_transaction_isolation=read\ committed"]
        if self._transaction_seconds is not None:
            options.append(f"-c transaction_timeout={round(self._transaction_seconds * 1000)}")
        return {
            "autocommit": True,
            "application_name": self._name,
            "options": " ".join(options),
            "connect_timeout": _CONNECT_SECONDS,
            **_NOTICES_VANISHED_HOSTS,
        }


@contextmanager
def giving_up_after(seconds: float, connection: Connection) -> Iterator[None]:
    """Ends a connection whose server does not answer in time; what waits for it in the block fails.

    Cancelling would not do: that waits for the server, too.
    """
    overdue = asyncio.get_running_loop().call_later(seconds, _hang_up, connection)
    try:
        yield
    finally:
        overdue.cancel()


def _hang_up(connection: Connection) -> None:
    if connection.closed:
        return
    with suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)


def _was_closed(connection: Connection) -> bool:
    """Whether the server closed a connection that nobody used, as far as is known without asking.

    A server that closes says so, which makes an idle socket readable.
    """
    if connection.closed:
        return True
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


async def fetch_all(
    connection: Connection, query: Statement[Row], parameters: Parameters
) -> Sequence[Row]:
    """Runs a statement on a connection and gives all its rows."""
    with traces.round_trip(lambda: [query.name]):
        cursor = await _executed(connection, query, parameters)
        return await cursor.fetchall() if cursor.description else ()


async def _executed(
    connection: Connection, query: Statement[Row], parameters: Parameters
) -> AsyncCursor[Row]:
    cursor = connection.cursor(binary=True, row_factory=class_row(query.row))
    return await cursor.execute(query.sql, {**query.constants, **parameters})


async def fetch_one(
    connection: Connection, query: Statement[Row], parameters: Parameters
) -> Row | None:
    """Runs a statement on a connection and gives its first row, if any."""
    rows = await fetch_all(connection, query, parameters)
    return rows[0] if rows else None
