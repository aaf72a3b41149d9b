"""An erased person is gone from every service, for good, and gets a receipt."""

import asyncio
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import grpc
import httpx
import jwt
import psycopg
import pytest
from google.protobuf.empty_pb2 import Empty
from inglenook.messages.v1.messages_pb2 import EraseUserRequest, WatchMessagesRequest
from inglenook.messages.v1.messages_pb2_grpc import MessagesServiceStub

from contract.folders import DESCRIPTORS
from contract.methods import load_methods
from local.stack import Stack
from services import SERVICES
from services.messages.erasing import Erasing
from services.messages.tables import DATA_KEYS
from services.runtime.database import Database, fetch_all
from services.runtime.encryption.data_keys import DataKeys
from services.runtime.encryption.key_file import KeyFile, make_key_file
from services.runtime.identity import user_id_of
from services.runtime.jwks import read_signing_key
from services.runtime.settings import DEVELOPMENT_ISSUER
from services.sessions.store import ERASED as SESSIONS_ERASED
from services.sessions.store import SessionRow, SessionStore
from tests.integration.calls import MakePerson, Person, Refused, refusal_in, refusal_over_grpc
from tests.integration.eventually import (
    eventually,
    owed,
    rows,
    tables_with,
    waits_for_a_lock,
)

ERASED = Refused("PERMISSION_DENIED", "PERSON_ERASED")
MEMORY = {"users.erased_people": 1, "users.receipts": 1}
MEMORY |= {"sessions.erased_people": 1, "messages.erased_people": 1}


def _erase(person: Person) -> Any:  # noqa: ANN401 - JSON
    return person.call("POST", "/v1/me:erase", {"confirm": "ERASE"})["receipt"]


def _living(person: Person) -> list[str]:
    """Someone with a profile and with sessions in which something was said; gives these."""
    person.call("PATCH", "/v1/me", {"name": "Someone"})
    spoken = [person.new_session(f"talk {n}") for n in range(3)]
    for session in spoken:
        for n in range(2):
            person.say(session, f"message {n}")
    person.call("PUT", "/v1/me/currentSession", {"sessionId": spoken[0]})
    return [*spoken, person.new_session("silent")]


def _key_ids(stack: Stack, name: str) -> set[str]:
    owner = user_id_of(DEVELOPMENT_ISSUER, name)
    return {
        str(key)
        for service in SERVICES
        for (key,) in rows(
            stack,
            f"SELECT key_id FROM {service}.data_keys WHERE user_id = %s",  # noqa: S608
            owner,
        )
    }


def test_every_row_and_key_of_an_erased_person_goes_from_every_service(
    stack: Stack, person: MakePerson
) -> None:
    name = f"erased-{uuid4()}"
    someone, other = person(name), person(f"other-{uuid4()}")
    _living(someone)
    others = other.new_session("stays")
    other.say(others, "stays")
    keys = _key_ids(stack, name)
    _erase(someone)
    owner = user_id_of(DEVELOPMENT_ISSUER, name)
    eventually(lambda: tables_with(stack, "user_id", owner) == MEMORY)
    receipt = _erase(someone)
    assert receipt["complete"]
    assert receipt["userId"] == str(owner)
    assert (receipt["sessions"], receipt["messages"]) == ("4", "6")
    assert set(receipt["keyIds"]) == keys
    assert len(receipt["keyIds"]) == len(keys) == 5
    assert _erase(someone) == receipt
    assert len(other.call("GET", f"/v1/sessions/{others}/messages")["messages"]) == 1


def test_a_token_that_is_still_good_makes_nothing_again(stack: Stack, person: MakePerson) -> None:
    name = f"erased-{uuid4()}"
    someone = person(name)
    session, *_ = _living(someone)
    _erase(someone)
    owner = user_id_of(DEVELOPMENT_ISSUER, name)
    eventually(lambda: tables_with(stack, "user_id", owner) == MEMORY)
    gone = Refused("NOT_FOUND", "SESSION_NOT_FOUND")
    path = f"/v1/sessions/{session}"
    assert someone.refused("GET", "/v1/me") == ERASED
    assert someone.refused("PATCH", "/v1/me", {"name": "again"}) == ERASED
    assert someone.refused("POST", "/v1/sessions", {"title": "again"}) == ERASED
    assert someone.refused("POST", "/v1/sessions", {"sessionId": session}) == ERASED
    assert someone.refused("POST", f"{path}/messages", {"content": "again"}) == gone
    assert someone.refused("PUT", "/v1/me/currentSession", {"sessionId": session}) == gone
    assert someone.refused("GET", path) == gone
    assert someone.refused("GET", "/v1/me:export") == ERASED
    assert someone.call("GET", "/v1/sessions")["sessions"] == []
    assert tables_with(stack, "user_id", owner) == MEMORY


