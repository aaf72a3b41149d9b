"""How many bytes a person keeps: counted with every write, and always those that are stored."""

import random
from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import grpc
import psycopg
import pytest

from local.stack import Stack
from tests.integration.calls import MakePerson, Person
from tests.integration.eventually import eventually, rows
from tests.integration.replying import INTERRUPTED, STOPPED, Replying

_COUNTED = """
    SELECT bytes, counted_revision = revision FROM messages.conversations WHERE session_id = %s
"""
_STORED = """
    SELECT (
        SELECT coalesce(sum(octet_length(body) + coalesce(octet_length(original), 0)), 0)
        FROM messages.messages WHERE session_id = %(session)s
    ) + (
        SELECT coalesce(sum(octet_length(body)), 0)
        FROM messages.message_parts WHERE session_id = %(session)s
    )
"""
# What a writer does that knows nothing of bytes, as the release before them.
_ADD = """
    WITH counting AS (
        UPDATE messages.conversations
        SET last_sequence = last_sequence + 1, message_count = message_count + 1,
            revision = revision + 1
        WHERE session_id = %(session)s
        RETURNING session_id, user_id, last_sequence, revision
    )
    INSERT INTO messages.messages (session_id, user_id, message_id, sequence, revision, role, body,
        create_time, update_time)
    SELECT session_id, user_id, %(message)s, last_sequence, revision, 1, %(body)s, now(), now()
    FROM counting
"""


def stored_bytes(stack: Stack, session: str) -> int:
    """What the envelopes of a session take."""
    with psycopg.connect(stack.admin_url) as database:
        row = database.execute(_STORED.encode(), {"session": UUID(session)}).fetchone()
    assert row is not None
    return int(row[0])


def counted(stack: Stack, session: str) -> tuple[int, bool]:
    """What is counted of it, and whether that is said to be right."""
    ((size, is_counted),) = rows(stack, _COUNTED, UUID(session))
    return size, is_counted


def add_uncounted(stack: Stack, session: str, body: bytes) -> None:
    """Adds a message as a writer does that does not count."""
    named = {"session": UUID(session), "message": uuid4(), "body": body}
    with psycopg.connect(stack.admin_url, autocommit=True) as database:
        database.execute(_ADD.encode(), named)


def used(alice: Person) -> int:
    """What a person is told that they keep."""
    return int(alice.call("GET", "/v1/usage")["bytes"])


class Talk:
    """Somebody who does anything that one can do in a conversation, by chance."""

    def __init__(self, alice: Person, replying: Replying, chance: random.Random) -> None:
        self._alice, self._replying, self._chance = alice, replying, chance
        self._path = f"/v1/sessions/{replying.session}/messages"
        self._said: dict[str, str] = {}
        self._replies: list[str] = []

    async def go_on(self) -> str:
        """Does something, and gives its name."""
        acts = [self._say, self._say_again, self._change, self._bring_in, self._delete]
        growing = [self._reply, self._reply_and_stop, self._reply_and_delete, self._take_over]
        act = self._chance.choice([*acts, *growing])
        await act()
        return act.__name__

    def _text(self) -> str:
        return "é" * self._chance.randint(1, 3_000)

    async def _say(self) -> None:
        message_id, text = str(uuid4()), self._text()
        self._alice.say(self._replying.session, text, messageId=message_id)
        self._said[message_id] = text

    async def _say_again(self) -> None:
        for message_id, text in self._said.items():
            self._alice.say(self._replying.session, text, messageId=message_id)

    async def _change(self) -> None:
        for message_id in self._some(list(self._said)):
            body = {"content": self._text(), "metadata": {"mood": self._text()}}
            self._alice.call("PATCH", f"{self._path}/{message_id}", body)

    async def _bring_in(self) -> None:
        old = [self._message(message_id, text) for message_id, text in self._said.items()]
        new = [self._message(str(uuid4()), self._text()) for _ in range(3)]
        body = [{"messages": [*old, *new]}]
        self._alice.call("POST", "/v1/messages:import", body)
        self._said |= {message["messageId"]: message["content"] for message in new}

    async def _delete(self) -> None:
        for message_id in self._some([*self._said, *self._replies]):
            self._alice.call("DELETE", f"{self._path}/{message_id}")
            self._said.pop(message_id, None)
            if message_id in self._replies:
                self._replies.remove(message_id)

    async def _reply(self) -> None:
        message_id = str(uuid4())
        await self._replying.complete(message_id, *(self._text() for _ in range(3)))
        self._replies.append(message_id)

    async def _reply_and_stop(self) -> None:
        message_id, call = await self._half()
        assert (await self._replying.stop(message_id)).state == STOPPED
        call.cancel()
        self._replies.append(message_id)

    async def _reply_and_delete(self) -> None:
        message_id, call = await self._half()
        call.cancel()
        self._alice.call("DELETE", f"{self._path}/{message_id}")

    async def _take_over(self) -> None:
        message_id, call = await self._half()
        call.cancel()
        length = len((await self._replying.get(message_id)).content)
        await self._replying.complete(message_id, self._text(), offset=length)
        self._replies.append(message_id)

    async def _half(self) -> "tuple[str, grpc.aio.StreamUnaryCall[Any, Any]]":
        """A reply that is stored in parts so far, and the call that writes it."""
        message_id, first = str(uuid4()), self._text()
        call = await self._replying.begin(message_id, first)
        await self._replying.get_when(message_id, length=len(first))
        assert rows(self._replying.stack, "SELECT 1 FROM messages.message_parts")
        return message_id, call

    def _some(self, ids: Sequence[str]) -> Sequence[str]:
        return self._chance.sample(ids, min(len(ids), 2))

    def _message(self, message_id: str, text: str) -> dict[str, str]:
        named = {"sessionId": self._replying.session, "messageId": message_id}
        return {**named, "role": "ROLE_USER", "content": text}


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_is_done_in_a_conversation_its_bytes_are_those_that_are_stored(
    stack: Stack, person: MakePerson, replying: Replying, seed: int
) -> None:
    talk = Talk(person("alice"), replying, random.Random(seed))  # noqa: S311 - not a secret
    person("alice").say(replying.session, "It begins.")
    done = []
    for _ in range(30):
        done.append(await talk.go_on())
        expected = (stored_bytes(stack, replying.session), True)
        assert counted(stack, replying.session) == expected, done


