"""Replies of the built-in listener: begun by a call, seen as they grow, one at a time, stopped."""

import asyncio
from typing import TypeVar
from uuid import UUID, uuid4

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from inglenook.respond.v1.respond_pb2 import ReplyResponse

from examples.responder.growing_text import GrowingText
from examples.responder.listener import reply_to
from examples.responder.recording import Place, Recorder
from local.stack import Stack
from services.runtime import service_tokens
from services.runtime.service_tokens import ServiceTokens
from tests.integration.calls import ABSENT, MakePerson, Refused, refusal_over_grpc
from tests.integration.eventually import eventually
from tests.integration.replying import COMPLETE, GROWING, INTERRUPTED, STOPPED, Reader, Replying
from tests.integration.responder.conftest import Answering, StartResponder
from tests.integration.responder.model_server import HANG, ModelServer

Detail = TypeVar("Detail", ErrorInfo, RetryInfo)

NOTHING = Refused("FAILED_PRECONDITION", "NOTHING_TO_ANSWER")
UNDER_WAY = Refused("FAILED_PRECONDITION", "REPLY_UNDER_WAY")
TOO_MANY = Refused("RESOURCE_EXHAUSTED", "TOO_MANY_REPLIES")
BUSY = Refused("RESOURCE_EXHAUSTED", "SERVER_BUSY")
REUSED = Refused("ALREADY_EXISTS", "ID_REUSED")

SLOW = "0.2"
"""Words a second: a reply that does not end by itself while a test runs."""
STEADY = "5"
"""Words a second: a reply that takes a moment."""


async def test_through_the_gateway_a_person_gets_a_reply_that_grows(
    replying: Replying, person: MakePerson
) -> None:
    alice = person("alice")
    # What is answered at length, so that it is seen to grow also where that takes its time.
    said = "Are you a robot?"
    alice.say(replying.session, said)
    changes, reader = replying.watch(), Reader()
    await anext(changes)
    answer = alice.call("POST", f"/v1/sessions/{replying.session}:reply", {})
    async for change in changes:
        reader.apply(change)
        if reader.states[-1] == COMPLETE:
            break
    message = await replying.get(answer["messageId"])
    assert reader.content == message.content == reply_to([said])
    assert reader.states == [GROWING, COMPLETE]
    assert reader.deltas > 1
    assert (message.role, message.model) == (2, "listener")


async def test_the_reply_is_there_when_the_call_returns_and_goes_on_without_it(
    start_responder: StartResponder, model: ModelServer
) -> None:
    # Of a model that waits until it is let.
    answering = start_responder(completion_base_url=model.url, completion_model="small-model")
    model.will("My sister came.", "Tell ", HANG, "me.")
    answering.say("My sister came.")
    message_id = str(uuid4())
    assert await answering.reply(message_id) == message_id
    assert (await answering.replying.get(message_id)).state == GROWING
    await answering.close()
    model.asked("My sister came.").go_on.set()
    message = await answering.replying.get_when(message_id, state=COMPLETE)
    assert message.content == "Tell me."


async def test_a_repeated_call_finds_its_reply(start_responder: StartResponder) -> None:
    answering = start_responder(listener_words_per_second=STEADY)
    replying, message_id = answering.replying, str(uuid4())
    answering.say("My sister came.")
    assert set(await asyncio.gather(*(answering.reply(message_id) for _ in range(5)))) == {
        message_id
    }
    await replying.get_when(message_id, state=COMPLETE)
    assert await answering.reply(message_id) == message_id
    path = f"/v1/sessions/{replying.session}/messages"
    reply, own = answering.person.call("GET", path)["messages"]
    assert reply["messageId"] == message_id
    assert await replying.refused(answering.call(own["messageId"])) == REUSED


async def test_there_is_one_reply_at_a_time_and_none_to_a_reply(
    start_responder: StartResponder,
) -> None:
    slow = start_responder(listener_words_per_second=SLOW)
    other = start_responder(beside=slow, listener_words_per_second=STEADY)
    replying = slow.replying
    assert await replying.refused(slow.call()) == NOTHING
    slow.say("My sister came.")
    first = await slow.reply()
    # At another process, too.
    for answering in (slow, other):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await answering.call()
        assert refusal_over_grpc(refused.value) == UNDER_WAY
        assert _detail(refused.value, ErrorInfo).metadata["message_id"] == first
    await replying.stop(first)
    assert (await other.answer_to("And my brother.")).state == COMPLETE
    assert await replying.refused(other.call()) == NOTHING


