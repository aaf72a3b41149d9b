"""Replies that grow: seen as they are generated, on disk as they grow, and never lost."""

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID, uuid4

import grpc
import psycopg
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from inglenook.messages.v1.messages_pb2 import (
    StreamMessageHeader,
    StreamMessageRequest,
    StreamMessageResponse,
    UpdateMessageRequest,
    WatchMessagesRequest,
)
from psycopg import sql

from local.stack import Stack, free_ports
from services.messages.growth import LEASE_SECONDS
from tests.integration.calls import MakePerson, Refused, refusal_over_grpc
from tests.integration.eventually import eventually, rows, waits_for_a_lock
from tests.integration.replicas import start_replica
from tests.integration.replying import COMPLETE, GROWING, INTERRUPTED, Reader, Replying, read

INVALID = Refused("INVALID_ARGUMENT", "REQUEST_INVALID")
REUSED = Refused("ALREADY_EXISTS", "ID_REUSED")
REPLACED = Refused("ABORTED", "WRITER_REPLACED")
MORE = Refused("ABORTED", "MORE_WAS_SAID")
STOPPING = Refused("UNAVAILABLE", "SERVER_STOPPING")


WORDS = [f"word {number} \N{SLIGHTLY SMILING FACE} " for number in range(12)]


async def test_a_reply_is_seen_as_it_grows_here_and_on_another_replica(
    replying: Replying, replica: int
) -> None:
    readers = {0: Reader(), replica: Reader()}
    reading = [
        asyncio.create_task(read(replying, reader, until=COMPLETE, port=port))
        for port, reader in readers.items()
    ]
    message_id = str(uuid4())
    call = await replying.begin(message_id, model="listener")
    for number, word in enumerate(WORDS, 1):
        await call.write(StreamMessageRequest(text=word))
        # Nothing more is said before everyone has seen it.
        for reader in readers.values():
            await reader.until("".join(WORDS[:number]))
    await call.done_writing()
    message = (await call).message
    assert (message.content, message.state, message.sequence) == ("".join(WORDS), COMPLETE, 1)
    assert message.model == "listener"
    await asyncio.gather(*reading)
    for reader in readers.values():
        assert reader.content == "".join(WORDS)
        assert reader.states == [GROWING, COMPLETE]
        assert reader.deltas > 1
    assert await replying.get(message_id) == message


async def test_of_several_that_follow_one_message_one_begins(
    replying: Replying, replica: int, person: MakePerson
) -> None:
    alice = person("alice")
    for _ in range(5):
        asked = alice.say(replying.session, "Who answers?")
        ids = [str(uuid4()) for _ in range(4)]
        calls = [
            await replying.begin(message_id, after=asked["sequence"], port=port)
            for message_id, port in zip(ids, [0, replica] * 2, strict=True)
        ]
        for call in calls:
            # Who is refused must not write: gRPC would forget why.
            if "x-stored-length" in dict(await call.initial_metadata()):
                await call.write(StreamMessageRequest(text="I"))
            await call.done_writing()
        ended = await asyncio.gather(*calls, return_exceptions=True)
        (stored,) = [one.message for one in ended if isinstance(one, StreamMessageResponse)]
        refused = [one for one in ended if isinstance(one, grpc.aio.AioRpcError)]
        assert {refusal_over_grpc(one) for one in refused} == {MORE}
        assert len(refused) == 3
        assert stored.sequence == asked["sequence"] + 1


async def test_what_follows_a_message_is_taken_up_whatever_came_and_begins_where_that_was_deleted(
    replying: Replying, person: MakePerson
) -> None:
    alice, message_id = person("alice"), str(uuid4())
    asked = alice.say(replying.session, "Who answers?")
    later = alice.say(replying.session, "Nobody?")
    path = f"/v1/sessions/{replying.session}/messages/{later['messageId']}"
    assert await replying.refused(await replying.begin(message_id, after=1)) == MORE
    alice.call("DELETE", path)
    call = await replying.begin(message_id, "I ", after=asked["sequence"])
    await replying.get_when(message_id, length=2)
    alice.say(replying.session, "Ah.")
    taken_up = await replying.begin(message_id, "do.", offset=2, after=asked["sequence"])
    await taken_up.done_writing()
    assert (await taken_up).message.content == "I do."
    assert await replying.refused(call) == REPLACED