def test_what_races_an_erasure_leaves_nothing(stack: Stack, person: MakePerson) -> None:
    name = f"erased-{uuid4()}"
    owner = user_id_of(DEVELOPMENT_ISSUER, name)
    someone = person(name)
    spoken, silent, *_ = _living(someone)
    writes: list[Callable[[], httpx.Response]] = [
        lambda: someone.http.post("/v1/sessions", json={"title": "again"}),
        lambda: someone.http.post(f"/v1/sessions/{spoken}/messages", json={"content": "again"}),
        lambda: someone.http.post(f"/v1/sessions/{silent}/messages", json={"content": "again"}),
        lambda: someone.http.get("/v1/me"),
    ]
    with ThreadPoolExecutor(9) as callers:
        racing = [callers.submit(write) for _ in range(10) for write in writes]
        erasing = callers.submit(_erase, someone)
        erasing.result()
        assert {answer.result().status_code for answer in racing} <= {200, 403, 404}
    eventually(lambda: tables_with(stack, "user_id", owner) == MEMORY)


def test_an_erasure_while_a_deleted_session_is_purged_leaves_nothing(
    stack: Stack, person: MakePerson
) -> None:
    name = f"erased-{uuid4()}"
    owner = user_id_of(DEVELOPMENT_ISSUER, name)
    someone = person(name)
    session = someone.new_session()
    someone.say(session, "hello")
    someone.call("DELETE", f"/v1/sessions/{session}")
    eventually(lambda: owed(stack) == 0)
    event = "FROM messages.outbox WHERE session_id = %s"
    waiting = (
        "SELECT 1 FROM pg_stat_activity"
        " WHERE application_name = 'messages' AND wait_event_type = 'Lock'"
    )
    with psycopg.connect(stack.admin_url) as settling, ThreadPoolExecutor() as callers:
        # The purge is done, and just about to be settled; unless it was settled before this.
        while not settling.execute(f"SELECT 1 {event} FOR UPDATE".encode(), (session,)).fetchall():
            settling.execute(
                "INSERT INTO messages.outbox"
                " (session_id, user_id, kind, create_time, due_time, tries)"
                " VALUES (%s, %s, 'purge', now(), now() + interval '1 second', 0)",
                (session, owner),
            )
            settling.commit()
        eventually(lambda: len(rows(stack, waiting)) == 1)
        erasing = callers.submit(_erase, someone)
        erased = "SELECT 1 FROM messages.erased_people WHERE user_id = %s"
        eventually(lambda: len(rows(stack, waiting)) == 2 or len(rows(stack, erased, owner)) == 1)
        settling.rollback()
        erasing.result()
    eventually(lambda: tables_with(stack, "user_id", owner) == MEMORY)


def test_what_was_said_is_not_seen_as_nothing_said_while_sessions_know_no_better(
    stack: Stack, person: MakePerson
) -> None:
    # The erasure reaches the services one by one: this is what there is in between.
    name = f"erased-{uuid4()}"
    owner = user_id_of(DEVELOPMENT_ISSUER, name)
    someone = person(name)
    session, *_ = _living(someone)
    as_users = (("authorization", f"Bearer {stack.home.service_tokens('users').token()}"),)
    mine = (("authorization", f"Bearer {stack.token(name)}"),)
    gone = Refused("NOT_FOUND", "SESSION_NOT_FOUND")
    with grpc.insecure_channel(stack.ports.address("messages")) as channel:
        messages = MessagesServiceStub(channel)
        frames = messages.WatchMessages(
            WatchMessagesRequest(session_id=session), metadata=mine, timeout=60
        )
        resume_token = next(frames).resume_token
        messages.EraseUser(EraseUserRequest(user_id=str(owner)), metadata=as_users)
        memory = {"messages.erased_people": 1}
        eventually(
            lambda: (
                {
                    table: count
                    for table, count in tables_with(stack, "user_id", owner).items()
                    if table.startswith("messages.")
                }
                == memory
            )
        )
        again = WatchMessagesRequest(session_id=session, resume_token=resume_token)
        with pytest.raises(grpc.RpcError) as ended:
            next(messages.WatchMessages(again, metadata=mine, timeout=60))
        assert refusal_over_grpc(ended.value) == gone
    assert someone.refused("GET", f"/v1/sessions/{session}/messages") == gone


