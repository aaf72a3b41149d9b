"""What the identity provider tells of people is taken once, in any order, and from nobody else."""

import asyncio
import base64
import json
import time
from datetime import UTC, datetime
from itertools import permutations
from pathlib import Path
from typing import Any, cast
from uuid import UUID, uuid4

import grpc
import httpx
import pytest
from google.api.httpbody_pb2 import HttpBody
from inglenook.messages.v1.messages_pb2 import WatchMessagesRequest
from inglenook.messages.v1.messages_pb2_grpc import MessagesServiceStub
from inglenook.users.v1.users_pb2 import ReceiveIdentityWebhookRequest, WatchMeRequest
from inglenook.users.v1.users_pb2_grpc import UsersServiceStub

from local.stack import Stack, free_ports
from services.runtime.encryption.data_keys import DataKeys
from services.runtime.encryption.key_file import KeyFile
from services.runtime.identity import user_id_of
from services.runtime.settings import DEVELOPMENT_ISSUER
from services.users.identity_events import PersonStated
from services.users.profiles import Profiles
from services.users.provisioning import OnDeletion, Provisioning
from services.users.store import DATA_KEYS
from tests.integration.calls import (
    MakePerson,
    Person,
    Refused,
    refusal_in,
    refusal_over_grpc,
    wait_for_log,
)
from tests.integration.commands import Done, run_command
from tests.integration.eventually import eventually, everything_written, owed, rows, tables_with
from tests.integration.identity_provider import ROUTE, Provider, deleted, stated
from tests.integration.interrupted import Interrupted
from tests.integration.replicas import start_replica

INVALID = Refused("UNAUTHENTICATED", "WEBHOOK_INVALID")
MALFORMED = Refused("INVALID_ARGUMENT", "REQUEST_MALFORMED")
LOCKED = Refused("PERMISSION_DENIED", "PERSON_LOCKED")
ERASED = Refused("PERMISSION_DENIED", "PERSON_ERASED")
MEMORY = {"users.erased_people": 1, "users.receipts": 1}
MEMORY |= {"sessions.erased_people": 1, "messages.erased_people": 1}
PROVIDER = ("ACTOR_KIND_IDENTITY_PROVIDER", DEVELOPMENT_ISSUER)
FIRST, SECOND, THIRD = 1_700_000_001.25, 1_700_000_002.5, 1_700_000_003.75


@pytest.fixture
def provider(stack: Stack, webhook_secrets: Path) -> Provider:
    return Provider(stack.url, webhook_secrets)


@pytest.fixture
def subject() -> str:
    return f"user_{uuid4().hex}"


@pytest.fixture
def someone(person: MakePerson, subject: str) -> Person:
    return person(subject)


def _id(subject: str) -> UUID:
    return user_id_of(DEVELOPMENT_ISSUER, subject)


def _me(someone: Person) -> tuple[str, str]:
    me = someone.call("GET", "/v1/me")["user"]
    return me["name"], me["email"]


def _logged(someone: Person) -> list[tuple[str, str, str]]:
    """What somebody's access log has, newest first: kinds and names of actors, and actions."""
    entries = someone.call("GET", "/v1/me/accessLog")["entries"]
    return [(one["actor"]["kind"], one["actor"]["name"], one["action"]) for one in entries]


def _has_profile(stack: Stack, subject: str) -> bool:
    return bool(rows(stack, "SELECT 1 FROM users.users WHERE user_id = %s", _id(subject)))


def _persons(stack: Stack, *arguments: str) -> Done:
    return run_command(stack, "users", "persons", *arguments)


def test_a_person_who_signed_up_has_a_profile_before_their_first_call(
    stack: Stack, provider: Provider, subject: str, someone: Person
) -> None:
    provider.tell(stated("created", subject, at=FIRST, first="Zoë", last="O'Neil"))
    assert _has_profile(stack, subject)
    assert _me(someone) == ("Zoë O'Neil", "jane@example.com")


