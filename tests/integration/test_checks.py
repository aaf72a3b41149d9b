"""`python -m services.<name> check` finds what is not as it should be, also between services."""

import asyncio
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import grpc
import psycopg
import pytest
from inglenook.messages.v1.messages_pb2 import AppendMessageRequest
from inglenook.messages.v1.messages_pb2_grpc import MessagesServiceStub

from local.stack import Stack, free_ports
from services import SERVICES
from services.runtime.identity import user_id_of
from services.runtime.settings import DEVELOPMENT_ISSUER
from tests.integration.calls import ABSENT, MakePerson, Person
from tests.integration.commands import run_command
from tests.integration.eventually import eventually, owed
from tests.integration.holding import hold_command
from tests.integration.replicas import reserved_port


@pytest.fixture(scope="module")
def own_stack(reachable_to_all: Path) -> Iterator[Stack]:
    """A stack of which nobody has told anything that is not so."""
    with Stack(reachable_to_all / "home", free_ports()) as running:
        yield running


@pytest.fixture
def person(own_stack: Stack) -> Iterator[MakePerson]:
    with ExitStack() as signed_in:
        yield lambda name: signed_in.enter_context(closing(Person(own_stack, name)))


@contextmanager
def _tampered(stack: Stack, change: str, back: str, *values: object) -> Iterator[None]:
    """Changes what is stored, behind the services' backs, and changes it back."""
    eventually(lambda: owed(stack) == 0)
    with psycopg.connect(stack.admin_url, autocommit=True) as database:
        database.execute(change.encode(), values)
        try:
            yield
        finally:
            database.execute(back.encode(), values)


def _differences(stack: Stack, service: str, **settings: str) -> list[str]:
    """The lines about what differs."""
    done = run_command(stack, service, "check", **settings)
    lines = [line.strip() for line in done.told.splitlines() if line.startswith("    ")]
    if not lines:
        assert done.code == 0, done.told
        assert all(line.startswith("ok ") for line in done.told.splitlines())
    else:
        assert done.code == 1
        assert done.told.endswith(f"{service}: {len(lines)} differences were found\n")
    return lines


@pytest.mark.parametrize("service", SERVICES)
def test_a_system_that_was_used_has_no_differences(
    own_stack: Stack, person: MakePerson, service: str
) -> None:
    alice = person("alice")
    session, gone = alice.new_session(), alice.new_session()
    deleted = [alice.say(session, f"{n}") for n in range(3)][1]
    alice.call("DELETE", f"/v1/sessions/{session}/messages/{deleted['messageId']}")
    alice.call("PUT", "/v1/me/currentSession", {"sessionId": session})
    alice.say(gone, "gone")
    alice.call("DELETE", f"/v1/sessions/{gone}")
    erased = person(f"erased-{uuid4()}")
    erased.say(erased.new_session(), "gone")
    erased.call("POST", "/v1/me:erase", {"confirm": "ERASE"})
    eventually(lambda: owed(own_stack) == 0)
    assert _differences(own_stack, service) == []


async def test_first_appends_that_are_cut_anywhere_leave_nothing_that_is_not_so(
    own_stack: Stack, person: MakePerson, chance: random.Random
) -> None:
    alice = person("alice")
    sessions = [alice.new_session() for _ in range(60)]
    metadata = (("authorization", alice.http.headers["authorization"]),)

    async def begin(messages: MessagesServiceStub, session: str) -> None:
        request = AppendMessageRequest(session_id=session, content="cut")
        call: Any = messages.AppendMessage(request, metadata=metadata)
        await asyncio.wait([asyncio.ensure_future(call)], timeout=chance.uniform(0, 0.1))
        call.cancel()

    async def delete(session: str) -> None:
        await asyncio.sleep(chance.uniform(0, 0.1))
        await asyncio.to_thread(alice.call, "DELETE", f"/v1/sessions/{session}")

    async with grpc.aio.insecure_channel(own_stack.ports.address("messages")) as channel:
        messages = MessagesServiceStub(channel)
        for cut in (sessions[:30], sessions[30:]):
            begun = [begin(messages, session) for session in cut]
            await asyncio.gather(*begun, *map(delete, cut[::3]))
        last = [asyncio.ensure_future(begin(messages, alice.new_session())) for _ in range(20)]
        await asyncio.sleep(chance.uniform(0, 0.05))
        await asyncio.to_thread(own_stack.kill, "messages")
        await asyncio.gather(*last)
    await asyncio.to_thread(own_stack.start_again, "messages")
    eventually(lambda: owed(own_stack) == 0)
    assert [_differences(own_stack, service) for service in SERVICES] == [[], [], []]