def test_a_change_that_an_erasure_overtakes_is_told_so(stack: Stack, person: MakePerson) -> None:
    name = f"erased-{uuid4()}"
    owner = user_id_of(DEVELOPMENT_ISSUER, name)
    someone = person(name)
    someone.call("GET", "/v1/me")
    waiting = (
        "SELECT 1 FROM pg_stat_activity WHERE application_name = 'users'"
        " AND wait_event_type = 'Lock'"
    )
    with psycopg.connect(stack.admin_url) as database, ThreadPoolExecutor(1) as callers:
        # As the erasure does, which is between the change's reading and its writing.
        database.execute("DELETE FROM users.users WHERE user_id = %s", (owner,))
        database.execute(
            "INSERT INTO users.erased_people VALUES (%s, now(), 0, 0, ARRAY[]::uuid[])", (owner,)
        )
        change = callers.submit(someone.refused, "PATCH", "/v1/me", {"name": "too late"})
        eventually(lambda: rows(stack, waiting) != [])
        database.commit()
        assert change.result() == ERASED
    with psycopg.connect(stack.admin_url, autocommit=True) as database:
        database.execute("DELETE FROM users.erased_people WHERE user_id = %s", (owner,))
        database.execute("DELETE FROM users.data_keys WHERE user_id = %s", (owner,))


def test_a_person_who_was_never_here_can_be_erased(stack: Stack, person: MakePerson) -> None:
    name = f"never-{uuid4()}"
    someone = person(name)
    _erase(someone)
    owner = user_id_of(DEVELOPMENT_ISSUER, name)
    eventually(lambda: tables_with(stack, "user_id", owner) == MEMORY)
    assert someone.refused("POST", "/v1/sessions", {"title": "first"}) == ERASED


def test_an_erasure_ends_in_every_service_whichever_was_down(
    stack: Stack, person: MakePerson
) -> None:
    name = f"erased-{uuid4()}"
    owner = user_id_of(DEVELOPMENT_ISSUER, name)
    someone = person(name)
    _living(someone)
    stack.kill("messages")
    stack.kill("sessions")
    assert not _erase(someone)["complete"]
    stack.kill("users")
    stack.start_again(*SERVICES)
    eventually(lambda: tables_with(stack, "user_id", owner) == MEMORY)
    receipt = _erase(someone)
    assert (receipt["complete"], receipt["sessions"], receipt["messages"]) == (True, "4", "6")
    eventually(lambda: owed(stack) == 0)


@pytest.mark.parametrize("issued", [-601, None], ids=["too old", "says not when"])
def test_only_a_token_of_the_last_ten_minutes_erases(stack: Stack, issued: int | None) -> None:
    name, now = f"cautious-{uuid4()}", int(time.time())
    claims = {"iss": DEVELOPMENT_ISSUER, "sub": name, "aud": "inglenook", "exp": now + 600}
    if issued is not None:
        claims["iat"] = now + issued
    key_id, key = read_signing_key(stack.home.development_issuer)
    token = jwt.encode(claims, key, algorithm="ES256", headers={"kid": key_id})
    headers = {"authorization": f"Bearer {token}"}
    url = f"{stack.url}/v1/me:erase"
    answer = httpx.post(url, headers=headers, json={"confirm": "ERASE"})
    assert refusal_in(answer) == Refused("UNAUTHENTICATED", "TOKEN_NOT_FRESH")
    assert httpx.get(f"{stack.url}/v1/me", headers=headers).status_code == 200


def test_an_erasure_must_be_meant(person: MakePerson) -> None:
    alice = person("alice")
    invalid = Refused("INVALID_ARGUMENT", "REQUEST_INVALID")
    for body in ({}, {"confirm": "yes"}):
        assert alice.refused("POST", "/v1/me:erase", body) == invalid
    alice.call("GET", "/v1/me")


@pytest.mark.parametrize("said", [["hello"], []], ids=["spoken", "silent"])
@pytest.mark.parametrize("method", ["WatchMe", "WatchSessions", "WatchMessages"])
def test_who_watches_is_told_that_they_are_erased(
    stack: Stack, person: MakePerson, method: str, said: list[str]
) -> None:
    name = f"erased-{uuid4()}"
    someone = person(name)
    session = someone.new_session()
    for content in said:
        someone.say(session, content)
    watch = next(one for one in load_methods(DESCRIPTORS) if one.name == method)
    request = WatchMessagesRequest(session_id=session) if method == "WatchMessages" else Empty()
    metadata = (("authorization", f"Bearer {stack.token(name)}"),)
    with grpc.insecure_channel(stack.ports.address(watch.service.split(".")[1])) as channel:
        stream: Any = channel.unary_stream(watch.path)
        frames = stream(request.SerializeToString(), metadata=metadata, timeout=60)
        next(frames)
        _erase(someone)
        with pytest.raises(grpc.RpcError) as ended:
            list(frames)
    assert refusal_over_grpc(ended.value).reason in {"PERSON_ERASED", "SESSION_NOT_FOUND"}


