"""What is read of a conversation in which replies grow: right wherever a reader stands, whatever is
stored between two of its statements, and however few changes a frame holds.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import psycopg
import pytest
from inglenook.messages.v1.messages_pb2 import Message, MessageChange, MessageState, Role

from local.stack import Stack
from services.messages import conversations as reading
from services.messages.appender import Appender, Said
from services.messages.appends import Append
from services.messages.body import place_of
from services.messages.conversations import Conversations
from services.messages.ending import Ending
from services.messages.erasing import Erasing
from services.messages.growth import GrowthStore
from services.messages.lease_store import LeaseStore
from services.messages.opening import Opener
from services.messages.parts import Growth
from services.messages.stopping import Stopping
from services.messages.store import MessageStore
from services.messages.tables import DATA_KEYS, Conversation
from services.messages.writer import Writer
from services.runtime.database import Database
from services.runtime.encryption.data_keys import DataKeys
from services.runtime.encryption.key_file import KeyFile
from services.runtime.errors import Refusal
from services.runtime.feed import Batch
from tests.integration.calls import MakePerson
from tests.integration.eventually import eventually, rows, waits_for_a_lock
from tests.integration.interrupted import Interrupted

_SERVICE = "responder"
_BYTES = """
    SELECT bytes, (
        SELECT coalesce(sum(octet_length(body)), 0) FROM (
            SELECT body, session_id FROM messages.messages
            UNION ALL SELECT body, session_id FROM messages.message_parts
        ) AS stored
        WHERE stored.session_id = conversations.session_id
    )
    FROM messages.conversations WHERE session_id = %s