async def test_whoever_joins_in_the_middle_gets_the_text_so_far_and_then_the_rest(
    replying: Replying,
) -> None:
    message_id = str(uuid4())
    call = await replying.begin(message_id, "so far ")
    held = await replying.get_when(message_id, length=7)
    assert held.state == GROWING
    first, last = Reader(), Reader()
    changes = replying.watch()
    first.apply(await anext(changes))
    assert (first.content, first.states) == ("so far ", [GROWING])
    await call.write(StreamMessageRequest(text="and the rest"))
    first.apply(await anext(changes))
    assert first.content == "so far and the rest"
    await call.done_writing()
    await call
    await read(replying, last, until=COMPLETE)
    assert (last.content, last.states) == ("so far and the rest", [COMPLETE])


async def test_a_watcher_that_was_cut_resumes_with_what_the_reply_got_meanwhile(
    replying: Replying, replica: int
) -> None:
    message_id = str(uuid4())
    call = await replying.begin(message_id, "one ")
    await replying.get_when(message_id, length=4)
    reader, token = Reader(), ""
    watching = replying.stub().WatchMessages(
        WatchMessagesRequest(session_id=replying.session), metadata=replying.as_person
    )
    async for frame in watching:
        token = frame.resume_token
        for change in frame.changes:
            reader.apply(change)
        if frame.HasField("current"):
            break
    watching.cancel()
    await call.write(StreamMessageRequest(text="two "))
    await replying.get_when(message_id, length=8)
    await call.write(StreamMessageRequest(text="three"))
    await replying.get_when(message_id, length=13)
    changes = replying.watch(port=replica, token=token)
    reader.apply(await anext(changes))
    assert (reader.content, reader.states, reader.deltas) == ("one two three", [GROWING], 1)
    await call.done_writing()
    await call


async def test_a_reply_whose_writer_vanished_ends_with_what_was_stored(
    replying: Replying,
) -> None:
    message_id = str(uuid4())
    call = await replying.begin(message_id, "all that ", "was said")
    await replying.get_when(message_id, length=17)
    call.cancel()
    message = await replying.get_when(message_id, state=INTERRUPTED)
    assert message.content == "all that was said"
    reader = Reader()
    await read(replying, reader, until=INTERRUPTED)


async def test_a_reply_in_a_deleted_session_goes_with_it_and_holds_up_no_other(
    replying: Replying, person: MakePerson, stack: Stack
) -> None:
    alice = person("alice")
    kept, gone = replying.session, alice.new_session()
    ids = {kept: str(uuid4()), gone: str(uuid4())}
    for session, message_id in ids.items():
        replying.session = session
        call = await replying.begin(message_id, "so far")
        await replying.get_when(message_id, length=6)
        if session == gone:
            alice.call("DELETE", f"/v1/sessions/{gone}")
        call.cancel()
    replying.session = kept
    message = await replying.get_when(ids[kept], state=INTERRUPTED)
    assert message.content == "so far"
    query = "SELECT 1 FROM messages.message_parts WHERE session_id = %s"
    eventually(lambda: rows(stack, query, gone) == [])


async def test_who_waited_to_write_counts_as_alive_from_then_on_and_not_from_before(
    replying: Replying, stack: Stack
) -> None:
    message_id = str(uuid4())
    call = await replying.begin(message_id, "one")
    await replying.get_when(message_id, length=3)
    lock = "SELECT 1 FROM messages.conversations WHERE session_id = %s FOR UPDATE"
    with psycopg.connect(stack.admin_url) as other:
        other.execute(lock.encode(), (UUID(replying.session),))
        await call.write(StreamMessageRequest(text=" two"))
        await asyncio.to_thread(eventually, lambda: waits_for_a_lock(stack, "messages"))
        now = other.execute("SELECT clock_timestamp()").fetchone()
        other.commit()
    await replying.get_when(message_id, length=7)
    deadline = "SELECT writer_deadline FROM messages.messages WHERE message_id = %s"
    assert now is not None
    assert rows(stack, deadline, message_id)[0][0] >= now[0] + timedelta(seconds=LEASE_SECONDS)
    await call.done_writing()
    await call