async def test_a_reply_that_breaks_off_and_is_taken_up_again_is_counted_at_every_step(
    stack: Stack, replying: Replying
) -> None:
    message_id = str(uuid4())
    call = await replying.begin(message_id, "first")
    await replying.get_when(message_id, length=5)
    call.cancel()
    await replying.get_when(message_id, state=INTERRUPTED)
    assert counted(stack, replying.session) == (stored_bytes(stack, replying.session), True)
    call = await replying.begin(message_id, " and second", offset=5)
    await replying.get_when(message_id, length=16)
    assert counted(stack, replying.session) == (stored_bytes(stack, replying.session), True)
    await call.done_writing()
    assert (await call).message.content == "first and second"
    assert counted(stack, replying.session) == (stored_bytes(stack, replying.session), True)


def test_a_deleted_conversation_counts_nothing(stack: Stack, person: MakePerson) -> None:
    alice = person("alice")
    session = alice.new_session()
    alice.say(session, "gone")
    assert counted(stack, session)[0] > 0
    alice.call("DELETE", f"/v1/sessions/{session}")
    eventually(lambda: counted(stack, session) == (0, True))


def test_where_a_writer_did_not_count_nothing_is_taken_for_counted(
    stack: Stack, person: MakePerson
) -> None:
    # Of her own, since it is counted when the quota looks, which is once in a while.
    alice = person(f"alice-{uuid4()}")
    session = alice.new_session()
    said = alice.say(session, "counted")
    before, is_counted = counted(stack, session)
    assert is_counted
    add_uncounted(stack, session, b"not counted")
    assert counted(stack, session) == (before, False)
    alice.say(session, "and more")
    alice.call("DELETE", f"/v1/sessions/{session}/messages/{said['messageId']}")
    assert not counted(stack, session)[1]


def test_a_person_sees_how_much_they_keep_in_all_their_conversations_and_how_much_they_may(
    stack: Stack, person: MakePerson
) -> None:
    alice, bob = person(f"alice-{uuid4()}"), person(f"bob-{uuid4()}")
    nothing = {"bytes": "0", "bytesLimit": str(1 << 30)}
    assert alice.call("GET", "/v1/usage") == nothing
    mine = [alice.new_session() for _ in range(3)]
    for session in mine:
        alice.say(session, "something")
    bob.say(bob.new_session(), "something else")
    assert used(alice) == sum(stored_bytes(stack, session) for session in mine)
    alice.call("DELETE", f"/v1/sessions/{mine[0]}")
    kept = sum(stored_bytes(stack, session) for session in mine[1:])
    eventually(lambda: used(alice) == kept)


def test_what_a_writer_did_not_count_is_counted_when_somebody_asks_and_once(
    stack: Stack, person: MakePerson
) -> None:
    alice = person(f"alice-{uuid4()}")
    mine = [alice.new_session() for _ in range(3)]
    for session in mine:
        alice.say(session, "counted")
    for session in mine[1:]:
        add_uncounted(stack, session, b"not counted")
        alice.say(session, "not counted either")
    truth = {session: stored_bytes(stack, session) for session in mine}
    assert used(alice) == sum(truth.values())
    assert {session: counted(stack, session) for session in mine} == {
        session: (size, True) for session, size in truth.items()
    }
    alice.say(mine[2], "and more")
    assert counted(stack, mine[2]) == (stored_bytes(stack, mine[2]), True)


def test_what_is_being_written_is_told_without_waiting_and_counted_another_time(
    stack: Stack, person: MakePerson
) -> None:
    alice = person(f"alice-{uuid4()}")
    session = alice.new_session()
    alice.say(session, "counted")
    add_uncounted(stack, session, b"not counted")
    truth = stored_bytes(stack, session)
    with psycopg.connect(stack.admin_url) as writing:
        lock = "SELECT 1 FROM messages.conversations WHERE session_id = %s FOR UPDATE"
        writing.execute(lock.encode(), (UUID(session),))
        assert used(alice) == truth
        assert not counted(stack, session)[1]
    assert used(alice) == truth
    assert counted(stack, session) == (truth, True)
