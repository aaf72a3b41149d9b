"""The chain of an access log: whatever is done to it without its key shows."""

from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from inglenook.audit.v1.audit_pb2 import ActorKind

from services.runtime.audit.chain import Access, Entry, Head, Walk, chain_key, extended

KEY = chain_key(b"k" * 32, "messages")
PERSON = UUID(int=1)
EMPTY = Head(PERSON, 0, b"", b"")


def _accesses(count: int) -> list[Access]:
    began = datetime(2026, 1, 1, tzinfo=UTC)
    return [
        Access(
            PERSON,
            began + timedelta(microseconds=n),
            ActorKind.ACTOR_KIND_SERVICE,
            "responder",
            "inglenook.messages.v1.MessagesService/ListMessages",
            uuid4(),
            f"request {n}",
        )
        for n in range(count)
    ]


def _breaks(entries: Sequence[Entry], head: Head, *keys: bytes) -> list[str]:
    walk = Walk(keys or (KEY,))
    found = [told for entry in entries for told in walk.past(entry)]
    return found + list(walk.to_the_end(head))


@pytest.fixture
def chain() -> tuple[list[Entry], Head]:
    return extended(KEY, EMPTY, _accesses(5))


def test_a_chain_is_whole_however_its_entries_came_together() -> None:
    accesses = _accesses(5)
    at_once, head = extended(KEY, EMPTY, accesses)
    first, between = extended(KEY, EMPTY, accesses[:2])
    rest, same = extended(KEY, between, accesses[2:])
    assert [*first, *rest] == at_once
    assert same == head
    assert [entry.sequence for entry in at_once] == [1, 2, 3, 4, 5]
    assert _breaks(at_once, head) == []
    assert _breaks([], EMPTY) == []


OTHERS = {
    "user_id": UUID(int=2),
    "time": datetime(2026, 1, 2, tzinfo=UTC),
    "actor_kind": ActorKind.ACTOR_KIND_OPERATOR,
    "actor": "nobody",
    "action": "nothing",
    "session_id": None,
    "request_id": "",
    "hash": b"h" * 32,
}


@pytest.mark.parametrize("name", [field.name for field in fields(Entry)])
def test_an_entry_that_was_altered_shows_whatever_of_it_was(
    chain: tuple[list[Entry], Head], name: str
) -> None:
    entries, head = chain
    if name == "sequence":
        entries[2] = replace(entries[2], sequence=7)
        assert _breaks(entries, head)[0] == "entries 3 to 6 are missing"
        return
    changes: dict[str, object] = {name: OTHERS[name]}
    entries[2] = replace(entries[2], **changes)  # type: ignore[arg-type]
    assert _breaks(entries, head)[0] == "entry 3 is not what was recorded"


def test_entries_that_were_removed_show_wherever_they_were(
    chain: tuple[list[Entry], Head],
) -> None:
    entries, head = chain
    assert _breaks(entries[1:], head) == ["entry 1 is missing"]
    assert _breaks(entries[:1] + entries[3:], head) == ["entries 2 to 3 are missing"]
    assert _breaks(entries[:3], head) == ["entries 4 to 5 are missing"]
    assert _breaks([], head) == ["entries 1 to 5 are missing"]


def test_entries_that_changed_places_show(chain: tuple[list[Entry], Head]) -> None:
    entries, head = chain
    third, fourth = entries[2:4]
    entries[2:4] = [replace(fourth, sequence=3), replace(third, sequence=4)]
    assert _breaks(entries, head)[:2] == [
        "entry 3 is not what was recorded",
        "entry 4 is not what was recorded",
    ]


def test_a_head_that_was_put_back_without_its_seal_shows_also_after_more_was_recorded(
    chain: tuple[list[Entry], Head],
) -> None:
    entries, head = chain
    put_back = Head(PERSON, 3, entries[2].hash, head.seal)
    told = "the head is not what was recorded: what followed may have been removed"
    assert _breaks(entries[:3], put_back) == [told]
    more, later = extended(KEY, put_back, _accesses(2))
    assert _breaks([*entries[:3], *more], later) == [told]


def test_who_has_not_the_key_makes_no_entry(chain: tuple[list[Entry], Head]) -> None:
    entries, head = chain
    forged, forged_head = extended(chain_key(b"x" * 32, "messages"), head, _accesses(1))
    assert _breaks([*entries, *forged], forged_head) == ["entry 6 is not what was recorded"]
    elsewhere, its_head = extended(chain_key(b"k" * 32, "users"), EMPTY, _accesses(1))
    assert _breaks(elsewhere, its_head) == ["entry 1 is not what was recorded"]


def test_a_chain_goes_on_under_another_key_while_both_processes_run(
    chain: tuple[list[Entry], Head],
) -> None:
    entries, head = chain
    new = chain_key(b"n" * 32, "messages")
    second, head = extended(new, head, _accesses(2))
    third, head = extended(KEY, head, _accesses(1))
    fourth, head = extended(new, head, _accesses(1))
    whole = [*entries, *second, *third, *fourth]
    assert _breaks(whole, head, new, KEY) == []
    assert _breaks(whole, head, new) != []