def test_an_update_changes_the_email_and_the_name_and_who_watches_sees_it(
    stack: Stack, provider: Provider, subject: str, someone: Person
) -> None:
    seen = someone.call("GET", "/v1/me")["user"]
    metadata = (("authorization", f"Bearer {stack.token(subject)}"),)
    with grpc.insecure_channel(stack.ports.address("users")) as channel:
        frames = UsersServiceStub(channel).WatchMe(WatchMeRequest(), metadata=metadata, timeout=60)
        while not next(frames).HasField("current"):
            pass
        provider.tell(stated("updated", subject, at=FIRST, last=None, email="new@example.com"))
        told = next(frames).changes[0].user
        frames.cancel()
    assert (told.name, told.email) == _me(someone) == ("Jane", "new@example.com")
    # The etag that was seen before is stale.
    stale = {"name": "Mine", "etag": seen["etag"]}
    assert someone.refused("PATCH", "/v1/me", stale) == Refused("ABORTED", "ETAG_STALE")


def test_a_name_that_the_person_chose_stays(
    provider: Provider, subject: str, someone: Person
) -> None:
    provider.tell(stated("created", subject, at=FIRST))
    provider.tell(stated("updated", subject, at=SECOND, first="Janet"))
    assert _me(someone)[0] == "Janet Doe"
    someone.call("PATCH", "/v1/me", {"name": "Chosen"})
    provider.tell(stated("updated", subject, at=THIRD, first="Jo", email="jo@example.com"))
    assert _me(someone) == ("Chosen", "jo@example.com")


def test_what_is_known_already_makes_no_new_version(
    provider: Provider, subject: str, someone: Person
) -> None:
    provider.tell(stated("created", subject, at=FIRST))
    before = someone.call("GET", "/v1/me")
    provider.tell(stated("updated", subject, at=SECOND))
    assert someone.call("GET", "/v1/me") == before
    # The profile was opened to compare it, and it is as of later: their log tells.
    assert len(_logged(someone)) == 2


def test_what_does_not_fit_a_profile_is_left_out(
    provider: Provider, subject: str, someone: Person
) -> None:
    provider.tell(stated("created", subject, at=FIRST, first="x" * 201, last=None, email=None))
    assert _me(someone) == ("", "")
    halved = stated("updated", subject, at=SECOND).replace(b"Jane", rb"\ud800")
    provider.tell(halved)
    assert _me(someone) == ("", "jane@example.com")


@pytest.mark.parametrize(
    "change",
    [
        *({"svix-id": None}, {"svix-timestamp": None}, {"svix-signature": None}),
        *({"svix-signature": "v1"}, {"svix-signature": "v1,AAAA"}, {"svix-signature": "v1,%"}),
        *({"svix-id": "msg_other"}, {"svix-timestamp": "soon"}, {"svix-signature": "v1,a,b"}),
    ],
    ids=str,
)
def test_a_delivery_that_is_not_signed_as_it_is_is_refused(
    stack: Stack, provider: Provider, subject: str, change: dict[str, str | None]
) -> None:
    body = stated("created", subject, at=FIRST)
    changed = {**provider.headers(body), **change}
    headers = {name: value for name, value in changed.items() if value is not None}
    answer = httpx.post(stack.url + ROUTE, content=body, headers=headers)
    assert refusal_in(answer) == INVALID
    assert not _has_profile(stack, subject)


def test_a_body_that_was_altered_or_signed_by_a_stranger_is_refused(
    stack: Stack, provider: Provider, subject: str, tmp_path: Path
) -> None:
    body = stated("created", subject, at=FIRST)
    for altered in (body + b" ", body.replace(b"Jane", b"Jana"), b"\xff", b""):
        headers = provider.headers(body)
        answer = httpx.post(stack.url + ROUTE, content=altered, headers=headers)
        assert refusal_in(answer).code in {"UNAUTHENTICATED", "INVALID_ARGUMENT"}
    (tmp_path / "secrets").write_text("whsec_" + base64.b64encode(b"a stranger's secret").decode())
    stranger = Provider(stack.url, tmp_path / "secrets")
    assert refusal_in(stranger.deliver(body)) == INVALID
    assert not _has_profile(stack, subject)


@pytest.mark.parametrize("seconds", [-400, 400], ids=["old", "of the future"])
def test_a_delivery_that_was_not_signed_just_now_is_refused(
    stack: Stack, provider: Provider, subject: str, seconds: int
) -> None:
    body = stated("created", subject, at=FIRST)
    assert refusal_in(provider.deliver(body, sent=time.time() + seconds)) == INVALID
    assert not _has_profile(stack, subject)