async def test_replies_that_cannot_be_ended_are_put_off_and_keep_no_other_from_its_end(
    replying: Replying, stack: Stack, person: MakePerson
) -> None:
    message_id = str(uuid4())
    call = await replying.begin(message_id, "half of ")
    await replying.get_when(message_id, length=8)
    # More than are looked at at once, and all of them before the one that can be ended: what is
    # another's envelope does not open.
    damaged = (
        "INSERT INTO messages.messages (session_id, user_id, message_id, sequence, revision, role,"
        " body, state, length, begun_revision, writer_service, writer, writer_deadline,"
        " create_time, update_time)"
        " SELECT session_id, user_id, gen_random_uuid(), sequence + 1000 + n, revision + 1000 + n,"
        " role, body, state, length, begun_revision, writer_service, gen_random_uuid(),"
        " now() - interval '1 hour', create_time,"
        " now() - CASE WHEN n > 60 THEN interval '20 minutes' ELSE interval '1 day' END"
        " FROM messages.messages, generate_series(1, 120) AS n WHERE message_id = %s"
        " RETURNING message_id::text"
    )
    put_off = (
        "SELECT date_trunc('hour', writer_deadline - now() + interval '5 minutes')"
        " FROM messages.messages WHERE message_id = ANY(%s::uuid[])"
    )
    with psycopg.connect(stack.admin_url, autocommit=True) as database:
        ids = [row[0] for row in database.execute(damaged, (message_id,))]
        call.cancel()
        await replying.get_when(message_id, state=INTERRUPTED)
        pauses = Counter(row[0] for row in database.execute(put_off, (ids,)))
    # By their age: 20 minutes, and no more than an hour.
    assert pauses == {timedelta(): 60, timedelta(hours=1): 60}
    tried = _not_interrupted(stack)
    assert [tried[name] for name in ids] == [1] * 120
    person("alice").call("DELETE", f"/v1/sessions/{replying.session}")


async def test_a_reply_of_which_a_part_is_missing_is_not_ended_in_silence(
    replying: Replying, stack: Stack, person: MakePerson
) -> None:
    message_id = str(uuid4())
    call = await replying.begin(message_id, "half of ")
    await replying.get_when(message_id, length=8)
    with psycopg.connect(stack.admin_url, autocommit=True) as database:
        delete = "DELETE FROM messages.message_parts WHERE message_id = %s"
        assert database.execute(delete, (message_id,)).rowcount == 1
    call.cancel()
    async with asyncio.timeout(60):
        while not _not_interrupted(stack)[message_id]:  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.2)
    person("alice").call("DELETE", f"/v1/sessions/{replying.session}")


def _not_interrupted(stack: Stack) -> Counter[str]:
    """How often the log says of messages that they cannot be interrupted."""
    whole, _, _ = stack.service("messages").log.read_text().rpartition("\n")
    said = (line for line in whole.splitlines() if "a message cannot be interrupted" in line)
    return Counter(json.loads(line)["message_id"] for line in said)


async def test_another_replica_ends_the_reply_of_one_that_was_killed(
    replying: Replying, stack: Stack
) -> None:
    port = free_ports().gateway
    replica = start_replica(stack, port)
    message_id = str(uuid4())
    call = await replying.begin(message_id, "until then", port=port)
    await replying.get_when(message_id, length=10)
    replica.kill()
    replica.wait()
    message = await replying.get_when(message_id, state=INTERRUPTED)
    assert message.content == "until then"
    call.cancel()


