"""Stopping a reply: it ends where it stands, wherever it is written, and stays so."""

import asyncio
import json
from typing import Any
from uuid import uuid4

import grpc
import pytest
from inglenook.messages.v1.messages_pb2 import (
    MessageChange,
    StopMessageRequest,
    StreamMessageRequest,
)

from local.stack import Stack
from tests.integration.calls import ABSENT, MakePerson, Refused
from tests.integration.replying import COMPLETE, GROWING, INTERRUPTED, STOPPED, Reader, Replying

STOPPED_HERE = Refused("ABORTED", "MESSAGE_STOPPED")
NO_SESSION = Refused("NOT_FOUND", "SESSION_NOT_FOUND")
NO_MESSAGE = Refused("NOT_FOUND", "MESSAGE_NOT_FOUND")


@pytest.mark.parametrize("written_at", ["here", "another replica"])
async def test_a_reply_that_is_stopped_keeps_what_was_stored_and_its_writer_is_told_in_silence(
    replying: Replying, replica: int, written_at: str
) -> None:
    message_id = str(uuid4())
    port = 0 if written_at == "here" else replica
    call = await replying.begin(message_id, "as far ", "as here", port=port)
    await replying.get_when(message_id, length=14)
    stopped = await replying.stop(message_id)
    assert (stopped.content, stopped.state) == ("as far as here", STOPPED)
    # It sends nothing more: nothing but the end itself can tell it.
    assert await replying.refused(call) == STOPPED_HERE
    for at in (0, replica):
        assert await replying.get(message_id, port=at) == stopped


async def test_watchers_see_the_end_once(replying: Replying, replica: int) -> None:
    message_id = str(uuid4())
    call = await replying.begin(message_id, "one ")
    await replying.get_when(message_id, length=4)
    watching = {port: replying.watch(port=port) for port in (0, replica)}
    readers = {port: Reader() for port in watching}
    for port, changes in watching.items():
        readers[port].apply(await anext(changes))
    await call.write(StreamMessageRequest(text="two"))
    await replying.get_when(message_id, length=7)
    await replying.stop(message_id)
    # Whatever comes after the end of the reply comes before this.
    other = await replying.complete(str(uuid4()), "afterwards")
    for port, changes in watching.items():
        async for change in changes:
            if _about(change) == other.message_id:
                break
            readers[port].apply(change)
        assert readers[port].states == [GROWING, STOPPED]
        assert readers[port].content == "one two"


def _about(change: MessageChange) -> str:
    return change.upserted.message_id or change.delta.message_id


async def test_one_that_was_begun_and_has_no_word_yet_is_stopped_empty(replying: Replying) -> None:
    message_id = str(uuid4())
    call = await replying.begin(message_id)
    await call.initial_metadata()
    stopped = await replying.stop(message_id)
    assert (stopped.content, stopped.state) == ("", STOPPED)
    assert await replying.refused(call) == STOPPED_HERE


async def test_a_writer_knows_that_its_message_is_there_before_it_sends_text(
    replying: Replying,
) -> None:
    message_id = str(uuid4())
    call = await replying.begin(message_id)
    assert dict(await call.initial_metadata())["x-stored-length"] == "0"
    assert (await replying.get(message_id)).state == GROWING
    await call.write(StreamMessageRequest(text="four"))
    await replying.get_when(message_id, length=4)
    again = await replying.begin(message_id, offset=4)
    assert dict(await again.initial_metadata())["x-stored-length"] == "4"
    again.cancel()
    refused = await replying.begin(message_id, offset=3)
    assert "x-stored-length" not in dict(await refused.initial_metadata())


async def test_a_stop_that_races_with_the_end_gives_one_of_the_two(
    replying: Replying, replica: int
) -> None:
    async def race(number: int) -> int:
        message_id = str(uuid4())
        call = await replying.begin(message_id, "all of it", port=(0, replica)[number % 2])
        await replying.get_when(message_id, length=9)
        await call.done_writing()
        # The end comes a little after the half-close.
        await asyncio.sleep(0.05 + 0.001 * number)
        stopped = await replying.stop(message_id)
        assert stopped.content == "all of it"
        assert await replying.get(message_id) == stopped
        if stopped.state == COMPLETE:
            assert (await call).message == stopped
        else:
            assert stopped.state == STOPPED
            assert await replying.refused(call) == STOPPED_HERE
        return stopped.state

    await asyncio.gather(*map(race, range(20)))


async def test_a_writer_in_the_middle_of_sending_is_told_too(
    replying: Replying, replica: int
) -> None:
    message_id, sent = str(uuid4()), 0
    call = await replying.begin(message_id, port=replica)

    async def write() -> Refused:
        nonlocal sent
        try:
            while not call.done():
                await call.write(StreamMessageRequest(text=f"{sent:05}"))
                sent += 1
                await asyncio.sleep(0.001)
        except grpc.aio.AioRpcError as error:
            # A write that meets the end makes gRPC forget how the call ended: it is asked again.
            assert error.code() is grpc.StatusCode.INTERNAL  # noqa: PT017 - others are caught
            return await replying.refused(await replying.begin(message_id, offset=sent))
        return await replying.refused(call)

    writing = asyncio.create_task(write())
    await replying.get_when(message_id, longer_than=500)
    stopped = await replying.stop(message_id)
    assert await writing == STOPPED_HERE
    whole = "".join(f"{number:05}" for number in range(sent))
    assert len(stopped.content) > 500
    assert whole.startswith(stopped.content)
    assert await replying.get(message_id) == stopped