"""


@dataclass
class Reply:
    """A message as it was written."""

    text: str = ""
    writer: UUID | None = None
    """Who writes it, while it grows."""
    interrupted: bool = False


@dataclass
class Talk:
    """A conversation that is written here, and read as the service reads it."""

    conversation: Conversation
    database: Interrupted
    conversations: Conversations
    store: MessageStore
    growth: GrowthStore
    leases: LeaseStore
    keys: DataKeys
    writer: Writer
    chance: random.Random
    stored: dict[UUID, Reply] = field(default_factory=dict)
    """What stands in it."""

    def new_id(self) -> UUID:
        return UUID(int=self.chance.getrandbits(128), version=4)

    async def seal(self, text: bytes, message_id: UUID, part: int | None = None) -> bytes:
        keyring = await self.keys.sealing(self.conversation.scope)
        assert keyring is not None
        return keyring.seal(text, place_of(self.conversation, message_id, part=part))

    async def body(self, text: str, message_id: UUID) -> bytes:
        return await self.seal(Message(content=text).SerializeToString(), message_id)

    async def append(self, text: str = "said") -> UUID:
        message_id = self.new_id()
        body = Message(content=text).SerializeToString()
        append = Append(
            conversation=self.conversation,
            message_id=message_id,
            role=Role.ROLE_USER,
            body=await self.body(text, message_id),
            plaintext=body,
            stored=asyncio.get_running_loop().create_future(),
        )
        assert await self.writer.append([append]) != [None]
        self.stored[message_id] = Reply(text)
        return message_id

    async def begin(self) -> UUID:
        message_id, writer = self.new_id(), self.new_id()
        row = await self.growth.begin(
            self.conversation,
            message_id,
            role=Role.ROLE_ASSISTANT,
            body=await self.body("", message_id),
            writer=writer,
            service=_SERVICE,
        )
        assert row is not None
        self.stored[message_id] = Reply(writer=writer)
        return message_id

    async def grow(self, message_id: UUID, text: str) -> None:
        reply = self.stored[message_id]
        assert reply.writer is not None
        growth = Growth(
            conversation=self.conversation,
            message_id=message_id,
            writer=reply.writer,
            first=len(reply.text),
            body=await self.seal(text.encode(), message_id, len(reply.text)),
            text=text,
            stored=asyncio.get_running_loop().create_future(),
        )
        assert await self.writer.grow(growth) is not None
        reply.text += text

    async def end(self, message_id: UUID, state: "MessageState.ValueType") -> None:
        reply = self.stored[message_id]
        row = await self.growth.end(
            self.conversation,
            message_id,
            length=len(reply.text),
            body=await self.body(reply.text, message_id),
            state=state,
            writer=reply.writer,
        )
        assert row is not None
        reply.writer = None
        reply.interrupted = state == MessageState.MESSAGE_STATE_INTERRUPTED

    async def take_up(self, message_id: UUID) -> None:
        reply = self.stored[message_id]
        writer = self.new_id()
        row = await self.growth.take_up(
            self.conversation,
            message_id,
            length=len(reply.text),
            writer=writer,
            service=_SERVICE,
        )
        assert row is not None
        reply.writer, reply.interrupted = writer, False

    async def delete(self, message_id: UUID) -> None:
        assert await self.store.delete(self.conversation, message_id, seen=None) is not None
        del self.stored[message_id]

    async def happen(self, times: int = 1) -> None:
        """Changes the conversation at random; most often, a reply grows."""
        for _ in range(times):
            growing = [name for name, reply in self.stored.items() if reply.writer]
            taken_up = growing + [name for name, reply in self.stored.items() if reply.interrupted]
            match self.chance.choice(
                ["append", "begin", "end", "take up", "delete", *["grow"] * 9]
            ):
                case "begin" if len(growing) < 3:
                    await self.begin()
                case "grow" if growing:
                    await self.grow(self.chance.choice(growing), f"{self.chance.random()} ")
                case "end" if growing:
                    states = ["MESSAGE_STATE_COMPLETE", "MESSAGE_STATE_INTERRUPTED"]
                    state = MessageState.Value(self.chance.choice(states))
                    await self.end(self.chance.choice(growing), state)
                case "take up" if taken_up:
                    await self.take_up(self.chance.choice(taken_up))
                case "delete" if growing:
                    await self.delete(self.chance.choice(growing))
                case _:
                    await self.append()


class Reader:
    """Holds what a client would, and applies what comes as a client must."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self.held: dict[UUID, str] = {}
        self.revision = 0

    async def begin(self) -> None:
        self._apply(await self._talk.conversations.snapshot(self._talk.conversation, 200))

    async def read_on(self) -> bool:
        """Takes in one frame; whether there was one."""
        batch = await self._talk.conversations.changes(self._talk.conversation, self.revision)
        if batch.changes:
            self._apply(batch)
            return True
        # As the engine does: asked once more, now that the revision is known.
        stored = await self._talk.conversations.revision(self._talk.conversation)
        batch = await self._talk.conversations.changes(self._talk.conversation, self.revision)
        if not batch.changes:
            batch = Batch([], stored)
        self._apply(batch)
        return bool(batch.changes)

    def _apply(self, batch: Batch[MessageChange]) -> None:
        assert batch.revision >= self.revision
        self.revision = batch.revision
        for change in batch.changes:
            match change.WhichOneof("change"):
                case "upserted":
                    upserted = change.upserted
                    assert int(upserted.etag, 16) <= batch.revision
                    self.held[UUID(upserted.message_id)] = upserted.content
                case "deleted":
                    self.held.pop(UUID(change.deleted.message_id), None)
                case "delta":
                    message_id = UUID(change.delta.message_id)
                    held = self.held.get(message_id)
                    assert held is not None, "a delta of a message that was never shown"
                    assert change.delta.offset == len(held), "a gap, or twice"
                    self.held[message_id] = held + change.delta.text

    async def until_current(self) -> None:
        while await self.read_on():
            pass
        assert self.held == {name: reply.text for name, reply in self._talk.stored.items()}