def test_an_event_that_is_delivered_again_succeeds_and_has_no_second_effect(
    provider: Provider, subject: str, someone: Person
) -> None:
    event = "msg_" + uuid4().hex
    body = stated("created", subject, at=FIRST)
    headers = provider.headers(body, event_id=event)
    for _ in range(3):  # To the byte: a replay, or a provider whose answer was lost.
        assert httpx.post(provider.url + ROUTE, content=body, headers=headers).status_code == 200
    # Under the same id nothing has an effect any more, were it ever so new.
    provider.tell(stated("updated", subject, at=SECOND, first="Other"), event_id=event)
    assert _me(someone)[0] == "Jane Doe"
    # Days after, when the id is forgotten, it is the time in it that tells that it is known.
    provider.tell(stated("updated", subject, at=SECOND, first="Janet"))
    provider.tell(body, event_id=f"{event}_again")
    assert _me(someone)[0] == "Janet Doe"


def test_what_an_event_did_is_in_the_persons_log_under_the_issuers_name(
    stack: Stack, provider: Provider, subject: str, someone: Person
) -> None:
    answer = provider.deliver(stated("created", subject, at=FIRST))
    provider.tell(stated("updated", subject, at=SECOND, first="Janet"))
    assert _logged(someone) == [
        (*PROVIDER, "webhook user.updated"),
        (*PROVIDER, "webhook user.created"),
    ]
    first = someone.call("GET", "/v1/me/accessLog")["entries"][-1]
    assert first["requestId"] == answer.headers["x-request-id"]
    assert (first["service"], first["sessionId"]) == ("users", "")
    assert run_command(stack, "users", "audit", "verify").code == 0


def test_an_event_that_does_nothing_leaves_nothing_in_the_log(
    provider: Provider, subject: str, someone: Person
) -> None:
    event = f"msg_{uuid4().hex}"
    newest = stated("updated", subject, at=THIRD)
    provider.tell(newest, event_id=event)
    provider.tell(newest, event_id=event)
    provider.tell(newest)
    provider.tell(stated("created", subject, at=FIRST))
    assert _logged(someone) == [(*PROVIDER, "webhook user.updated")]


def test_ids_are_forgotten_after_days(stack: Stack, provider: Provider, subject: str) -> None:
    old = f"msg_{uuid4().hex}"
    provider.tell(stated("created", subject, at=FIRST), event_id=old)
    rows(
        stack,
        "UPDATE users.identity_events SET receive_time = now() - interval '73 hours'"
        " WHERE event_id = %s RETURNING 1",
        old,
    )
    provider.tell(stated("updated", subject, at=SECOND))
    assert not rows(stack, "SELECT 1 FROM users.identity_events WHERE event_id = %s", old)
    assert rows(stack, "SELECT 1 FROM users.identity_events")


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_events_in_any_order_come_to_the_same(
    provider: Provider, subject: str, someone: Person, order: tuple[int, ...]
) -> None:
    events = [
        stated("created", subject, at=FIRST, first="First", email="first@example.com"),
        stated("updated", subject, at=SECOND, first="Second", email="second@example.com"),
        stated("updated", subject, at=THIRD, first="Third", email="third@example.com"),
    ]
    for nth in order:
        provider.tell(events[nth])
    assert _me(someone) == ("Third Doe", "third@example.com")


def test_what_was_told_before_a_deletion_makes_nothing_after_it(
    stack: Stack, provider: Provider, subject: str, someone: Person
) -> None:
    provider.tell(deleted(subject))
    provider.tell(stated("created", subject, at=FIRST))
    provider.tell(stated("updated", subject, at=time.time() + 60))
    assert not _has_profile(stack, subject)
    assert not rows(stack, "SELECT 1 FROM users.data_keys WHERE user_id = %s", _id(subject))
    assert someone.refused("GET", "/v1/me") == LOCKED
    assert f"{_id(subject)}  since" in _persons(stack, "locked").told
    assert _persons(stack, "unlock", str(_id(subject))).code == 0
    provider.tell(stated("updated", subject, at=time.time() + 60))
    assert not _has_profile(stack, subject)


