"""The Python client against the running system: the main job, through cuts, and what it refuses."""

import asyncio
import pickle
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing
from uuid import UUID, uuid4

import pytest
from grpc import StatusCode
from inglenook_client import Backoff, Conversation, Inglenook, InglenookError, MessageState, Role
from inglenook_client.contract.messages.v1.messages_pb2 import (
    ImportMessagesRequest,
    Message,
)

from local.stack import Stack
from services.runtime.identity import user_id_of
from services.runtime.service_tokens import ServiceTokens
from services.runtime.settings import DEVELOPMENT_ISSUER
from tests.faults.proxy import Proxy
from tests.replies import Reply

IMPATIENT = Backoff(first=0.02, longest=0.2)


@pytest.fixture
def person() -> str:
    """A person of this test's own."""
    return f"person-{uuid4().hex}"


@pytest.fixture
async def inglenook(stack: Stack, person: str) -> AsyncIterator[Inglenook]:
    async with Inglenook(stack.url, token=stack.token(person), backoff=IMPATIENT) as client:
        yield client


@pytest.fixture
async def session(inglenook: Inglenook) -> str:
    opened = await inglenook.sessions.create_session(title="A talk")
    return opened.session.session_id


async def _until(
    live: AsyncGenerator[Conversation, None], holds: Callable[[list[str]], bool]
) -> Conversation:
    """The first conversation whose contents are as they shall be."""
    async with asyncio.timeout(60):
        async for conversation in live:
            if holds([message.content for message in conversation.messages]):
                return conversation
    raise AssertionError("a watch that is not refused does not end")


async def test_what_is_said_is_seen_live_and_a_stranger_sees_nothing(
    stack: Stack, inglenook: Inglenook, session: str
) -> None:
    async with aclosing(inglenook.watch_messages(session)) as live:
        assert (await anext(live)).messages == ()
        said = await inglenook.messages.append_message(
            session_id=session,
            content="It has been a long day. 🔥",
            metadata={"mood": ["tired", 3]},
        )
        seen = (await anext(live)).messages[-1]
    assert (seen, seen.role) == (said.message, Role.ROLE_USER)
    async with Inglenook(stack.url, token=stack.token("mallory")) as stranger:
        with pytest.raises(InglenookError) as refused:
            await anext(stranger.watch_messages(session))
    assert (refused.value.status, refused.value.reason) == (
        StatusCode.NOT_FOUND,
        "SESSION_NOT_FOUND",
    )


async def test_sessions_and_the_person_are_live_too(inglenook: Inglenook, session: str) -> None:
    async with aclosing(inglenook.watch_sessions()) as live:
        assert [held.title for held in (await anext(live)).sessions] == ["A talk"]
        await inglenook.sessions.update_session(session_id=session, title="A better title")
        async for sessions in live:
            if sessions.sessions[0].title == "A better title":
                break
    async with aclosing(inglenook.watch_me()) as me:
        assert (await anext(me)).current_session_id == ""
        await inglenook.users.set_current_session(session_id=session)
        assert (await anext(me)).current_session_id == session


async def test_a_refusal_names_the_field_and_its_rule(inglenook: Inglenook) -> None:
    with pytest.raises(InglenookError) as refused:
        await inglenook.messages.append_message(session_id="no id", content="hello")
    assert refused.value.reason == "REQUEST_INVALID"
    assert [violation.field for violation in refused.value.violations] == ["session_id"]
    assert "session_id" in str(refused.value)
    assert not refused.value.passing


async def test_a_reply_grows_in_place(
    stack: Stack, responder: ServiceTokens, inglenook: Inglenook, person: str, session: str
) -> None:
    whose: UUID = user_id_of(DEVELOPMENT_ISSUER, person)
    async with aclosing(inglenook.watch_messages(session)) as live:
        reply = Reply(stack, responder, person=whose, session=session)
        reply.say("Once 🔥 ")
        await _until(live, lambda contents: contents == ["Once 🔥 "])
        reply.say("upon")
        grown = await _until(live, lambda contents: contents == ["Once 🔥 upon"])
        assert grown.messages[0].state == MessageState.MESSAGE_STATE_GROWING
        await asyncio.to_thread(reply.finish)
        async for conversation in live:
            if conversation.messages[0].state == MessageState.MESSAGE_STATE_COMPLETE:
                break


async def test_a_gateway_that_is_slow_to_reach_is_reached(stack: Stack, person: str) -> None:
    async with (
        Proxy(stack.ports.gateway, delay=1.5) as proxy,
        Inglenook(f"http://127.0.0.1:{proxy.port}", token=stack.token(person)) as inglenook,
    ):
        me = await inglenook.users.get_me()
        assert me.user.user_id == str(user_id_of(DEVELOPMENT_ISSUER, person))


async def test_through_cuts_everything_is_said_once_and_seen_in_order(
    stack: Stack, person: str, session: str
) -> None:
    said = [f"line {number}" for number in range(60)]
    async with (
        Proxy(stack.ports.gateway) as proxy,
        Inglenook(
            f"http://127.0.0.1:{proxy.port}", token=stack.token(person), backoff=IMPATIENT
        ) as inglenook,
        aclosing(inglenook.watch_messages(session)) as live,
    ):

        async def talk() -> None:
            for number, line in enumerate(said):
                appending = asyncio.create_task(
                    inglenook.messages.append_message(session_id=session, content=line)
                )
                if number % 6 == 5:
                    await asyncio.sleep(0.002 * (number % 5))
                    proxy.reset()
                await appending

        talking = asyncio.create_task(talk())
        conversation = await _until(live, lambda contents: len(contents) >= len(said))
        await talking
    assert [message.content for message in conversation.messages] == said
    assert [message.sequence for message in conversation.messages] == list(range(1, 61))


