"""Whatever is to be purged goes, also while two processes think that they lead."""

import asyncio
from collections.abc import Iterator
from uuid import UUID, uuid4

import psycopg
import pytest

from local.stack import Stack
from services.messages.erasing import Purge
from services.messages.tables import Conversation
from services.runtime.database import Database
from tests.integration.eventually import eventually, rows, waits_for_a_lock

# More than are purged at once.
_MESSAGES = 1_500
_MARKED = """
    INSERT INTO messages.conversations (session_id, user_id, last_sequence, message_count, revision,
        create_time, delete_time)
    VALUES (%(session)s, %(person)s, %(messages)s, 0, %(messages)s, now(), now())
"""
# In the order of every index, so that any plan meets the same ones first.
_LEFT_IN_IT = """
    INSERT INTO messages.messages (session_id, user_id, message_id, sequence, revision, role, body,
        create_time, update_time)
    SELECT %(session)s, %(person)s, lpad(to_hex(nth), 32, '0')::uuid, nth, nth, 1, '', now(), now()
    FROM generate_series(1, %(messages)s) AS nth
"""


@pytest.fixture
def deleted(stack: Stack) -> Iterator[Conversation]:
    """A deleted conversation whose messages are still to be purged, by nobody so far."""
    conversation = Conversation(uuid4(), uuid4())
    with psycopg.connect(stack.admin_url, autocommit=True) as admin:
        for query in (_MARKED, _LEFT_IN_IT):
            admin.execute(query.encode(), {**conversation.parameters, "messages": _MESSAGES})
        yield conversation
        for table in ("messages", "conversations"):
            admin.execute(
                f"DELETE FROM messages.{table} WHERE session_id = %s".encode(),  # noqa: S608
                (conversation.session_id,),
            )


def _left(stack: Stack, session: UUID) -> int:
    query = "SELECT count(*) FROM messages.messages WHERE session_id = %s"
    return int(rows(stack, query, session)[0][0])


async def test_who_purges_beside_another_does_not_take_its_part_for_the_whole(
    stack: Stack, deleted: Conversation
) -> None:
    url = stack.service("messages").environment["INGLENOOK_DATABASE_URL"]
    session = deleted.session_id
    with psycopg.connect(stack.admin_url) as other:
        other.execute(
            "DELETE FROM messages.messages WHERE session_id = %s AND sequence <= 1000", (session,)
        )
        async with Database(url, pool_size=1, name="second purge") as database:
            purging = asyncio.create_task(Purge(database).deliver([deleted.scope]))
            await asyncio.to_thread(eventually, lambda: waits_for_a_lock(stack, "second purge"))
            other.commit()
            await purging
    assert _left(stack, session) == 0