async def test_what_is_told_of_a_person_who_is_erased_meanwhile_is_taken_and_makes_nothing(
    stack: Stack, someone: Person, subject: str
) -> None:
    someone.call("GET", "/v1/me")
    settings, nobody = stack.service("users").environment, cast("Any", None)
    url = settings["INGLENOOK_DATABASE_URL"]
    database = Interrupted(url, pool_size=1, name="interrupted")
    async with database:
        keys = DataKeys(database, DATA_KEYS, KeyFile(Path(settings["INGLENOOK_KEY_FILE"])))
        provisioning = Provisioning(
            database,
            Profiles(keys),
            nobody,
            nobody,
            OnDeletion.LOCK,
            issuer=DEVELOPMENT_ISSUER,
            log_key=b"",
        )
        statements = 0

        async def erase() -> None:
            nonlocal statements
            statements += 1
            if statements == 3:  # The profile was read, and its data key is not.
                body = {"confirm": "ERASE"}
                await asyncio.to_thread(someone.call, "POST", "/v1/me:erase", body)

        database.between = erase
        told = PersonStated(_id(subject), datetime.now(UTC), "user.updated", "Jane Doe", "")
        assert await provisioning.state(f"msg_{uuid4().hex}", told) is None
    eventually(lambda: tables_with(stack, "user_id", _id(subject)) == MEMORY)


def test_a_locked_person_is_refused_by_every_service_until_an_operator_unlocks_them(
    stack: Stack, provider: Provider, subject: str, someone: Person
) -> None:
    session = someone.new_session("kept")
    someone.say(session, "kept")
    someone.call("PATCH", "/v1/me", {"name": "Kept"})
    calls = [
        ("GET", "/v1/me"),
        ("GET", "/v1/sessions"),
        ("GET", f"/v1/sessions/{session}/messages"),
    ]
    calls += [("GET", "/v1/me:export"), ("POST", "/v1/me:erase")]
    event, body = f"msg_{uuid4().hex}", deleted(subject)
    metadata = (("authorization", f"Bearer {stack.token(subject)}"),)
    with grpc.insecure_channel(stack.ports.address("messages")) as channel:
        watch = WatchMessagesRequest(session_id=session, heartbeat_seconds=5)
        frames = MessagesServiceStub(channel).WatchMessages(watch, metadata=metadata, timeout=60)
        next(frames)
        provider.tell(body, event_id=event)
        assert someone.refused("GET", "/v1/me") == LOCKED  # At once where it was told.
        eventually(lambda: owed(stack) == 0)
        for verb, path in calls:
            given = {"confirm": "ERASE"} if verb == "POST" else None
            assert someone.refused(verb, path, given) == LOCKED
        with pytest.raises(grpc.RpcError) as ended:
            list(frames)
    assert refusal_over_grpc(ended.value) == LOCKED
    acting = stack.home.service_tokens("users").token(acting_for=_id(subject))
    with grpc.insecure_channel(stack.ports.address("messages")) as channel:
        reader = MessagesServiceStub(channel).WatchMessages(
            watch, metadata=(("authorization", f"Bearer {acting}"),), timeout=60
        )
        with pytest.raises(grpc.RpcError) as refused:
            next(reader)
    assert refusal_over_grpc(refused.value) == LOCKED

    assert f"{_id(subject)}  since" in _persons(stack, "locked", "--operator", "otto").told
    unlocked = _persons(stack, "unlock", str(_id(subject)), "--operator", "olga")
    assert unlocked == Done(0, f"Unlocked {_id(subject)}: within seconds, everywhere.\n")
    for _, path in calls[:3]:
        eventually(lambda path=path: someone.http.get(path).status_code == 200)  # type: ignore[misc]
    assert _logged(someone) == [
        ("ACTOR_KIND_OPERATOR", "olga", "persons unlock"),
        ("ACTOR_KIND_OPERATOR", "otto", "persons locked"),
        (*PROVIDER, "webhook user.deleted"),
    ]
    assert _me(someone)[0] == "Kept"
    assert (
        someone.call("GET", f"/v1/sessions/{session}/messages")["messages"][0]["content"] == "kept"
    )
    # What the operator decided about is not asked again, whenever and as what it is delivered.
    provider.tell(body, event_id=event)
    provider.tell(body)
    assert str(_id(subject)) not in _persons(stack, "locked").told
    assert len(_logged(someone)) == 3
    # Another deletion is another matter.
    provider.tell(deleted(subject, at=time.time() + 1))
    assert someone.refused("GET", "/v1/me") == LOCKED