async def test_a_watch_outlives_its_token_and_misses_nothing(
    stack: Stack, inglenook: Inglenook, person: str, session: str
) -> None:
    asked: list[bool] = []
    # Servers' clocks may differ by ten seconds: that much longer it is good.
    short = stack.token(person, lifetime=-7)

    async def provider(*, fresh: bool) -> str:
        asked.append(fresh)
        return stack.token(person) if fresh else short

    said: list[str] = []
    async with (
        Inglenook(stack.url, token=provider, backoff=IMPATIENT) as brief,
        aclosing(brief.watch_messages(session)) as live,
    ):
        assert (await anext(live)).messages == ()
        while True not in asked:
            said.append(f"still there? {len(said)}")
            await inglenook.messages.append_message(session_id=session, content=said[-1])
            await _until(live, said.__eq__)
            await asyncio.sleep(0.1)
        listed = await brief.messages.list_messages(session_id=session, page_size=200)
    assert [message.content for message in reversed(listed.messages)] == said


async def test_a_watch_goes_on_in_another_process_where_an_earlier_one_was(
    inglenook: Inglenook, session: str
) -> None:
    await inglenook.messages.append_message(session_id=session, content="before")
    async with aclosing(inglenook.watch_messages(session)) as live:
        kept = pickle.dumps(await anext(live))
    await inglenook.messages.append_message(session_id=session, content="meanwhile")
    since: Conversation = pickle.loads(kept)  # noqa: S301 - pickled three lines above
    async with aclosing(inglenook.watch_messages(session, since=since)) as live:
        conversation = await anext(live)
    assert [change.upserted.content for change in conversation.changes] == ["meanwhile"]
    assert [message.content for message in conversation.messages] == ["before", "meanwhile"]


async def test_found_exported_and_imported_by_streams(inglenook: Inglenook, session: str) -> None:
    await inglenook.messages.append_message(session_id=session, content="The fire is warm.")
    frames = [frame async for frame in inglenook.messages.search_messages(query="fire")]
    assert [hit.match for frame in frames for hit in frame.hits] == ["fire"]
    exported = [frame async for frame in inglenook.export_messages()]
    everything = [frame async for frame in inglenook.export_me()]
    assert [frame.end.messages for frame in (exported[-1], everything[-1])] == [1, 1]
    done = await inglenook.messages.import_messages(
        ImportMessagesRequest(messages=frame.messages) for frame in exported
    )
    assert (done.imported, done.present) == (0, 1)


async def test_what_giving_an_import_fails_of_is_told(
    inglenook: Inglenook,
) -> None:
    session = (await inglenook.sessions.create_session()).session.session_id
    said = Message(session_id=session, message_id=str(uuid4()), role=Role.ROLE_USER, content="said")

    def requests() -> Iterator[ImportMessagesRequest]:
        yield ImportMessagesRequest(messages=[said])
        raise ValueError("the file is damaged")

    with pytest.raises(ValueError, match="the file is damaged"):
        await inglenook.messages.import_messages(requests())


async def test_an_import_that_is_refused_is_not_given_to_its_end(inglenook: Inglenook) -> None:
    given = 0

    def requests() -> Iterator[ImportMessagesRequest]:
        nonlocal given
        elsewhere = Message(session_id=str(uuid4()), message_id=str(uuid4()), role=Role.ROLE_USER)
        elsewhere.content = "of nobody's"
        while True:
            given += 1
            yield ImportMessagesRequest(messages=[elsewhere])

    with pytest.raises(InglenookError) as refused:
        await inglenook.messages.import_messages(requests())
    assert refused.value.reason == "SESSION_NOT_FOUND"
    assert given


async def test_an_export_of_everything_begins_with_a_fresh_token(stack: Stack, person: str) -> None:
    asked: list[bool] = []
    at_hand, fresh_one = stack.token(person, lifetime=60), stack.token(person)

    def provider(*, fresh: bool) -> str:
        asked.append(fresh)
        return fresh_one if any(asked) else at_hand

    async with Inglenook(stack.url, token=provider) as client:
        await client.users.get_me()
        assert not any(asked)
        frames = [frame async for frame in client.export_me()]
    assert frames[-1].HasField("end")
    assert asked.count(True) == 1


async def test_an_export_whose_service_is_killed_goes_on_and_is_whole(
    stack: Stack, person: str, session: str
) -> None:
    # So much that it cannot be over before its reader reads on.
    said = [
        Message(
            session_id=session, message_id=str(uuid4()), role=Role.ROLE_USER, content="x" * 49_000
        )
        for _ in range(400)
    ]
    requests = (ImportMessagesRequest(messages=[message]) for message in said)
    async with Inglenook(
        stack.url, token=stack.token(person), backoff=Backoff(first=3.0)
    ) as client:
        await client.messages.import_messages(requests)
        async with aclosing(client.export_messages(session_id=session)) as export:
            frames = [await anext(export)]
            await asyncio.to_thread(stack.kill, "messages")
            restarted = asyncio.create_task(asyncio.to_thread(stack.start_again, "messages"))
            frames += [frame async for frame in export]
        await restarted
    given = [message.message_id for frame in frames for message in frame.messages]
    assert given == [message.message_id for message in said]
    assert frames[-1].end.messages == len(said)


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://host", "https://host/v1", "https://"])
async def test_an_address_of_another_form_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="not of the form"):
        Inglenook(url, token="t")
