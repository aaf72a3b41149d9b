"""What of an app's documents becomes what in Inglenook, and what is reported instead."""

import base64
import os
from pathlib import Path

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st
from inglenook.messages.v1.messages_pb2 import Message, Role

from clients.convex.documents import Documents, NotDecryptedError, inglenook_id, looks_sealed
from clients.convex.importing import Plan, planned
from clients.convex.mapping import Mapping, MappingError, read_mapping
from clients.convex.snapshot import Snapshot, SnapshotError
from tests.convex_app import FIRST_MOMENT, ConvexApp, Document

SESSION = inglenook_id("session")


def _read(**fields: object) -> tuple[Message | None, list[str]]:
    """A message document with these fields: what it becomes, and what is reported."""
    reports: list[str] = []

    def report(convex_id: str, why: str) -> None:
        assert convex_id == "m1"
        reports.append(why)

    documents = Documents(Mapping(), texts=(), report=report)
    basis: Document = {"_id": "m1", "_creationTime": FIRST_MOMENT, "role": "user", "content": "hi"}
    return documents.message(basis | fields, SESSION), reports


def _sealed(text: str) -> str:
    """A text as the app seals it, with a key that nobody has."""
    return base64.b64encode(os.urandom(32 + 16 + 16 + len(text.encode()))).decode()


def test_a_message_comes_whole() -> None:
    message, reports = _read(
        role="assistant",
        content="Wie geht's?",
        modelUsed="listener",
        metadata={"mood": {"score": 0.5}, "tags": ["a", None]},
        timestamp=FIRST_MOMENT + 0.25,
    )
    assert message is not None
    assert reports == []
    assert (message.role, message.content, message.model) == (
        Role.ROLE_ASSISTANT,
        "Wie geht's?",
        "listener",
    )
    assert MessageToDict(message.metadata) == {"mood": {"score": 0.5}, "tags": ["a", None]}
    assert message.create_time.ToMicroseconds() == FIRST_MOMENT * 1000 + 250
    assert (message.session_id, message.message_id) == (SESSION, inglenook_id("m1"))


def test_ids_are_the_same_in_every_run() -> None:
    assert inglenook_id("j57abc") == "4d424426-52e1-58a5-9a9d-16263d242bef"
    assert inglenook_id("j57abd") != inglenook_id("j57abc")


@pytest.mark.parametrize(
    "fields",
    [
        {"content": "x" * 50_001},
        {"content": ""},
        {"content": None},
        {"content": 7},
        {"content": "a\0b"},
        {"content": "half \ud800"},
        {"role": "tool"},
        {"role": None},
        {"timestamp": "yesterday", "_creationTime": True},
        {"timestamp": -1, "_creationTime": 1e18},
    ],
)
def test_what_does_not_fit_is_reported_and_left_out(fields: Document) -> None:
    message, reports = _read(**fields)
    assert message is None
    assert len(reports) == 1
    assert reports[0].startswith("the message is left out: ")


@pytest.mark.parametrize(
    "fields",
    [
        {"modelUsed": "m" * 101},
        {"modelUsed": 7},
        {"metadata": {"long": "x" * 16_384}},
        {"metadata": {"nul": "\0"}},
        {"metadata": {"half": "\ud800"}},
    ],
)
def test_a_part_that_does_not_fit_is_reported_and_the_rest_comes(fields: Document) -> None:
    message, reports = _read(**fields)
    assert message is not None
    assert (message.content, message.model, len(message.metadata.fields)) == ("hi", "", 0)
    assert len(reports) == 1


def test_metadata_that_is_no_object_is_kept_in_one() -> None:
    message, reports = _read(metadata=["a", 1])
    assert message is not None
    assert (MessageToDict(message.metadata), reports) == ({"value": ["a", 1]}, [])


@given(st.text(min_size=1))
def test_whatever_the_app_seals_is_known_for_sealed(text: str) -> None:
    sealed = _sealed(text)
    assert looks_sealed(sealed)
    with pytest.raises(NotDecryptedError, match="m1"):
        _read(content=sealed)


@given(
    st.text(max_size=80)
    | st.from_regex(r"[a-z]+( [a-z]+)*[.?!]", fullmatch=True)
    | st.from_regex(r"[a-z]+", fullmatch=True).map(lambda word: word * 100)
)
def test_what_people_write_is_not_taken_for_sealed(text: str) -> None:
    assert not looks_sealed(text)