async def test_what_has_ended_already_is_given_as_it_is(
    replying: Replying, person: MakePerson
) -> None:
    complete = await replying.complete(str(uuid4()), "whole")
    cut = str(uuid4())
    call = await replying.begin(cut, "half")
    await replying.get_when(cut, length=4)
    call.cancel()
    interrupted = await replying.get_when(cut, state=INTERRUPTED)
    growing = str(uuid4())
    await replying.begin(growing)
    await replying.get_when(growing, state=GROWING)
    stopped = await replying.stop(growing)
    own = await replying.get(person("alice").say(replying.session, "mine")["messageId"])
    for message in (complete, interrupted, stopped, own):
        assert await replying.stop(message.message_id) == message


async def test_a_stopped_reply_is_not_taken_up_again(replying: Replying) -> None:
    message_id = str(uuid4())
    call = await replying.begin(message_id, "enough")
    await replying.get_when(message_id, length=6)
    stopped = await replying.stop(message_id)
    assert await replying.refused(call) == STOPPED_HERE
    for offset in (0, 6, 7):
        again = await replying.begin(message_id, offset=offset)
        assert await replying.refused(again) == STOPPED_HERE
    assert await replying.get(message_id) == stopped


async def test_nobody_else_can_stop_it_and_the_one_who_writes_it_can(replying: Replying) -> None:
    message_id = str(uuid4())
    call = await replying.begin(message_id, "to the end")
    await replying.get_when(message_id, length=10)
    stranger = (("authorization", f"Bearer {replying.stack.token('bob')}"),)
    for metadata in (stranger, replying.as_service(uuid4())):
        assert await _refused(replying, message_id, metadata) == NO_SESSION
    assert await _refused(replying, ABSENT, replying.as_person) == NO_MESSAGE
    assert (await replying.get(message_id)).state == GROWING
    request = StopMessageRequest(session_id=replying.session, message_id=message_id)
    delegate = replying.as_service(replying.person)
    answer = await replying.stub().StopMessage(request, metadata=delegate)
    assert answer.message.state == STOPPED
    assert await replying.refused(call) == STOPPED_HERE


async def _refused(replying: Replying, message_id: str, metadata: Any) -> Refused:  # noqa: ANN401
    request = StopMessageRequest(session_id=replying.session, message_id=message_id)
    return await replying.refused(replying.stub().StopMessage(request, metadata=metadata))


async def test_over_http_it_is_stopped_by_its_route(replying: Replying, person: MakePerson) -> None:
    alice = person("alice")
    message_id = str(uuid4())
    await replying.begin(message_id, "so far")
    await replying.get_when(message_id, length=6)
    path = f"/v1/sessions/{replying.session}/messages/{message_id}"
    for _ in range(2):
        message = alice.call("POST", f"{path}:stop", {})["message"]
        assert (message["content"], message["state"]) == ("so far", "MESSAGE_STATE_STOPPED")
    alice.call("DELETE", path)
    assert alice.refused("POST", f"{path}:stop", {}) == NO_MESSAGE


async def test_a_reply_that_is_deleted_ends_its_writer_in_silence(
    replying: Replying, person: MakePerson, replica: int
) -> None:
    message_id = str(uuid4())
    call = await replying.begin(message_id, "gone", port=replica)
    await replying.get_when(message_id, length=4)
    person("alice").call("DELETE", f"/v1/sessions/{replying.session}/messages/{message_id}")
    assert await replying.refused(call) == NO_MESSAGE


async def test_a_stopped_reply_is_exported_and_imported_as_one(
    replying: Replying, person: MakePerson, stack: Stack
) -> None:
    alice = person("alice")
    for texts in (["as far as this"], []):
        message_id = str(uuid4())
        await replying.begin(message_id, *texts)
        await replying.get_when(message_id, length=len("".join(texts)))
        await replying.stop(message_id)
    path = "/v1/messages:export"
    exported = alice.http.get(path, params={"session_id": replying.session}).text
    frames = [json.loads(line) for line in exported.splitlines()]
    messages = [message for frame in frames for message in frame["messages"]]
    elsewhere = alice.new_session()
    for message in messages:
        message["sessionId"] = elsewhere
    assert alice.call("POST", "/v1/messages:import", [{"messages": messages}])["imported"] == "2"
    listed = alice.call("GET", f"/v1/sessions/{elsewhere}/messages?order=ORDER_OLDEST_FIRST")
    assert [(message["state"], message["content"]) for message in listed["messages"]] == [
        ("MESSAGE_STATE_STOPPED", "as far as this"),
        ("MESSAGE_STATE_STOPPED", ""),
    ]
    replying.session = elsewhere
    taken_up = await replying.begin(messages[0]["messageId"], offset=14)
    assert await replying.refused(taken_up) == Refused("ALREADY_EXISTS", "ID_REUSED")