async def test_a_writer_takes_its_reply_up_where_it_is(replying: Replying) -> None:
    message_id = str(uuid4())
    call = await replying.begin(message_id, "one ")
    await replying.get_when(message_id, length=4)
    call.cancel()
    again = await replying.begin(message_id, "two ", offset=4)
    await replying.get_when(message_id, length=8)
    again.cancel()
    await replying.get_when(message_id, state=INTERRUPTED)
    message = await replying.complete(message_id, "three", offset=8)
    assert (message.content, message.state) == ("one two three", COMPLETE)
    # Who completed it and did not hear of it asks again.
    assert await replying.complete(message_id, offset=13) == message
    assert await replying.refused(await replying.begin(message_id, "more", offset=13)) == REUSED


async def test_a_stopping_replica_sends_a_writer_on_to_another(
    replying: Replying, stack: Stack
) -> None:
    port = free_ports().gateway
    replica = start_replica(stack, port)
    message_id = str(uuid4())
    call = await replying.begin(message_id, "begun ", port=port)
    await replying.get_when(message_id, length=6)
    replica.terminate()
    assert await replying.refused(call) == STOPPING
    assert replica.wait(60) == 0
    message = await replying.complete(message_id, "and finished", offset=6)
    assert message.content == "begun and finished"


async def test_a_message_has_one_writer_the_latest(replying: Replying) -> None:
    message_id = str(uuid4())
    first = await replying.begin(message_id, "one ")
    await replying.get_when(message_id, length=4)
    second = await replying.begin(message_id, "two", offset=4)
    await replying.get_when(message_id, length=7)
    assert await replying.refused(first) == REPLACED
    await second.done_writing()
    assert (await second).message.content == "one two"


async def test_the_length_that_is_stored_is_told_to_whoever_has_another(
    replying: Replying,
) -> None:
    message_id = str(uuid4())
    await replying.begin(message_id, "four")
    await replying.get_when(message_id, length=4)
    for offset, other in ((3, message_id), (5, message_id), (2, str(uuid4()))):
        call = await replying.begin(other, offset=offset)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        assert refusal_over_grpc(refused.value).reason == "OFFSET_WRONG"
        assert _length_in(refused.value) == (4 if other == message_id else 0)


async def test_who_completed_a_reply_and_heard_of_nothing_finds_out_by_its_header(
    replying: Replying, person: MakePerson
) -> None:
    message_id = str(uuid4())
    message = await replying.complete(message_id, "all of it")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await (await replying.begin(message_id))
    assert refusal_over_grpc(refused.value).reason == "OFFSET_WRONG"
    assert await replying.complete(message_id, offset=_length_in(refused.value)) == message
    said = person("alice").say(replying.session, "not by a service")
    assert await replying.refused(await replying.begin(said["messageId"])) == REUSED


def _length_in(error: grpc.aio.AioRpcError) -> int:
    details = dict(error.trailing_metadata())["grpc-status-details-bin"]
    info = ErrorInfo()
    assert isinstance(details, bytes)
    assert Status.FromString(details).details[0].Unpack(info)
    return int(info.metadata["length"])