async def test_of_two_processes_that_are_asked_at_once_one_replies(
    start_responder: StartResponder,
) -> None:
    settings = {"listener_words_per_second": SLOW, "replies_per_person": "100"}
    slow = start_responder(own=True, **settings)
    other = start_responder(own=True, beside=slow, **settings)
    for _ in range(10):
        session = slow.person.new_session()
        slow.say("My sister came.", session=session)
        answers = await asyncio.gather(
            *(answering.call(session=session) for answering in (slow, other)),
            return_exceptions=True,
        )
        (begun,) = [one for one in answers if isinstance(one, ReplyResponse)]
        (refused,) = [one for one in answers if isinstance(one, grpc.aio.AioRpcError)]
        assert refusal_over_grpc(refused) == UNDER_WAY
        assert _detail(refused, ErrorInfo).metadata["message_id"] == begun.message_id
        listed = slow.person.call("GET", f"/v1/sessions/{session}/messages")["messages"]
        assert [message["messageId"] for message in listed[:-1]] == [begun.message_id]
        slow.person.call("POST", f"/v1/sessions/{session}/messages/{begun.message_id}:stop", {})


async def test_what_is_said_while_a_reply_grows_gets_no_second_one(
    start_responder: StartResponder,
) -> None:
    slow = start_responder(listener_words_per_second=SLOW)
    other = start_responder(beside=slow, listener_words_per_second=STEADY)
    slow.say("My sister came.")
    first = await slow.reply()
    slow.say("And my brother.")
    for answering in (slow, other):
        assert await slow.replying.refused(answering.call()) == UNDER_WAY
    await slow.replying.stop(first)
    assert await _reply_when_let_in(other, but=UNDER_WAY)


def _detail(error: grpc.aio.AioRpcError, kind: type[Detail]) -> Detail:
    details = dict(error.trailing_metadata())["grpc-status-details-bin"]
    assert isinstance(details, bytes)
    found = kind()
    assert any(detail.Unpack(found) for detail in Status.FromString(details).details)
    return found


async def test_a_reply_that_was_stopped_can_be_asked_for_again(
    start_responder: StartResponder,
) -> None:
    answering = start_responder(listener_words_per_second=SLOW)
    answering.say("My sister came.")
    first = await answering.reply()
    assert (await answering.replying.stop(first)).state == STOPPED
    second = await _reply_when_let_in(answering, but=UNDER_WAY)
    assert (await answering.replying.get(second)).state == GROWING
    assert (await answering.replying.get(first)).state == STOPPED