@pytest.fixture
async def talk(stack: Stack, person: MakePerson, chance: random.Random) -> AsyncIterator[Talk]:
    alice = person("alice")
    session = alice.new_session()
    said = alice.say(session, "so that it has begun")
    whose = UUID(alice.call("GET", "/v1/me")["user"]["userId"])
    settings = stack.service("messages").environment
    url = settings["INGLENOOK_DATABASE_URL"]
    database = Interrupted(url, pool_size=2, name="test reading")
    async with database, Database(url, pool_size=4, name="test writing") as plain:
        keys = DataKeys(plain, DATA_KEYS, KeyFile(Path(settings["INGLENOOK_KEY_FILE"])))
        growth = GrowthStore(plain)
        nobody = cast("Any", None)  # The session is known: nobody is asked about it.
        opener = Opener(keys, GrowthStore(database))
        conversations = Conversations(MessageStore(database), keys, nobody, opener, lambda *_: None)
        talk = Talk(
            conversation=Conversation(UUID(session), whose),
            database=database,
            conversations=conversations,
            store=MessageStore(plain),
            growth=growth,
            leases=LeaseStore(plain),
            keys=keys,
            writer=Writer(plain, lambda *_: None),
            chance=chance,
        )
        talk.stored[UUID(said["messageId"])] = Reply("so that it has begun")
        yield talk


async def test_whoever_writes_again_at_once_is_not_left_waiting(talk: Talk) -> None:
    reply = await talk.begin()
    async with asyncio.timeout(60):
        for _ in range(20):
            await talk.append()
            await talk.grow(reply, "more ")


async def test_a_reply_that_grows_while_its_conversation_is_shown_is_shown(talk: Talk) -> None:
    message_id = await talk.begin()
    await talk.grow(message_id, "one ")

    async def grow() -> None:
        await talk.grow(message_id, "more ")

    talk.database.between = grow
    reader = Reader(talk)
    await reader.begin()
    talk.database.between = None
    await talk.grow(message_id, "and the end")
    await reader.until_current()