def test_an_operator_erases_a_locked_person_and_nobody_else(
    stack: Stack, provider: Provider, subject: str, someone: Person
) -> None:
    someone.say(someone.new_session(), "gone")
    someone.call("GET", "/v1/me")
    for command in ("erase", "unlock"):
        refused = _persons(stack, command, str(_id(subject)))
        assert refused == Done(1, f"users: {_id(subject)} is not locked\n")
    provider.tell(deleted(subject))
    assert _persons(stack, "erase", str(_id(subject)), "--operator", "olga").code == 0
    eventually(lambda: tables_with(stack, "user_id", _id(subject)) == MEMORY)
    eventually(lambda: someone.refused("GET", "/v1/me") == ERASED)
    receipt = someone.call("POST", "/v1/me:erase", {"confirm": "ERASE"})["receipt"]
    assert (receipt["operator"], receipt["identityProvider"]) == ("olga", "")


def test_whoever_has_a_session_under_a_legal_hold_is_locked_and_not_erased(
    stack: Stack, webhook_secrets: Path, subject: str, someone: Person
) -> None:
    session = someone.new_session()
    someone.say(session, "kept")
    someone.call("GET", "/v1/me")
    named = (str(_id(subject)), session)
    assert run_command(stack, "sessions", "hold", *named).code == 0
    port = free_ports().gateway
    process = start_replica(stack, port, service="users", on_identity_deletion="erase")
    try:
        body = deleted(subject)
        provider = Provider(stack.url, webhook_secrets)
        _deliver_over_grpc(port, provider.headers(body), body)
    finally:
        process.terminate()
        process.wait(30)
    eventually(lambda: someone.http.get("/v1/me").status_code == 403)
    assert someone.refused("GET", "/v1/me") == LOCKED
    assert str(_id(subject)) in (stack.home.logs / "users.log").read_text()
    # Nor does an operator erase them, until it is lifted.
    refused = _persons(stack, "erase", str(_id(subject)))
    assert refused.code == 1
    assert "a session of theirs is under a legal hold" in refused.told
    text = "SELECT count(*) FROM messages.messages WHERE user_id = %s AND body IS NOT NULL"
    assert rows(stack, text, _id(subject)) == [(1,)]
    assert run_command(stack, "sessions", "release", *named).code == 0
    assert _persons(stack, "erase", str(_id(subject))).code == 0
    eventually(lambda: tables_with(stack, "user_id", _id(subject)) == MEMORY)


def test_a_deletion_erases_where_it_is_set_so_with_a_receipt(
    stack: Stack, webhook_secrets: Path, subject: str, someone: Person
) -> None:
    session = someone.new_session()
    someone.say(session, "one")
    someone.say(session, "two")
    someone.call("GET", "/v1/me")
    port = free_ports().gateway
    process = start_replica(stack, port, service="users", on_identity_deletion="erase")
    try:
        body = deleted(subject)
        provider, event = Provider(stack.url, webhook_secrets, nth=1), f"msg_{uuid4().hex}"
        for _ in range(2):
            _deliver_over_grpc(port, provider.headers(body, event_id=event), body)
        eventually(lambda: tables_with(stack, "user_id", _id(subject)) == MEMORY)
        for late in (stated("updated", subject, at=time.time() + 60), body):
            _deliver_over_grpc(port, provider.headers(late), late)
        assert tables_with(stack, "user_id", _id(subject)) == MEMORY
    finally:
        process.terminate()
        process.wait(30)
    assert someone.refused("GET", "/v1/me") == ERASED
    receipt = someone.call("POST", "/v1/me:erase", {"confirm": "ERASE"})["receipt"]
    assert receipt["complete"]
    assert (receipt["sessions"], receipt["messages"]) == ("1", "2")
    assert len(receipt["keyIds"]) == 3
    assert (receipt["identityProvider"], receipt["operator"]) == (DEVELOPMENT_ISSUER, "")