def test_a_count_that_is_wrong_is_reported(own_stack: Stack, person: MakePerson) -> None:
    alice = person("alice")
    session = alice.new_session()
    alice.say(session, "one")
    update = "UPDATE messages.conversations SET message_count = {} WHERE session_id = %s"
    with _tampered(own_stack, update.format(7), update.format(1), UUID(session)):
        (line,) = _differences(own_stack, "messages")
        # Sessions were told of one, and the messages service says that it is seven.
        (told,) = _differences(own_stack, "sessions")
    assert line.startswith(f"{session}/")
    assert line.endswith("7, expected 1")
    assert told.startswith(f"{session}/")
    assert told.endswith("1, expected 7")


def test_bytes_that_are_counted_wrongly_are_reported_and_uncounted_ones_are_not(
    own_stack: Stack, person: MakePerson
) -> None:
    alice = person("alice")
    session = alice.new_session()
    alice.say(session, "one")
    update = "UPDATE messages.conversations SET bytes = bytes {} WHERE session_id = %s"
    with _tampered(own_stack, update.format("+ 7"), update.format("- 7"), UUID(session)):
        (line,) = _differences(own_stack, "messages")
        uncount = update.replace("bytes = bytes", "counted_revision = counted_revision")
        with _tampered(own_stack, uncount.format("- 1"), uncount.format("+ 1"), UUID(session)):
            assert _differences(own_stack, "messages") == []
    assert line.startswith(f"{session}/")
    found, expected = line.rpartition(": ")[2].split(", expected ")
    assert int(found) == int(expected) + 7


def test_a_count_that_sessions_know_wrongly_is_reported(
    own_stack: Stack, person: MakePerson
) -> None:
    alice = person("alice")
    spoken, silent = alice.new_session(), alice.new_session()
    alice.say(spoken, "one")
    update = "UPDATE sessions.sessions SET message_count = message_count {} WHERE session_id = %s"
    for session, found in ((spoken, "3, expected 1"), (silent, "2, expected 0")):
        with _tampered(own_stack, update.format("+ 2"), update.format("- 2"), UUID(session)):
            (line,) = _differences(own_stack, "sessions")
        assert line.startswith(f"{session}/")
        assert line.endswith(found)


def test_a_legal_hold_that_the_three_do_not_agree_on_is_reported(
    own_stack: Stack, person: MakePerson
) -> None:
    alice = person("alice")
    whose = user_id_of(DEVELOPMENT_ISSUER, "alice")
    spoken, silent, released = (alice.new_session() for _ in range(3))
    alice.say(spoken, "one")
    for command in ("hold", "release"):
        hold_command(own_stack, command, (whose, released))
    alice.call("DELETE", f"/v1/sessions/{released}")
    update = "UPDATE {} SET is_held = {} WHERE session_id = %s"
    for session, table, found in (
        (spoken, "messages.conversations", ["1, expected 0"]),
        # Neither messages nor users knows of it.
        (spoken, "sessions.sessions", ["0, expected 1", "0, expected 1"]),
        (silent, "sessions.sessions", ["0, expected 1", "0, expected 1"]),
        # It keeps its person, for nothing.
        (released, "users.legal_holds", ["1, expected 0"]),
    ):
        change, back = (update.format(table, held) for held in ("true", "false"))
        with _tampered(own_stack, change, back, UUID(session)):
            told = _differences(own_stack, "sessions")
        assert all(line.startswith(f"{session}/") for line in told)
        assert [line.rpartition(": ")[2] for line in told] == found