async def test_a_growing_message_is_not_changed_and_may_be_deleted(
    replying: Replying, person: MakePerson, stack: Stack
) -> None:
    alice = person("alice")
    message_id = str(uuid4())
    call = await replying.begin(message_id, "unfortunate")
    await replying.get_when(message_id, length=11)
    change = UpdateMessageRequest(
        session_id=replying.session, message_id=message_id, content="fortunate"
    )
    metadata = replying.as_service(replying.person)
    changing = replying.stub().UpdateMessage(change, metadata=metadata)
    growing = Refused("FAILED_PRECONDITION", "MESSAGE_GROWING")
    assert await replying.refused(changing) == growing
    path = f"/v1/sessions/{replying.session}/messages"
    # A person may never change it, which waiting does not heal.
    for etag in ("", "1"):
        refused = alice.refused("PATCH", f"{path}/{message_id}", {"content": "mine", "etag": etag})
        assert refused == Refused("PERMISSION_DENIED", "ROLE_DENIED")
    body = {"messageId": message_id, "content": "unfortunate"}
    assert alice.refused("POST", path, body) == REUSED
    alice.call("DELETE", f"{path}/{message_id}")
    # It is told so, also if it has nothing more to say.
    assert await replying.refused(call) == Refused("NOT_FOUND", "MESSAGE_NOT_FOUND")
    with psycopg.connect(stack.admin_url) as connection:
        query = "SELECT count(*) FROM messages.message_parts WHERE message_id = %s"
        assert connection.execute(query, (message_id,)).fetchone() == (0,)


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [StreamMessageRequest()],
        [StreamMessageRequest(text="no header")],
        ["header"],
        ["header", "header"],
        ["header", StreamMessageRequest(text="")],
        ["header", StreamMessageRequest(text="\0")],
        ["header", *[StreamMessageRequest(text="x" * 30_000)] * 2],
    ],
)
async def test_a_bad_stream_is_refused(
    replying: Replying, parts: Sequence[StreamMessageRequest | str]
) -> None:
    header = StreamMessageHeader(session_id=replying.session, message_id=str(uuid4()))
    call = replying.call()
    for part in parts:
        request = StreamMessageRequest(header=header) if isinstance(part, str) else part
        await call.write(request)
    await call.done_writing()
    assert await replying.refused(call) == INVALID


async def test_nothing_of_a_growing_reply_is_readable_in_its_rows(
    replying: Replying, stack: Stack
) -> None:
    message_id, canary = str(uuid4()), f"canary-{uuid4().hex}"
    call = await replying.begin(message_id, canary, model=canary)
    await replying.get_when(message_id, length=len(canary))
    with psycopg.connect(stack.admin_url) as connection:
        for table in ("messages", "message_parts"):
            query = sql.SQL("SELECT string_agg(t::text, ' ') FROM {} t WHERE message_id = %s")
            named = query.format(sql.Identifier("messages", table))
            row = connection.execute(named, (message_id,)).fetchone()
            assert row is not None
            assert message_id in row[0]
            assert canary not in row[0]
            assert canary.encode().hex() not in row[0]
    call.cancel()


async def test_a_part_that_was_moved_to_another_place_does_not_open(
    replying: Replying, stack: Stack
) -> None:
    message_id = str(uuid4())
    call = await replying.begin(message_id, "one ")
    await replying.get_when(message_id, length=4)
    await call.write(StreamMessageRequest(text="two "))
    await replying.get_when(message_id, length=8)
    with psycopg.connect(stack.admin_url, autocommit=True) as connection:
        swapped = (
            "UPDATE messages.message_parts p SET body = q.body FROM messages.message_parts q"
            " WHERE p.message_id = %s AND q.message_id = p.message_id AND q.first <> p.first"
        )
        assert connection.execute(swapped, (message_id,)).rowcount == 2
        unreadable = Refused("DATA_LOSS", "DATA_UNREADABLE")
        assert await replying.refused(replying.get(message_id)) == unreadable
        # As they were, so that the message finds its end.
        assert connection.execute(swapped, (message_id,)).rowcount == 2
    await call.done_writing()
    assert (await call).message.content == "one two "


async def test_replies_that_grow_at_once_commit_together(replying: Replying, stack: Stack) -> None:
    ids = [str(uuid4()) for _ in range(50)]

    async def reply(message_id: str) -> str:
        call = await replying.begin(message_id)
        for number in range(20):
            await call.write(StreamMessageRequest(text=f"{number} "))
            await asyncio.sleep(0.033)
        await asyncio.sleep(0.2)
        with psycopg.connect(stack.admin_url) as connection:
            query = "SELECT xmin::text FROM messages.message_parts WHERE message_id = %s"
            transactions = [row[0] for row in connection.execute(query, (message_id,))]
        parts.extend(transactions)
        await call.done_writing()
        return str((await call).message.content)

    parts: list[str] = []
    contents = await asyncio.gather(*map(reply, ids))
    assert set(contents) == {"".join(f"{number} " for number in range(20))}
    assert len(set(parts)) < len(parts) / 2