async def _reply_when_let_in(answering: Answering, *, but: Refused, session: str = "") -> str:
    """Asks for a reply until it is not refused any more."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await answering.reply(session=session)
            except grpc.aio.AioRpcError as error:
                assert refusal_over_grpc(error) == but  # noqa: PT017 - others are caught
            await asyncio.sleep(0.05)


async def test_a_person_has_so_many_replies_at_once(start_responder: StartResponder) -> None:
    answering = start_responder(listener_words_per_second=SLOW)
    sessions = [answering.replying.session, *(answering.person.new_session() for _ in range(2))]
    for session in sessions:
        answering.say("hello", session=session)
    first, _ = [await answering.reply(session=session) for session in sessions[:2]]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await answering.call(session=sessions[2])
    assert refusal_over_grpc(refused.value) == TOO_MANY
    assert _detail(refused.value, RetryInfo).retry_delay.seconds == 2
    await answering.replying.stop(first)
    assert await _reply_when_let_in(answering, but=TOO_MANY, session=sessions[2])


async def test_who_must_wait_sees_the_reply_begun_and_past_the_bound_one_is_told_to_come_again(
    start_responder: StartResponder,
) -> None:
    narrow = {"listener_words_per_second": SLOW, "replies_at_once": "1", "replies_waiting": "1"}
    speaking, waiting, refused = (start_responder(**narrow) for _ in range(3))
    for answering in (speaking, waiting, refused):
        answering.say("hello")
    first, second = await speaking.reply(), await waiting.reply()
    assert await refused.replying.refused(refused.call()) == BUSY
    held = await waiting.replying.get(second)
    assert (held.state, held.content) == (GROWING, "")
    await speaking.replying.stop(first)
    assert (await waiting.replying.get_when(second, longer_than=0)).state == GROWING


async def test_a_restart_of_the_messages_service_changes_nothing_in_a_reply(
    start_responder: StartResponder, stack: Stack
) -> None:
    answering = start_responder(listener_words_per_second=STEADY)
    answering.say("I am tired tonight.")
    message_id = await answering.reply()
    await answering.replying.get_when(message_id, longer_than=0)
    await asyncio.to_thread(stack.kill, "messages")
    await asyncio.to_thread(stack.start_again, "messages")
    message = await answering.replying.get_when(message_id, state=COMPLETE)
    assert message.content == reply_to(["I am tired tonight."])


async def test_a_reply_outlives_the_tokens_that_it_is_written_with(
    replying: Replying, responder: ServiceTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The services forgive ten seconds of clock difference: these are good for two or three.
    monkeypatch.setattr(service_tokens, "_LIFETIME", -7.0)
    tokens: set[str] = set()
    make = responder.token

    def token(*, acting_for: UUID | None = None) -> str:
        tokens.add(made := make(acting_for=acting_for))
        return made

    monkeypatch.setattr(responder, "token", token)
    place = Place(replying.person, replying.session, str(uuid4()))
    text, begun = GrowingText(), asyncio.Event()
    recorder = Recorder(replying.stub(), responder)
    recording = asyncio.create_task(recorder.record(place, text, model="", begun=begun.set))
    await begun.wait()
    words = [f"word {number} " for number in range(30)]
    for word in words:
        text.add(word)
        await asyncio.sleep(0.15)
    text.end()
    await recording
    message = await replying.get(place.message_id)
    assert (message.content, message.state) == ("".join(words), COMPLETE)
    assert len(tokens) > 1


@pytest.mark.parametrize(("grace", "pace"), [("60", STEADY), ("0.1", SLOW)])
async def test_a_responder_that_is_told_to_stop_finishes_what_it_can(
    start_responder: StartResponder, grace: str, pace: str
) -> None:
    answering = start_responder(own=True, listener_words_per_second=pace, drain_seconds=grace)
    answering.say("I am tired tonight, and I do not know why.")
    message_id = await answering.reply()
    await answering.replying.get_when(message_id, longer_than=0)
    answering.process.terminate()
    assert await asyncio.to_thread(answering.process.wait, 60) == 0
    whole = reply_to(["I am tired tonight, and I do not know why."])
    state = COMPLETE if grace == "60" else INTERRUPTED
    message = await answering.replying.get_when(message_id, state=state)
    assert message.content == whole or (state == INTERRUPTED and whole.startswith(message.content))


async def test_what_one_responder_left_unfinished_another_answers_anew(
    start_responder: StartResponder,
) -> None:
    doomed = start_responder(own=True, listener_words_per_second=SLOW)
    other = start_responder(beside=doomed, listener_words_per_second=STEADY)
    doomed.say("My sister came.")
    first = await doomed.reply()
    await doomed.replying.get_when(first, longer_than=0)
    doomed.process.kill()
    assert (await doomed.replying.get_when(first, state=INTERRUPTED)).content
    second = await doomed.replying.get_when(await other.reply(), state=COMPLETE)
    assert second.content == reply_to(["My sister came."])


async def test_a_reply_in_a_session_that_is_deleted_ends_with_it(
    start_responder: StartResponder,
) -> None:
    answering = start_responder(listener_words_per_second=SLOW)
    sessions = [answering.person.new_session() for _ in range(2)]
    for session in (answering.replying.session, *sessions):
        answering.say("hello", session=session)
    for session in sessions:
        await answering.reply(session=session)
        answering.person.call("DELETE", f"/v1/sessions/{session}")
    assert await _reply_when_let_in(answering, but=TOO_MANY)


async def test_nobody_gets_a_reply_in_anothers_session(start_responder: StartResponder) -> None:
    answering = start_responder(listener_words_per_second=STEADY)
    answering.say("hello")
    replying = answering.replying
    replying.as_person = (("authorization", f"Bearer {replying.stack.token('bob')}"),)
    for session in (replying.session, ABSENT):
        refused = await replying.refused(answering.call(session=session))
        assert refused == Refused("NOT_FOUND", "SESSION_NOT_FOUND")


async def test_without_the_responder_everything_else_runs(
    replying: Replying, person: MakePerson, stack: Stack
) -> None:
    alice, message_id = person("alice"), str(uuid4())
    path, body = f"/v1/sessions/{replying.session}:reply", {"messageId": message_id}
    await asyncio.to_thread(stack.kill, "responder")
    try:
        alice.say(replying.session, "hello")
        listed = alice.call("GET", f"/v1/sessions/{replying.session}/messages")["messages"]
        assert [message["content"] for message in listed] == ["hello"]
        assert alice.refused("POST", path, body).code == "UNAVAILABLE"
    finally:
        await asyncio.to_thread(stack.start_again, "responder")
    eventually(lambda: alice.http.post(path, json=body).status_code == 200)
    await replying.get_when(message_id, state=COMPLETE)
