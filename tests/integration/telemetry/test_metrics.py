"""Operators see what a process does, and nothing of whom it does it for."""

import json
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from local.stack import Stack, free_ports
from services.runtime.telemetry.exposition import exposed_metrics
from tests.integration.calls import ABSENT, MakePerson, Person
from tests.integration.eventually import eventually, owed
from tests.integration.replicas import start_replica
from tests.integration.telemetry.scraping import PROCESSES, scrape, scrape_of

_APPEND = "/inglenook.messages.v1.MessagesService/AppendMessage"
_WATCH = "/inglenook.messages.v1.MessagesService/WatchMessages"


@contextmanager
def _watching(person: Person, session: str) -> Iterator[Iterator[str]]:
    """The lines of a watch, from the first one that says that it is current."""
    with person.http.stream("GET", f"/v1/sessions/{session}/messages:watch") as answer:
        lines = answer.iter_lines()
        while "current" not in json.loads(next(lines)):
            pass
        yield lines


def test_calls_are_counted_by_method_status_and_reason(stack: Stack, person: MakePerson) -> None:
    alice = person("alice")
    session = alice.new_session()
    before = scrape_of(stack, "messages")
    alice.say(session, "hello")
    for _ in range(2):
        alice.refused("POST", f"/v1/sessions/{ABSENT}/messages", {"content": "hello"})
    after = scrape_of(stack, "messages")

    def more(name: str, **labels: str) -> float:
        labels["method"] = _APPEND
        return after.value(name, **labels) - before.value(name, **labels)

    assert more("inglenook_calls_total", code="OK", reason="") == 1
    assert more("inglenook_calls_total", code="NOT_FOUND", reason="SESSION_NOT_FOUND") == 2
    assert more("inglenook_call_duration_seconds_count") == 3
    assert more("inglenook_call_duration_seconds_sum") > 0


def test_what_alerts_look_for_is_counted_from_zero(stack: Stack) -> None:
    shown = scrape_of(stack, "users").text
    assert re.search(
        r'inglenook_calls_total\{code="DATA_LOSS",method="[^"]+GetMe",.*\} 0\.0', shown
    )


def test_streams_are_counted_for_as_long_as_they_are_open(stack: Stack, person: MakePerson) -> None:
    alice = person("alice")
    session = alice.new_session()

    def shown(name: str) -> float:
        return scrape_of(stack, "messages").value(name, **labels)

    labels = {"method": _WATCH}
    # Those of the tests before may still be ending.
    eventually(lambda: shown("inglenook_open_streams") == 0)
    with _watching(alice, session):
        assert shown("inglenook_open_streams") == 1
        labels = {}
        assert shown("inglenook_feeds_followed") == 1
    labels = {"method": _WATCH}
    eventually(lambda: shown("inglenook_open_streams") == 0)


def test_the_lag_of_watchers_is_measured_from_the_commit(stack: Stack, person: MakePerson) -> None:
    alice = person("alice")
    session = alice.new_session()
    with _watching(alice, session) as lines:
        before = scrape_of(stack, "messages")
        alice.say(session, "hello")
        assert "upserted" in next(lines)
    after = scrape_of(stack, "messages")
    for part in ("count", "sum"):
        name = f"inglenook_feed_lag_seconds_{part}"
        assert after.value(name) > before.value(name)


def test_processes_of_a_service_show_theirs_each_and_how_long_wake_ups_take(
    stack: Stack, person: MakePerson
) -> None:
    ports = free_ports()
    other = f"127.0.0.1:{ports.users}"
    process = start_replica(stack, ports.messages, metrics_listen=other)
    try:
        alice = person("alice")
        session = alice.new_session()

        def hears() -> bool:
            # More than once: a process that has just begun may not listen yet.
            alice.say(session, "hello")
            return scrape(other).value("inglenook_wakeup_delay_seconds_count") > 0

        eventually(hears)
        assert scrape(other).value("inglenook_calls_total") == 0
        assert scrape_of(stack, "messages").value("inglenook_calls_total") > 0

        def relaying() -> int:
            both = [scrape(other), scrape_of(stack, "messages")]
            return ["inglenook_outbox_events" in shown.names for shown in both].count(True)

        # One of the two relays, and it alone shows what is owed.
        eventually(lambda: relaying() == 1)
    finally:
        process.terminate()
        assert process.wait(60) == 0


def test_batches_and_the_backlog_are_measured(stack: Stack, person: MakePerson) -> None:
    alice = person("alice")
    session = alice.new_session()
    before = scrape_of(stack, "messages")
    alice.say(session, "hello")
    after = scrape_of(stack, "messages")
    for name in (
        "inglenook_writer_batch_writes_sum",
        "inglenook_writer_batch_duration_seconds_count",
    ):
        assert after.value(name) - before.value(name) == 1
    assert after.value("inglenook_writer_waiting") == 0
    assert after.value("inglenook_writer_waiting_bytes") == 0