def test_a_legal_hold_that_users_lost_and_would_erase_its_person_in_spite_of_is_reported(
    own_stack: Stack, person: MakePerson
) -> None:
    name = f"held-{uuid4()}"
    session = person(name).new_session()
    whose = user_id_of(DEVELOPMENT_ISSUER, name)
    hold_command(own_stack, "hold", (whose, session))
    eventually(lambda: owed(own_stack) == 0)
    with psycopg.connect(own_stack.admin_url, autocommit=True) as database:
        database.execute("DELETE FROM users.legal_holds WHERE session_id = %s", [UUID(session)])
    assert _differences(own_stack, "sessions") == [f"{session}/{whose}: 0, expected 1"]
    # Told once more, they have it again.
    hold_command(own_stack, "hold", (whose, session))
    eventually(lambda: owed(own_stack) == 0)
    assert _differences(own_stack, "sessions") == []


def test_what_is_left_of_a_deleted_session_is_reported_by_both(
    own_stack: Stack, person: MakePerson
) -> None:
    alice = person("alice")
    session = alice.new_session()
    alice.say(session, "left")
    update = "UPDATE sessions.sessions SET delete_time = {} WHERE session_id = %s"
    with _tampered(own_stack, update.format("now()"), update.format("NULL"), UUID(session)):
        for service in ("sessions", "messages"):
            (line,) = _differences(own_stack, service)
            assert line.startswith(f"{session}/")
            assert line.endswith("1, expected 0")


def test_who_is_in_a_session_that_is_not_there_is_reported(
    own_stack: Stack, person: MakePerson
) -> None:
    me = person("dave").call("GET", "/v1/me")["user"]["userId"]
    update = "UPDATE users.users SET current_session_id = {} WHERE user_id = %s"
    with _tampered(own_stack, update.format(f"'{ABSENT}'"), update.format("NULL"), UUID(me)):
        assert _differences(own_stack, "users") == [f"{me} in {ABSENT}: 1, expected 0"]


def test_what_is_still_owed_and_what_changes_meanwhile_is_no_difference(
    own_stack: Stack, person: MakePerson
) -> None:
    alice = person("alice")
    sessions = [alice.new_session() for _ in range(4)]
    ends: list[bool] = []

    def live() -> None:
        while not ends:
            for session in sessions:
                alice.say(session, "more")
            passing = alice.new_session()
            alice.call("PUT", "/v1/me/currentSession", {"sessionId": passing})
            alice.say(passing, "for a moment")
            alice.call("DELETE", f"/v1/sessions/{passing}")

    with ThreadPoolExecutor(1) as callers:
        living = callers.submit(live)
        try:
            found = [_differences(own_stack, service) for service in SERVICES]
        finally:
            ends.append(True)
        living.result()
    assert found == [[], [], []]


@pytest.mark.parametrize(
    ("service", "setting"),
    [
        ("users", "sessions_address"),
        ("sessions", "messages_address"),
        ("sessions", "users_address"),
        ("messages", "sessions_address"),
    ],
)
def test_a_check_that_cannot_ask_says_so(
    own_stack: Stack, person: MakePerson, service: str, setting: str
) -> None:
    alice = person("alice")
    session = alice.new_session()
    alice.say(session, "one")
    alice.call("PUT", "/v1/me/currentSession", {"sessionId": session})
    with reserved_port() as nowhere:
        done = run_command(own_stack, service, "check", **{setting: f"127.0.0.1:{nowhere}"})
    assert done.code == 1
    assert done.told.endswith(f"{service}: another service does not answer: UNAVAILABLE\n")