def test_without_secrets_nothing_is_taken(
    stack: Stack, provider: Provider, subject: str, webhook_secrets: Path
) -> None:
    port = free_ports().gateway
    process = start_replica(stack, port, service="users", webhook_secrets_file=None)
    try:
        body = stated("created", subject, at=FIRST)
        with pytest.raises(grpc.RpcError) as refused:
            _deliver_over_grpc(port, provider.headers(body), body)
    finally:
        process.terminate()
        process.wait(30)
    assert refusal_over_grpc(refused.value) == Refused("FAILED_PRECONDITION", "WEBHOOKS_OFF")
    assert not _has_profile(stack, subject)


def test_secrets_are_changed_while_everything_runs(
    stack: Stack, webhook_secrets: Path, subject: str
) -> None:
    before = webhook_secrets.read_text()
    old, new = Provider(stack.url, webhook_secrets), Provider(stack.url, webhook_secrets, nth=1)
    body = stated("created", subject, at=FIRST)
    old_headers, new_headers = old.headers(body), new.headers(body)
    try:
        for headers in (old_headers, new_headers):
            assert httpx.post(stack.url + ROUTE, content=body, headers=headers).status_code == 200
        webhook_secrets.write_text(before.split()[1] + "\n")
        answer = httpx.post(stack.url + ROUTE, content=body, headers=old_headers)
        assert refusal_in(answer) == INVALID
        answer = httpx.post(stack.url + ROUTE, content=body, headers=new_headers)
        assert answer.status_code == 200
    finally:
        webhook_secrets.write_text(before)


@pytest.mark.parametrize(
    "body",
    [
        *(b"nothing", b"[]", b"{}", b'{"type": "user.created"}', b'{"type": "user.deleted"}'),
        b'{"type": "user.updated", "data": {"id": "user_x"}}',
        b'{"type": "user.deleted", "data": {"id": ""}}',
        b'{"type": "user.created", "data": {"id": "user_x", "updated_at": 1e300}}',
        b"[" * 100_000,
    ],
    ids=lambda body: body[:60].decode(),
)
def test_what_is_signed_and_no_event_is_malformed(provider: Provider, body: bytes) -> None:
    assert refusal_in(provider.deliver(body)) == MALFORMED


def test_events_about_other_things_are_taken_and_do_nothing(provider: Provider) -> None:
    provider.tell(b'{"type": "session.created", "data": {"id": "sess_1", "user_id": "user_x"}}')


def test_a_large_body_comes_through_as_it_is(provider: Provider, subject: str) -> None:
    event = json.loads(stated("created", subject, at=FIRST))
    event["data"]["public_metadata"] = {"notes": ["ä\u2028\t"] * 50_000}
    provider.tell(json.dumps(event, ensure_ascii=False).encode())


def test_no_name_or_address_of_an_event_is_on_disk_or_in_an_error(
    stack: Stack, provider: Provider, subject: str, someone: Person
) -> None:
    planted = [f"canary-{uuid4().hex}" for _ in range(3)]
    first, last, email = planted
    known = stated("created", subject, at=FIRST, first=first, last=last, email=email)
    provider.tell(known)
    assert _me(someone) == (f"{first} {last}", email)
    complaints = ""
    for body in (
        known.replace(b'"updated_at"', b'"changed_at"'),
        known.replace(b'"first_name": "', b'"first_name": ["').replace(b"]", b""),
        known + b"}",
    ):
        answer = provider.deliver(body)
        assert refusal_in(answer) == MALFORMED
        complaints += answer.text
    headers = provider.headers(known)
    answer = httpx.post(stack.url + ROUTE, content=known + b" ", headers=headers)
    complaints += answer.text
    wait_for_log(stack, "gateway", answer.headers["x-request-id"])
    assert "canary-" not in complaints
    written = everything_written(stack)
    assert not [canary for canary in planted if canary.encode() in written]


def _deliver_over_grpc(port: int, headers: dict[str, str], body: bytes) -> Any:  # noqa: ANN401
    event = HttpBody(content_type="application/json", data=body)
    metadata = tuple((name, value) for name, value in headers.items() if name.startswith("svix-"))
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        return UsersServiceStub(channel).ReceiveIdentityWebhook(
            ReceiveIdentityWebhookRequest(event=event), metadata=metadata, timeout=20
        )
