"""What the Python client holds of a conversation, of sessions and of a person, frame by frame."""

from functools import reduce
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from inglenook_client import Conversation, Me, Message, MessageChange, Session, Sessions, User
from inglenook_client.contract.feed.v1.feed_pb2 import Current, Heartbeat, Reset
from inglenook_client.contract.messages.v1.messages_pb2 import (
    DeletedMessage,
    MessageDelta,
    WatchMessagesResponse,
)
from inglenook_client.contract.sessions.v1.sessions_pb2 import (
    DeletedSession,
    SessionChange,
    WatchSessionsResponse,
)
from inglenook_client.contract.users.v1.users_pb2 import (
    CurrentSession,
    MeChange,
    WatchMeResponse,
)


def _said(sequence: int, content: str) -> MessageChange:
    message = Message(message_id=f"message-{sequence}", sequence=sequence, content=content)
    return MessageChange(upserted=message)


def _gone(sequence: int) -> MessageChange:
    return MessageChange(
        deleted=DeletedMessage(message_id=f"message-{sequence}", sequence=sequence)
    )


def _grown(sequence: int, offset: int, text: str) -> MessageChange:
    delta = MessageDelta(message_id=f"message-{sequence}", offset=offset, text=text)
    return MessageChange(delta=delta)


def _frame(token: str, *changes: MessageChange, **signal: Any) -> WatchMessagesResponse:  # noqa: ANN401 - one of three messages
    return WatchMessagesResponse(changes=changes, resume_token=token, **signal)


def _after(*frames: WatchMessagesResponse, held: Conversation | None = None) -> Conversation:
    return reduce(Conversation.apply, frames, held or Conversation())


def _contents(held: Conversation) -> list[str]:
    return [message.content for message in held.messages]


OPENING = (
    _frame("1", _said(11, "eleven"), _said(12, "twelve")),
    _frame("2", current=Current()),
)


def test_it_is_current_once_its_snapshot_is_there_and_resumes_after_the_last_frame() -> None:
    held = _after(OPENING[0])
    assert (held.current, held.resume_token) == (False, "1")
    held = _after(*OPENING)
    assert (held.current, held.resume_token, held.has_older) == (True, "2", True)
    assert _after(_frame("3", heartbeat=Heartbeat()), held=held).resume_token == "3"


def test_it_has_the_newest_version_of_each_message_in_order() -> None:
    held = _after(*OPENING, _frame("3", _said(13, "thirteen"), _said(11, "edited")))
    assert _contents(held) == ["edited", "twelve", "thirteen"]


def test_a_deleted_message_is_gone() -> None:
    assert _contents(_after(*OPENING, _frame("3", _gone(11)))) == ["twelve"]


def test_an_edit_of_a_message_before_the_first_one_leaves_no_gap() -> None:
    held = _after(*OPENING, _frame("3", _said(2, "edited")))
    assert _contents(held) == ["eleven", "twelve"]
    emptied = _after(_frame("4", _gone(11), _gone(12)), _frame("5", _said(2, "again")), held=held)
    assert (_contents(emptied), emptied.has_older) == ([], True)


@pytest.mark.parametrize(("offset", "content"), [(6, "twelve!"), (0, "twelve"), (7, "twelve")])
def test_a_delta_applies_only_where_its_offset_is_the_length_that_is_held(
    offset: int, content: str
) -> None:
    held = _after(*OPENING)
    assert _contents(_after(_frame("3", _grown(12, offset, "!")), held=held))[1] == content
    assert _contents(held)[1] == "twelve"  # What was held before is as it was.


def test_a_delta_counts_code_points_and_the_final_message_supersedes() -> None:
    held = _after(*OPENING, _frame("3", _said(13, "🔥 ü")), _frame("4", _grown(13, 3, "👩‍🚀")))
    held = _after(_frame("5", _grown(13, 6, ".")), held=held)
    assert _contents(held)[2] == "🔥 ü👩‍🚀."
    assert _contents(_after(_frame("6", _said(13, "final")), held=held))[2] == "final"


def test_a_reset_drops_what_is_held_until_the_next_snapshot_is_there() -> None:
    held = _after(*OPENING, _frame("9", reset=Reset()))
    assert (held.current, held.messages, held.resume_token) == (False, (), "9")
    again = _after(_frame("10", _said(1, "restored")), _frame("11", current=Current()), held=held)
    assert (again.current, _contents(again), again.has_older) == (True, ["restored"], False)


def test_changes_are_what_came_since_they_were_seen() -> None:
    held = _after(*OPENING)
    assert len(held.changes) == 2
    later = _after(_frame("3", _grown(12, 6, "!")), held=held.settled())
    assert [change.delta.text for change in later.changes] == ["!"]


def _session(session_id: str, activity: int) -> SessionChange:
    return SessionChange(
        upserted=Session(session_id=session_id, last_activity_time=Timestamp(seconds=activity))
    )


def test_sessions_come_by_their_latest_activity_and_deleted_ones_go() -> None:
    held = Sessions().apply(
        WatchSessionsResponse(changes=[_session("a", 1), _session("b", 2), _session("c", 3)])
    )
    gone = SessionChange(deleted=DeletedSession(session_id="c"))
    held = held.apply(WatchSessionsResponse(changes=[_session("a", 4), gone]))
    assert [session.session_id for session in held.sessions] == ["a", "b"]


def test_a_person_is_as_they_were_last_told() -> None:
    noted = MeChange(user=User(name="Ann"), current_session=CurrentSession(session_id="s"))
    held = Me().apply(WatchMeResponse(changes=[noted]))
    assert (held.user, held.current_session_id) == (User(name="Ann"), "s")
    held = held.apply(WatchMeResponse(heartbeat=Heartbeat(), resume_token="2"))
    assert (held.user, held.resume_token) == (User(name="Ann"), "2")