def test_what_is_owed_shows_while_nobody_takes_it(stack: Stack, person: MakePerson) -> None:
    alice = person("alice")
    session = alice.new_session()
    alice.say(session, "one")

    def shown(name: str, **labels: str) -> float:
        return scrape_of(stack, "messages").value(name, kind="activity", **labels)

    # What is shown was read a while ago.
    eventually(lambda: owed(stack) == 0)
    stack.processes.stop("sessions")
    try:
        alice.say(session, "two")
        eventually(lambda: shown("inglenook_outbox_events", state="waiting") == 1)
        age = shown("inglenook_outbox_oldest_seconds")
        eventually(lambda: shown("inglenook_outbox_oldest_seconds") > age)
        eventually(lambda: shown("inglenook_outbox_deliveries_total", result="not_there") > 0)
    finally:
        stack.start_again("sessions")
    eventually(lambda: shown("inglenook_outbox_events", state="waiting") == 0)
    assert shown("inglenook_outbox_oldest_seconds") == 0
    assert shown("inglenook_outbox_deliveries_total", result="delivered") > 0


def test_an_event_that_was_set_aside_shows(stack: Stack) -> None:
    session, nobody = uuid4(), uuid4()

    def shown(name: str, **labels: str) -> float:
        return scrape_of(stack, "messages").value(name, kind="activity", **labels)

    before = shown("inglenook_outbox_deliveries_total", result="set_aside")
    with psycopg.connect(stack.admin_url, autocommit=True) as database:
        # Of which nothing true can be told, after all tries but one.
        database.execute(
            "INSERT INTO messages.conversations (session_id, user_id, last_sequence,"
            " message_count, revision, create_time, activity_time)"
            " VALUES (%s, %s, 0, -1, 1, now(), now())",
            (session, nobody),
        )
        database.execute(
            "INSERT INTO messages.outbox (session_id, user_id, kind, create_time, due_time, tries)"
            " VALUES (%s, %s, 'activity', now(), now(), 15)",
            (session, nobody),
        )
        try:
            eventually(lambda: shown("inglenook_outbox_events", state="set_aside") == 1)
            tried = "inglenook_outbox_deliveries_total"
            eventually(lambda: shown(tried, result="set_aside") == before + 1)
            assert shown("inglenook_outbox_oldest_seconds") == 0
        finally:
            for table in ("outbox", "conversations"):
                database.execute(
                    f"DELETE FROM messages.{table} WHERE session_id = %s".encode(),  # noqa: S608
                    (session,),
                )
    eventually(lambda: shown("inglenook_outbox_events", state="set_aside") == 0)


def test_pools_and_the_keeper_of_keys_are_measured(stack: Stack, person: MakePerson) -> None:
    alice = person("alice")
    before = scrape_of(stack, "messages")
    alice.say(alice.new_session(), "hello")
    after = scrape_of(stack, "messages")
    assert after.value("inglenook_pool_requests_total", pool="messages") > before.value(
        "inglenook_pool_requests_total", pool="messages"
    )
    limit = after.value("inglenook_pool_limit", pool="messages")
    assert 0 < after.value("inglenook_pool_connections", pool="messages") <= limit
    # A new conversation has a new data key.
    wrapped = {"operation": "wrap", "result": "ok"}
    name = "inglenook_key_provider_calls_total"
    assert after.value(name, **wrapped) - before.value(name, **wrapped) == 1


def test_metrics_tell_of_nobody(stack: Stack, person: MakePerson) -> None:
    canary = f"canary{uuid4().hex}"
    alice = person("alice")
    session = alice.new_session(canary)
    alice.say(session, canary)
    alice.call("GET", f"/v1/sessions/{session}/messages")
    alice.http.post("/v1/messages:search", json={"query": canary})
    alice.http.get(f"/v1/{canary}?{canary}={canary}")
    for name in PROCESSES:
        shown = scrape_of(stack, name).text
        assert canary not in shown
        assert not re.search(r"[0-9a-f]{8}-[0-9a-f]{4}-", shown)


@pytest.mark.parametrize("path", ["/quitquitquit", "/config_dump", "/stats", "/metrics/../logging"])
def test_the_gateway_s_port_shows_metrics_alone(stack: Stack, path: str) -> None:
    host, _, port = stack.ports.metrics_address("gateway").partition(":")
    with socket.create_connection((host, int(port))) as client:
        client.sendall(f"POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n".encode())
        assert client.recv(64).startswith(b"HTTP/1.1 404")


def test_an_address_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(RuntimeError, match=address), exposed_metrics(address):
            pass


@pytest.mark.parametrize("shared", ["listen", "metrics_listen"])
def test_a_second_gateway_on_a_port_of_the_first_ends_and_says_why(
    stack: Stack, tmp_path: Path, shared: str
) -> None:
    first = stack.gateway()
    setting = f"INGLENOOK_{shared.upper()}"
    taken = first.environment[setting]
    done = subprocess.run(
        first.command,
        env={
            **first.environment,
            "INGLENOOK_LISTEN": f"127.0.0.1:{free_ports().gateway}",
            "INGLENOOK_METRICS_LISTEN": "",
            "INGLENOOK_BOOTSTRAP_FILE": str(tmp_path / "envoy.json"),
            setting: taken,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    told = done.stdout + done.stderr
    assert f"cannot bind '{taken}': Address already in use" in told