def test_an_export_has_everything_and_another_person_can_import_it(
    person: MakePerson,
) -> None:
    alice, heir = person(f"alice-{uuid4()}"), person(f"heir-{uuid4()}")
    _living(alice)
    answer = alice.http.get("/v1/me:export")
    assert answer.status_code == 200
    frames = [json.loads(line) for line in answer.text.splitlines() if line]
    assert frames[0]["user"]["name"] == "Someone"
    held = [session for frame in frames for session in frame["sessions"]]
    said = [message for frame in frames for message in frame["messages"]]
    assert sorted(session["title"] for session in held) == ["silent", "talk 0", "talk 1", "talk 2"]
    assert len(said) == 6
    for session in held:
        opened = {"sessionId": session["sessionId"], "title": session["title"]}
        heir.call("POST", "/v1/sessions", opened)
    assert heir.call("POST", "/v1/messages:import", [{"messages": said}])["imported"] == "6"
    for session in held:
        path = f"/v1/sessions/{session['sessionId']}/messages"
        theirs = [one["content"] for one in heir.call("GET", path)["messages"]]
        assert theirs == [one["content"] for one in alice.call("GET", path)["messages"]]


async def test_an_erasure_and_a_rotation_do_not_wait_for_each_other_in_a_circle(
    stack: Stack, tmp_path: Path
) -> None:
    owner, sessions = uuid4(), sorted([uuid4(), uuid4()])
    url = stack.service("messages").environment["INGLENOOK_DATABASE_URL"]
    make_key_file(tmp_path / "keys.json")
    key = "SELECT 1 FROM messages.data_keys WHERE session_id = %s FOR UPDATE"
    with psycopg.connect(stack.admin_url) as rotating:
        # Stored in another order than that in which a rotation takes them.
        for session in reversed(sessions):
            rotating.execute(
                "INSERT INTO messages.conversations (session_id, user_id, last_sequence,"
                " message_count, revision, create_time) VALUES (%s, %s, 0, 0, 0, now())",
                (session, owner),
            )
            rotating.execute(
                "INSERT INTO messages.data_keys (session_id, user_id, key_id, kek_id, wrapped,"
                " create_time) VALUES (%s, %s, %s, 'kek', '', now())",
                (session, owner, uuid4()),
            )
        rotating.commit()
        rotating.execute(key.encode(), (sessions[0],))
        async with Database(url, pool_size=1, name="an erasure") as database:
            keys = DataKeys(database, DATA_KEYS, KeyFile(tmp_path / "keys.json"))
            erasing = asyncio.create_task(
                Erasing(database, keys, lambda *_: None).erase_person(owner)
            )
            await asyncio.to_thread(eventually, lambda: waits_for_a_lock(stack, "an erasure"))
            rotating.execute(f"{key} NOWAIT".encode(), (sessions[1],))
            rotating.commit()
            erased = await erasing
    assert len(erased.key_ids) == len(sessions)
    eventually(lambda: tables_with(stack, "user_id", owner) == {"messages.erased_people": 1})


async def test_nothing_is_made_for_who_was_just_erased_whatever_the_servers_default_isolation(
    stack: Stack,
) -> None:
    owner = uuid4()
    url = stack.service("sessions").environment["INGLENOOK_DATABASE_URL"]
    default = "ALTER ROLE inglenook_sessions SET default_transaction_isolation = 'repeatable read'"
    with psycopg.connect(stack.admin_url, autocommit=True) as admin:
        admin.execute(default.encode())
        try:
            async with Database(url, pool_size=2, name="isolated") as database:
                async with database.transaction() as erasing:
                    await fetch_all(erasing, SESSIONS_ERASED.take, {"person": owner})
                    await fetch_all(erasing, SESSIONS_ERASED.remember, {"person": owner})
                    adding = asyncio.create_task(_add_session(database, owner))
                    await asyncio.to_thread(eventually, lambda: waits_for_a_lock(stack, "isolated"))
                assert await adding is None
        finally:
            admin.execute(b"ALTER ROLE inglenook_sessions RESET default_transaction_isolation")


async def _add_session(database: Database, owner: UUID) -> SessionRow | None:
    return await SessionStore(database).add(
        owner, uuid4(), title=b"", state=1, retention_days=None, most=0
    )