async def test_a_reply_that_grew_through_more_than_a_frame_comes_without_a_gap(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_CHANGES_IN_A_FRAME", 2)
    known, new = await talk.begin(), None
    await talk.grow(known, "known ")
    reader = Reader(talk)
    await reader.begin()
    for number in range(7):
        await talk.append()
        await talk.grow(known, f"{number} ")
        if new is None:
            new = await talk.begin()
        await talk.grow(new, f"{number} ")
    await reader.until_current()


@pytest.mark.parametrize("changes_in_a_frame", range(1, 7))
async def test_whatever_is_stored_between_its_statements_a_reader_holds_what_is_stored(
    talk: Talk, chance: random.Random, monkeypatch: pytest.MonkeyPatch, changes_in_a_frame: int
) -> None:
    monkeypatch.setattr(reading, "_CHANGES_IN_A_FRAME", changes_in_a_frame)
    readers: list[Reader] = []
    for _ in range(4):
        await talk.happen(chance.randint(1, 5))
        talk.database.between = talk.happen
        readers.append(Reader(talk))
        await readers[-1].begin()
        for _ in range(chance.randint(0, 6)):
            await chance.choice(readers).read_on()
        talk.database.between = None
    for reader in readers:
        await reader.until_current()


@asynccontextmanager
async def _in_another_process(
    talk: Talk, stack: Stack
) -> AsyncIterator[tuple[Conversations, DataKeys]]:
    """The conversations and keys of a process that has no key of the conversation in memory."""
    settings = stack.service("messages").environment
    async with Database(talk.database.url, pool_size=2, name="another") as database:
        keys = DataKeys(database, DATA_KEYS, KeyFile(Path(settings["INGLENOOK_KEY_FILE"])))
        opener, nobody = Opener(keys, GrowthStore(talk.database)), cast("Any", None)
        store = MessageStore(talk.database)
        yield Conversations(store, keys, nobody, opener, lambda *_: None), keys


async def test_a_conversation_that_is_deleted_while_it_is_read_is_gone_and_not_damaged(
    talk: Talk, stack: Stack
) -> None:
    said, nobody = await talk.append(), cast("Any", None)
    async with _in_another_process(talk, stack) as (conversations, keys):
        row = await conversations.row(talk.conversation, said)
        await Erasing(talk.database, keys, lambda *_: None).erase(talk.conversation)
        body = Message(content="said").SerializeToString()
        repeated = Said(talk.conversation, said, row.role, body)
        appender = Appender(conversations, nobody, talk.store, nobody)
        for late in (
            conversations.message(talk.conversation, row),
            appender.is_repeated(repeated, row),
        ):
            with pytest.raises(Refusal) as refused:
                await late
            assert refused.value.reason_name == "SESSION_NOT_FOUND"


async def test_a_reply_that_is_stopped_while_its_conversation_is_deleted_is_gone(
    talk: Talk, stack: Stack
) -> None:
    reply = await talk.begin()
    async with _in_another_process(talk, stack) as (conversations, keys):
        stopping = Stopping(conversations, Ending(conversations, keys, talk.growth))
        statements = 0

        async def delete() -> None:
            nonlocal statements
            statements += 1
            if statements == 2:
                await Erasing(talk.database, keys, lambda *_: None).erase(talk.conversation)

        talk.database.between = delete
        with pytest.raises(Refusal) as refused:
            await stopping.stop(talk.conversation, reply)
        assert refused.value.reason_name == "SESSION_NOT_FOUND"


async def test_a_reply_that_is_deleted_while_it_is_listed_is_left_out(talk: Talk) -> None:
    said = await talk.append()
    reply = await talk.begin()
    await talk.grow(reply, "more ")
    statements = 0

    async def delete() -> None:
        nonlocal statements
        statements += 1
        if statements == 2:  # Its row was read, and its parts are not.
            await talk.delete(reply)

    talk.database.between = delete
    messages, following = await talk.conversations.page(
        talk.conversation, newest_first=True, first=0, limit=2
    )
    assert [message.message_id for message in messages] == [str(said)]
    assert following == messages[0].sequence - 1


@pytest.mark.parametrize("first", [0, 1])
async def test_renewing_leases_waits_for_no_batch_that_may_wait_for_it(
    talk: Talk, stack: Stack, first: int
) -> None:
    messages = [await talk.begin() for _ in range(2)]
    written = [
        (talk.conversation, message_id, cast("UUID", talk.stored[message_id].writer))
        for message_id in messages
    ]
    async with (
        asyncio.timeout(60),
        await psycopg.AsyncConnection.connect(stack.admin_url) as batch,
    ):
        # A batch of the writer's writes to them in an order of its own.
        for message_id in (messages[first], messages[1 - first]):
            grow = "UPDATE messages.messages SET length = 1 WHERE message_id = %s"
            await batch.execute(grow, (message_id,))
            await talk.leases.renew(written)
        await batch.rollback()


@pytest.mark.parametrize("what", ["grow", "end", "take up", "delete"])
async def test_what_happens_to_a_reply_while_its_lease_is_being_renewed_happens_as_a_whole(
    talk: Talk, stack: Stack, what: str
) -> None:
    reply = await talk.begin()
    await talk.grow(reply, "so far")
    renewal = "UPDATE messages.messages SET writer_deadline = now() WHERE message_id = %s"
    with psycopg.connect(stack.admin_url) as renewing:
        renewing.execute(renewal.encode(), (reply,))
        match what:
            case "grow":
                happening = talk.grow(reply, " and more")
            case "end":
                happening = talk.end(reply, MessageState.MESSAGE_STATE_COMPLETE)
            case "take up":
                happening = talk.take_up(reply)
            case _:
                happening = talk.delete(reply)
        task = asyncio.create_task(happening)
        await asyncio.to_thread(eventually, lambda: waits_for_a_lock(stack, "test writing"))
        renewing.commit()
        await task
    reader = Reader(talk)
    await reader.begin()
    await reader.until_current()
    ((counted, stored),) = rows(stack, _BYTES, talk.conversation.session_id)
    assert counted == stored
