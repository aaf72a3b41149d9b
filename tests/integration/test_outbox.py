"""What is owed to another service reaches it, whatever fails, and poison holds up nothing else."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from uuid import UUID, uuid4

import grpc
import httpx
import psutil
import psycopg
import pytest
from inglenook.messages.v1.messages_pb2 import AppendMessageRequest
from inglenook.messages.v1.messages_pb2_grpc import MessagesServiceStub

from local.stack import Stack
from services import SERVICES
from tests.integration.calls import MakePerson, Person
from tests.integration.eventually import eventually, owed, rows


def _count(person: Person, session: str) -> int:
    """The count that a session's owner sees, once somebody answers again."""
    answers: list[httpx.Response] = []

    def answered() -> bool:
        answers.append(person.http.get(f"/v1/sessions/{session}"))
        return answers[-1].status_code != httpx.codes.SERVICE_UNAVAILABLE

    eventually(answered)
    return int(answers[-1].json()["session"]["messageCount"])


def _stored(stack: Stack, session: str) -> int:
    query = "SELECT count(*) FROM messages.messages WHERE session_id = %s"
    return int(rows(stack, query, session)[0][0])


def _outbox(stack: Stack, service: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", f"services.{service}", "outbox", *arguments],
        env=stack.service(service).environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@contextmanager
def _saying(stack: Stack, name: str, sessions: list[str], ports: list[int]) -> Iterator[None]:
    """Says things in all sessions meanwhile, at several processes, whether they answer or not."""
    metadata = (("authorization", f"Bearer {stack.token(name)}"),)
    ends: list[bool] = []

    def say(session: str, port: int) -> None:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = MessagesServiceStub(channel)
            while not ends:
                request = AppendMessageRequest(session_id=session, content="more")
                try:
                    stub.AppendMessage(request, metadata=metadata, timeout=5)
                except grpc.RpcError:
                    time.sleep(0.02)

    with ThreadPoolExecutor(len(sessions) * len(ports)) as callers:
        saying = [callers.submit(say, session, port) for session in sessions for port in ports]
        try:
            yield
        finally:
            ends.append(True)
            for caller in saying:
                caller.result()


def test_counts_are_equal_in_the_end_whoever_was_killed(
    stack: Stack, person: MakePerson, replica: int, chance: random.Random
) -> None:
    name = f"alice-{uuid4()}"
    alice = person(name)
    sessions = [alice.new_session() for _ in range(4)]
    seen: dict[str, list[int]] = {session: [] for session in sessions}
    with _saying(stack, name, sessions, [stack.ports.messages, replica]):
        eventually(lambda: all(_stored(stack, session) for session in sessions))
        for _ in range(6):
            service = chance.choice(["messages", "messages", "sessions"])
            stack.kill(service)
            stack.start_again(service)
            for session in sessions:
                seen[session].append(_count(alice, session))
    for session in sessions:
        eventually(lambda session=session: _count(alice, session) == _stored(stack, session))  # type: ignore[misc]
        assert _stored(stack, session) > 0
        assert seen[session] == sorted(seen[session])
    eventually(lambda: owed(stack) == 0)


def test_another_process_relays_when_the_one_that_did_hangs(
    stack: Stack, person: MakePerson, replica: int
) -> None:
    alice = person(name := f"alice-{uuid4()}")
    session = alice.new_session()
    alice.say(session, "one")
    eventually(lambda: _count(alice, session) == 1)
    # Whichever of the two relays: the one that answers is made to hang.
    hanging = stack.processes.pids()["messages"]
    os.kill(hanging, signal.SIGSTOP)
    try:
        metadata = (("authorization", f"Bearer {stack.token(name)}"),)
        with grpc.insecure_channel(f"127.0.0.1:{replica}") as channel:
            request = AppendMessageRequest(session_id=session, content="two")
            MessagesServiceStub(channel).AppendMessage(request, metadata=metadata, timeout=30)
        eventually(lambda: _count(alice, session) == 2)
    finally:
        os.kill(hanging, signal.SIGCONT)
    alice.say(session, "three")
    eventually(lambda: _count(alice, session) == 3)


@contextmanager
def _owing(stack: Stack, *, messages: int, tries: int) -> Iterator[UUID]:
    """A conversation with an event that was tried so often; after 16 times it was set aside."""
    session, nobody = uuid4(), uuid4()
    with psycopg.connect(stack.admin_url, autocommit=True) as database:
        database.execute(
            "INSERT INTO messages.conversations (session_id, user_id, last_sequence,"
            " message_count, revision, create_time, activity_time)"
            " VALUES (%s, %s, 0, %s, 1, now(), now())",
            (session, nobody, messages),
        )
        database.execute(
            "INSERT INTO messages.outbox"
            " (session_id, user_id, kind, create_time, due_time, tries, set_aside_time)"
            " VALUES (%s, %s, 'activity', now(), now(), %s, CASE WHEN %s >= 16 THEN now() END)",
            (session, nobody, tries, tries),
        )
        yield session
        for table in ("outbox", "conversations"):
            database.execute(
                f"DELETE FROM messages.{table} WHERE session_id = %s".encode(),  # noqa: S608
                (session,),
            )


@pytest.fixture
def poison(stack: Stack) -> Iterator[UUID]:
    """A conversation of which nothing true can be told: its count is below nothing."""
    with _owing(stack, messages=-1, tries=0) as session:
        yield session


def _state(stack: Stack, session: UUID) -> tuple[int, bool]:
    """How often an event was tried, and whether it was set aside."""
    query = "SELECT tries, set_aside_time IS NOT NULL FROM messages.outbox WHERE session_id = %s"
    ((tries, set_aside),) = rows(stack, query, session)
    return tries, set_aside


def test_poison_is_set_aside_and_holds_up_no_other(
    stack: Stack, person: MakePerson, poison: UUID
) -> None:
    alice = person("alice")
    session = alice.new_session()
    eventually(lambda: _state(stack, poison)[0] > 0)
    alice.say(session, "hello")
    eventually(lambda: _count(alice, session) == 1)
    assert f"failing    activity  {poison}/" in _outbox(stack, "messages", "list")
    with psycopg.connect(stack.admin_url, autocommit=True) as database:
        # As after many tries, which take a while.
        database.execute(
            "UPDATE messages.outbox SET tries = 15, due_time = now() WHERE session_id = %s",
            (poison,),
        )
    eventually(lambda: _state(stack, poison)[1])
    assert f"set aside  activity  {poison}/" in _outbox(stack, "messages", "list")
    kind, waiting, failing, aside, *_ = _outbox(stack, "messages", "status").splitlines()[1].split()
    assert (kind, failing, aside) == ("activity", "0", "1")
    assert int(waiting) >= 0
    alice.say(session, "still")
    eventually(lambda: _count(alice, session) == 2)
    log = (stack.home.logs / "messages.log").read_text()
    assert any("set aside" in line and str(poison) in line for line in log.splitlines())


def test_what_was_set_aside_is_delivered_once_it_can_be(stack: Stack) -> None:
    with _owing(stack, messages=0, tries=16) as session:
        assert _outbox(stack, "messages", "retry") == "Trying 1 again.\n"
        query = "SELECT 1 FROM messages.outbox WHERE session_id = %s"
        eventually(lambda: rows(stack, query, session) == [])


def test_what_was_set_aside_is_told_once_there_is_something_new(
    stack: Stack, person: MakePerson
) -> None:
    alice = person("alice")
    session, owner = alice.new_session(), alice.call("GET", "/v1/me")["user"]["userId"]
    with psycopg.connect(stack.admin_url, autocommit=True) as database:
        database.execute(
            "INSERT INTO sessions.outbox"
            " (user_id, session_id, kind, create_time, due_time, tries, set_aside_time)"
            " VALUES (%s, %s, 'deletion', now(), now(), 16, now())",
            (owner, session),
        )
    alice.say(session, "hello")
    alice.call("DELETE", f"/v1/sessions/{session}")
    eventually(lambda: _stored(stack, session) == 0)
    query = "SELECT 1 FROM sessions.outbox WHERE session_id = %s"
    eventually(lambda: rows(stack, query, session) == [])


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_says_what_it_owes(stack: Stack, service: str) -> None:
    eventually(lambda: owed(stack) == 0)
    assert _outbox(stack, service, "status") == "Nothing is owed.\n"
    assert _outbox(stack, service, "list") == "Nothing failed.\n"
    assert _outbox(stack, service, "retry") == "Trying 0 again.\n"


def test_a_receiver_that_hangs_is_not_held_against_what_it_is_told(
    stack: Stack, person: MakePerson
) -> None:
    eventually(lambda: owed(stack) == 0)
    alice = person("alice")
    session = alice.new_session()
    alice.say(session, "gone soon")
    eventually(lambda: owed(stack) == 0)
    receiver = psutil.Process(stack.processes.pids()["messages"])
    receiver.suspend()
    try:
        alice.call("DELETE", f"/v1/sessions/{session}")
        failures = stack.home.logs / "sessions.log"
        told = failures.read_text().count("events cannot be delivered")
        eventually(lambda: failures.read_text().count("events cannot be delivered") > told)
        query = "SELECT tries FROM sessions.outbox WHERE kind = 'deletion' AND session_id = %s"
        assert rows(stack, query, session) == [(0,)]
    finally:
        receiver.resume()
    eventually(lambda: _stored(stack, session) == 0)
    eventually(lambda: owed(stack) == 0)
