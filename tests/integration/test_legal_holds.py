"""What is under a legal hold is neither deleted nor changed until it is released, by nobody."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import grpc
import pytest
from inglenook.messages.v1 import messages_pb2
from inglenook.messages.v1.messages_pb2_grpc import MessagesServiceStub
from inglenook.sessions.v1.sessions_pb2 import WatchSessionsRequest
from inglenook.sessions.v1.sessions_pb2_grpc import SessionsServiceStub
from inglenook.users.v1 import users_pb2
from inglenook.users.v1.users_pb2_grpc import UsersServiceStub

from local.stack import Stack
from services import SERVICES
from services.runtime.identity import user_id_of
from services.runtime.settings import DEVELOPMENT_ISSUER
from services.runtime.timestamps import timestamp_of
from services.sessions import hold_commands
from services.sessions.hold_commands import HoldError
from tests.integration.calls import ABSENT, MakePerson, Person, Refused
from tests.integration.commands import Done, run_command
from tests.integration.eventually import eventually, owed, rows, tables_with
from tests.integration.holding import hold_command

HELD = Refused("FAILED_PRECONDITION", "LEGAL_HOLD")
GONE = Refused("NOT_FOUND", "SESSION_NOT_FOUND")
ERASED = Refused("PERMISSION_DENIED", "PERSON_ERASED")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Someone:
    """A person, with what an operator does about their sessions."""

    def __init__(self, stack: Stack, person: MakePerson) -> None:
        self.name = f"held-{uuid4()}"
        self.id = user_id_of(DEVELOPMENT_ISSUER, self.name)
        self.person = person(self.name)
        self._stack = stack

    def hold(self, session: str, operator: str = "olga", reference: str = "") -> list[str]:
        return hold_command(self._stack, "hold", (self.id, session), operator, reference)

    def release(self, session: str, operator: str = "olga", reference: str = "") -> list[str]:
        return hold_command(self._stack, "release", (self.id, session), operator, reference)


@pytest.fixture
def someone(stack: Stack, person: MakePerson) -> Someone:
    return Someone(stack, person)


@pytest.fixture
def messages(stack: Stack) -> Iterator[MessagesServiceStub]:
    with grpc.insecure_channel(stack.ports.address("messages")) as channel:
        yield MessagesServiceStub(channel)


@pytest.fixture
def users(stack: Stack) -> Iterator[UsersServiceStub]:
    with grpc.insecure_channel(stack.ports.address("users")) as channel:
        yield UsersServiceStub(channel)


def _as(stack: Stack, service: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {stack.home.service_tokens(service).token()}"),)


def _spoken(person: Person) -> tuple[str, str]:
    """A session in which something was said, and that."""
    session = person.new_session("Kept")
    return session, person.say(session, "what matters")["messageId"]


def _contents(person: Person, session: str) -> list[str]:
    listed = person.call("GET", f"/v1/sessions/{session}/messages?order=ORDER_OLDEST_FIRST")
    return [message["content"] for message in listed["messages"]]


def test_nothing_of_a_held_session_is_deleted_or_changed_and_all_else_goes_on(
    stack: Stack, someone: Someone
) -> None:
    alice = someone.person
    session, message = _spoken(alice)
    path = f"/v1/sessions/{session}"
    done = run_command(stack, "sessions", "hold", str(someone.id), session)
    assert done == Done(0, f"{session} is under a legal hold everywhere.\n")
    seen = alice.call("GET", path)["session"]
    assert seen["legalHold"]
    # Nothing.
    assert alice.refused("DELETE", path) == HELD
    assert alice.refused("PATCH", path, {"title": "Another"}) == HELD
    assert alice.refused("DELETE", f"{path}/messages/{message}") == HELD
    assert alice.refused("PATCH", f"{path}/messages/{message}", {"content": "another"}) == HELD
    assert alice.refused("POST", "/v1/me:erase", {"confirm": "ERASE"}) == HELD
    # All else.
    alice.say(session, "more")
    imported = {"sessionId": session, "messageId": str(uuid4()), "role": "ROLE_USER"}
    brought = [{"messages": [{**imported, "content": "from elsewhere"}]}]
    assert alice.call("POST", "/v1/messages:import", brought)["imported"] == "1"
    alice.call("POST", f"{path}:complete", {})
    alice.call("POST", f"{path}:resume", {})
    alice.call("PATCH", "/v1/me", {"name": "Alice"})
    assert _contents(alice, session) == ["what matters", "more", "from elsewhere"]
    assert alice.call("GET", path)["session"]["title"] == "Kept"
    # Of other sessions, too.
    other, said = _spoken(alice)
    alice.call("DELETE", f"/v1/sessions/{other}/messages/{said}")
    alice.call("DELETE", f"/v1/sessions/{other}")


def test_what_was_released_can_be_deleted_and_its_person_erased(
    stack: Stack, someone: Someone
) -> None:
    alice = someone.person
    session, message = _spoken(alice)
    other, _ = _spoken(alice)
    for one in (session, other):
        someone.hold(one)
    assert someone.release(session) == [f"{session} is under no legal hold any more, anywhere."]
    assert not alice.call("GET", f"/v1/sessions/{session}")["session"]["legalHold"]
    alice.call("PATCH", f"/v1/sessions/{session}/messages/{message}", {"content": "another"})
    alice.call("DELETE", f"/v1/sessions/{session}/messages/{message}")
    alice.call("DELETE", f"/v1/sessions/{session}")
    # The other one still keeps its person.
    assert alice.refused("POST", "/v1/me:erase", {"confirm": "ERASE"}) == HELD
    someone.release(other)
    alice.call("POST", "/v1/me:erase", {"confirm": "ERASE"})
    eventually(lambda: owed(stack) == 0)
    memory = {f"{name}.erased_people": 1 for name in SERVICES}
    assert tables_with(stack, "user_id", someone.id) == {**memory, "users.receipts": 1}


def test_that_a_hold_was_lifted_is_told_also_when_its_session_is_deleted_before(
    stack: Stack, someone: Someone, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = someone.person
    session, _ = _spoken(alice)
    someone.hold(session)
    stack.kill("users")
    monkeypatch.setattr(hold_commands, "_WAIT_SECONDS", 0.0)
    with pytest.raises(HoldError, match="users did not hear of it yet"):
        someone.release(session)
    alice.call("DELETE", f"/v1/sessions/{session}")
    stack.start_again("users")
    eventually(lambda: owed(stack) == 0)
    with pytest.raises(HoldError, match="has no session"):
        someone.hold(session)
    alice.call("POST", "/v1/me:erase", {"confirm": "ERASE"})


def test_a_hold_keeps_what_is_said_later_in_a_session_that_was_silent(someone: Someone) -> None:
    alice = someone.person
    session = alice.new_session()
    someone.hold(session)
    message = alice.say(session, "later")["messageId"]
    assert alice.refused("DELETE", f"/v1/sessions/{session}/messages/{message}") == HELD
    assert _contents(alice, session) == ["later"]


def test_that_a_hold_was_set_and_lifted_is_in_the_persons_log_each_once(someone: Someone) -> None:
    alice = someone.person
    session, _ = _spoken(alice)
    someone.hold(session, "olga", "matter 7")
    assert someone.hold(session, "otto")[0] == f"{session} was under a legal hold already."
    someone.release(session, "otto", "settled")
    assert someone.release(session, "otto")[0] == f"{session} was under no legal hold already."
    entries = alice.call("GET", "/v1/me/accessLog")["entries"]
    assert [
        (one["action"], one["actor"]["name"], one["requestId"], one["sessionId"]) for one in entries
    ] == [("release", "otto", "settled", session), ("hold", "olga", "matter 7", session)]
    assert {one["service"] for one in entries} == {"sessions"}
    assert {one["actor"]["kind"] for one in entries} == {"ACTOR_KIND_OPERATOR"}


def test_held_sessions_are_listed_with_what_the_operator_noted(
    stack: Stack, someone: Someone
) -> None:
    session, _ = _spoken(someone.person)
    someone.hold(session, reference="matter 7")
    listed = run_command(stack, "sessions", "holds").told.splitlines()
    (line,) = [line for line in listed if session in line]
    assert line.startswith(f"{someone.id} {session}  since 2")
    assert line.endswith("  matter 7")
    someone.release(session)
    assert session not in run_command(stack, "sessions", "holds").told


def test_who_is_listed_finds_it_in_their_log(stack: Stack, someone: Someone) -> None:
    sessions = [someone.person.new_session() for _ in range(2)]
    for session in sessions:
        someone.hold(session)
    run_command(stack, "sessions", "holds", "--operator", "otto")
    listed, entries = sessions.copy(), someone.person.call("GET", "/v1/me/accessLog")["entries"]
    for entry in entries[:2]:
        assert (entry["action"], entry["actor"]["name"]) == ("holds", "otto")
        listed.remove(entry["sessionId"])
    assert (listed, len(entries)) == ([], 4)
    for session in sessions:
        someone.release(session)


def test_who_watches_their_sessions_sees_a_hold_come_and_go(stack: Stack, someone: Someone) -> None:
    session, _ = _spoken(someone.person)
    eventually(lambda: owed(stack) == 0)
    metadata = (("authorization", f"Bearer {stack.token(someone.name)}"),)
    with grpc.insecure_channel(stack.ports.address("sessions")) as channel:
        frames = SessionsServiceStub(channel).WatchSessions(
            WatchSessionsRequest(), metadata=metadata, timeout=60
        )
        while not next(frames).HasField("current"):
            pass
        for change_hold, held in ((someone.hold, True), (someone.release, False)):
            change_hold(session)
            (change,) = next(frames).changes
            assert change.upserted.legal_hold is held
        frames.cancel()


def test_what_is_not_there_is_not_held(stack: Stack, someone: Someone, person: MakePerson) -> None:
    alice = someone.person
    deleted, others = alice.new_session(), person("bob").new_session()
    alice.call("DELETE", f"/v1/sessions/{deleted}")
    for session in (deleted, others, ABSENT):
        with pytest.raises(HoldError, match=f"{someone.id} has no session {session}"):
            someone.hold(session)
    silent = alice.new_session()
    with pytest.raises(HoldError, match="has no session that was ever under a legal hold"):
        someone.release(silent)
    refused = run_command(stack, "sessions", "release", str(someone.id), ABSENT)
    assert refused.code == 1
    assert refused.told.startswith("sessions: ")
    assert alice.call("GET", "/v1/me/accessLog")["entries"] == []


def test_a_session_that_is_deleted_and_held_at_once_is_the_one_or_the_other(
    stack: Stack, someone: Someone
) -> None:
    alice = someone.person
    for _ in range(8):
        session, message = _spoken(alice)
        with ThreadPoolExecutor(2) as callers:
            deleting = callers.submit(alice.http.delete, f"/v1/sessions/{session}")
            holding = callers.submit(someone.hold, session)
            deleted = deleting.result().status_code == 200
            assert isinstance(holding.exception(), HoldError) is deleted
        if deleted:
            assert alice.refused("GET", f"/v1/sessions/{session}") == GONE
        else:
            assert _contents(alice, session) == ["what matters"]
            path = f"/v1/sessions/{session}/messages/{message}"
            assert alice.refused("DELETE", path) == HELD
    eventually(lambda: owed(stack) == 0)


def test_a_person_who_is_erased_while_a_hold_is_set_is_erased_or_kept_as_a_whole(
    stack: Stack, person: MakePerson
) -> None:
    memory = {f"{name}.erased_people": 1 for name in SERVICES}
    memory |= {"users.receipts": 1}
    for _ in range(6):
        someone = Someone(stack, person)
        session, _ = _spoken(someone.person)
        body = {"confirm": "ERASE"}
        with ThreadPoolExecutor(2) as callers:
            erasing = callers.submit(someone.person.http.post, "/v1/me:erase", json=body)
            holding = callers.submit(someone.hold, session)
            erased = erasing.result().status_code == 200
            # Nobody is told that it is held everywhere who finds it gone.
            assert isinstance(holding.exception(), HoldError) is erased
        eventually(lambda: owed(stack) == 0)
        if erased:
            assert tables_with(stack, "user_id", someone.id) == memory
        else:
            assert _contents(someone.person, session) == ["what matters"]


def test_a_hold_is_not_said_to_be_everywhere_where_sessions_only_have_to_hear_of_an_erasure(
    stack: Stack, someone: Someone, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, _ = _spoken(someone.person)
    stack.kill("sessions")
    someone.person.call("POST", "/v1/me:erase", {"confirm": "ERASE"})
    stack.kill("users")  # Or it may be telling sessions just now, and find them when they are back.
    due = (
        "UPDATE users.outbox SET tries = 1, due_time = now() + {} WHERE user_id = %s"
        " AND kind = 'erase_sessions' RETURNING 1"
    )
    assert rows(stack, due.format("interval '1 hour'"), someone.id) == [(1,)]
    stack.start_again("sessions", "users")
    monkeypatch.setattr(hold_commands, "_WAIT_SECONDS", 3.0)
    with pytest.raises(HoldError, match="users did not hear of it yet"):
        someone.hold(session)
    assert rows(stack, due.format("interval '0'"), someone.id) == [(1,)]
    eventually(lambda: owed(stack) == 0)
    assert "sessions.sessions" not in tables_with(stack, "user_id", someone.id)


def test_a_hold_that_comes_to_the_users_service_after_an_erasure_is_told_so_and_keeps_nothing(
    stack: Stack, someone: Someone, users: UsersServiceStub
) -> None:
    session, _ = _spoken(someone.person)
    request = users_pb2.HoldSessionRequest(
        user_id=str(someone.id), session_id=session, held=True, change_time=timestamp_of(NOON)
    )
    someone.person.call("POST", "/v1/me:erase", {"confirm": "ERASE"})
    for _ in range(2):
        answer = users.HoldSession(request, metadata=_as(stack, "sessions"), timeout=30)
        assert answer.erased
    assert rows(stack, "SELECT 1 FROM users.legal_holds WHERE user_id = %s", someone.id) == []


def test_holds_that_are_told_late_or_twice_change_nothing(
    stack: Stack, someone: Someone, messages: MessagesServiceStub, users: UsersServiceStub
) -> None:
    alice = someone.person
    session, message = _spoken(alice)
    metadata = _as(stack, "sessions")

    def tell(*, held: bool, seconds: int) -> None:
        named = {"user_id": str(someone.id), "session_id": session}
        time = timestamp_of(NOON + timedelta(seconds=seconds))
        to_messages = messages_pb2.HoldSessionRequest(**named, held=held, change_time=time)
        messages.HoldSession(to_messages, metadata=metadata, timeout=30)
        to_users = users_pb2.HoldSessionRequest(**named, held=held, change_time=time)
        users.HoldSession(to_users, metadata=metadata, timeout=30)

    tell(held=True, seconds=2)
    tell(held=False, seconds=1)
    tell(held=False, seconds=2)
    path = f"/v1/sessions/{session}/messages/{message}"
    assert alice.refused("DELETE", path) == HELD
    assert alice.refused("POST", "/v1/me:erase", {"confirm": "ERASE"}) == HELD
    tell(held=False, seconds=3)
    tell(held=True, seconds=2)
    alice.call("DELETE", path)
    alice.call("POST", "/v1/me:erase", {"confirm": "ERASE"})


def test_what_the_others_decided_is_carried_out_whatever_hold_is_known(
    stack: Stack, someone: Someone, messages: MessagesServiceStub
) -> None:
    # As when they are told of the deletion first, and of the release later.
    alice = someone.person
    (held, _), (erased, _) = _spoken(alice), _spoken(alice)
    for session in (held, erased):
        someone.hold(session)
    as_sessions = _as(stack, "sessions")
    named = {"user_id": str(someone.id), "session_id": held}
    deleting = messages_pb2.DeleteSessionMessagesRequest(**named)
    messages.DeleteSessionMessages(deleting, metadata=as_sessions, timeout=30)
    assert alice.refused("GET", f"/v1/sessions/{held}/messages") == GONE
    erasing = messages_pb2.EraseUserRequest(user_id=str(someone.id))
    messages.EraseUser(erasing, metadata=_as(stack, "users"), timeout=30)
    assert alice.refused("GET", f"/v1/sessions/{erased}/messages") == GONE


def test_a_hold_that_comes_after_a_deletion_changes_nothing(
    stack: Stack, someone: Someone, messages: MessagesServiceStub
) -> None:
    alice = someone.person
    session, _ = _spoken(alice)
    alice.call("DELETE", f"/v1/sessions/{session}")
    eventually(lambda: owed(stack) == 0)
    late = messages_pb2.HoldSessionRequest(
        user_id=str(someone.id), session_id=session, held=True, change_time=timestamp_of(NOON)
    )
    messages.HoldSession(late, metadata=_as(stack, "sessions"), timeout=30)
    mark = "SELECT is_held, hold_change_time FROM messages.conversations WHERE session_id = %s"
    assert rows(stack, mark, UUID(session)) == [(False, None)]
    assert alice.refused("GET", f"/v1/sessions/{session}/messages") == GONE


def test_a_hold_of_which_a_service_did_not_hear_yet_is_said_to_be_so_and_told_later(
    stack: Stack, someone: Someone, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = someone.person
    session, message = _spoken(alice)
    stack.kill("messages")
    monkeypatch.setattr(hold_commands, "_WAIT_SECONDS", 0.0)
    with pytest.raises(HoldError, match="messages") as said:
        someone.hold(session)
    assert f"{session} is held here." in str(said.value)
    stack.start_again("messages")
    eventually(lambda: owed(stack) == 0)
    path = f"/v1/sessions/{session}/messages/{message}"
    assert alice.refused("DELETE", path) == HELD
