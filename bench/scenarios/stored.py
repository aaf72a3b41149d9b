"""Appends by how many messages the table holds."""

import os
from uuid import uuid4

import psycopg

from bench.bench import CONTENT, Bench
from bench.figures import Figure, Results
from bench.scenarios.appends import share_of_echo
from bench.series import series_of
from services.runtime.encryption.envelope import NONCE_BYTES, TAG_BYTES, VERSION

_IN_A_CONVERSATION = 100
_AT_LEAST = 0.9
_PEOPLE, _CALLERS = 4, 16
_PROTOBUF_BYTES = 3
"""What the body's protobuf has besides the content: its tag and length."""
_COPY = """
    COPY messages.messages
        (session_id, user_id, message_id, sequence, revision, role, body, create_time, update_time)
    FROM STDIN (FORMAT BINARY)
"""
_TYPES = ("uuid", "uuid", "uuid", "int8", "int8", "int2", "bytea", "timestamptz", "timestamptz")


def measure(bench: Bench, results: Results) -> None:
    """Few and many; each as a share of the echo, since the table is not made small and big again.

    The rows are those of other people, shaped as the service writes them, and random as ciphertext
    is. The messages that other scenarios left go first.
    """
    bench.database.execute("TRUNCATE messages.messages")
    few, many = bench.effort.stored
    _fill(bench.database, few)
    rate_few, share_few = share_of_echo(bench, _PEOPLE, _CALLERS)
    _fill(bench.database, many - few)
    rate_many, share_many = share_of_echo(bench, _PEOPLE, _CALLERS)
    results.figures.append(
        Figure(
            what=f"appends with {many:,} messages stored",
            load=f"64 callers, 4 conversations; other people's {many:,} rows in the table",
            unit="/s",
            measured=rate_many,
            against=f"{few:,} stored, {rate_few.median:,.0f}/s; both as a share of the echo",
            ratio=series_of([share / share_few.median for share in share_many.values]),
            at_least=_AT_LEAST,
        )
    )


def _fill(database: "psycopg.Connection[tuple[object, ...]]", count: int) -> None:
    """Adds so many messages of other people, a hundred in each conversation."""
    now = database.execute("SELECT now()").fetchone()
    sealed = _PROTOBUF_BYTES + len(CONTENT) + TAG_BYTES
    with database.cursor() as cursor, cursor.copy(_COPY) as copy:
        copy.set_types(_TYPES)
        for number in range(count):
            sequence = number % _IN_A_CONVERSATION + 1
            if sequence == 1:
                session, person, key = uuid4(), uuid4(), VERSION + uuid4().bytes
            body = key + os.urandom(NONCE_BYTES + sealed)
            moment = now[0] if now else None
            copy.write_row((session, person, uuid4(), sequence, sequence, 1, body, moment, moment))
    database.execute("VACUUM ANALYZE messages.messages")
    database.execute("CHECKPOINT")