def _plan(app: ConvexApp, tmp_path: Path, **options: object) -> tuple[Plan, list[str]]:
    reports: list[str] = []
    plan = planned(
        Snapshot(app.unpacked(tmp_path / "snapshot")),
        Mapping.model_validate(options.get("mapping", {})),
        subject=None,
        texts=frozenset(),
        report=lambda convex_id, _why: reports.append(convex_id),
    )
    return plan, reports


def test_messages_come_session_by_session_in_the_order_in_which_they_were_said(
    tmp_path: Path,
) -> None:
    app = ConvexApp()
    ann, ben = app.user("ann"), app.user("ben")
    late = app.session(ann, updatedAt=FIRST_MOMENT + 2)
    of_ben = app.session(ben, updatedAt=FIRST_MOMENT)
    early = app.session(ann, updatedAt=FIRST_MOMENT + 1)
    for place in (3, 1, 2):
        for session in (of_ben, late, early):
            app.message(session, f"{session} {place}", timestamp=FIRST_MOMENT + place)
    # Of the same moment: in the order in which they were stored.
    app.message(early, "second", timestamp=FIRST_MOMENT + 9)
    app.message(early, "first", timestamp=FIRST_MOMENT + 9)
    app.messages[-1]["_creationTime"] = 0.0
    plan, reports = _plan(app, tmp_path)
    contents = [message.content for _, _, message in plan.messages()]
    assert contents == [
        *(f"{early} {place}" for place in (1, 2, 3)),
        *("first", "second"),
        *(f"{late} {place}" for place in (1, 2, 3)),
        *(f"{of_ben} {place}" for place in (1, 2, 3)),
    ]
    assert reports == []


def test_what_belongs_to_nobody_is_reported(tmp_path: Path) -> None:
    app = ConvexApp()
    ann, nobody = app.user("ann"), app.user("")
    kept = app.session(ann)
    lost = [app.session(nobody), app.session("gone")]
    app.message(kept, "kept")
    lost += [app.message(session, "lost") for session in (*lost, "no session")]
    plan, reports = _plan(app, tmp_path)
    assert sorted(reports) == sorted([nobody, *lost])
    assert (plan.counts.sessions, plan.counts.messages) == (1, 1)


def test_another_apps_names_are_mapped(tmp_path: Path) -> None:
    app = ConvexApp()
    ann = app.user("ann")
    app.users[0]["externalId"] = app.users[0].pop("clerkId")
    session = app.session(ann)
    app.message(session, "said", sender="bot")
    file = tmp_path / "mapping.json"
    file.write_text(
        '{"users": {"subject": "externalId"},'
        ' "messages": {"role": "sender", "roles": {"bot": "assistant"}}}'
    )
    plan, _ = _plan(app, tmp_path, mapping=read_mapping(file).model_dump())
    ((owned, _, message),) = plan.messages()
    assert (owned.subject, message.role) == ("ann", Role.ROLE_ASSISTANT)
    file.write_text('{"users": {"subjekt": "externalId"}}')
    with pytest.raises(MappingError, match="subjekt"):
        read_mapping(file)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('{"_id": "m1", ', "line 2 of messages is no JSON"),
        ("[]", "line 2 of messages is no document"),
        ('{"content": "a secret"}', "line 2 of messages is no document"),
        ('{"_id": "m1", "timestamp": NaN}', "line 2 of messages is no JSON"),
    ],
)
def test_a_broken_line_is_named_and_not_quoted(tmp_path: Path, line: str, complaint: str) -> None:
    app = ConvexApp()
    app.message(app.session(app.user("ann")), "whole")
    folder = app.unpacked(tmp_path / "snapshot")
    with (folder / "messages/documents.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(SnapshotError, match=complaint) as refused:
        list(Snapshot(folder).documents("messages"))
    assert "secret" not in str(refused.value)


def test_what_is_no_snapshot_is_said_so(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("not a ZIP file")
    for path in (file, tmp_path, tmp_path / "gone"):
        with pytest.raises(SnapshotError, match=str(path)):
            list(Snapshot(path).documents("messages"))
