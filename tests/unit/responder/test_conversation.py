"""What there is to answer in a conversation, and how much of it a model gets."""

import pytest
from inglenook.messages.v1.messages_pb2 import Message, MessageState, Role

from examples.responder.conversation import to_be_answered, within
from services.runtime.errors import Refusal

USER, ASSISTANT, SYSTEM = Role.ROLE_USER, Role.ROLE_ASSISTANT, Role.ROLE_SYSTEM
COMPLETE = MessageState.MESSAGE_STATE_COMPLETE
GROWING = MessageState.MESSAGE_STATE_GROWING
INTERRUPTED = MessageState.MESSAGE_STATE_INTERRUPTED
STOPPED = MessageState.MESSAGE_STATE_STOPPED


def _message(
    name: str, role: Role.ValueType, state: MessageState.ValueType = COMPLETE, content: str = "said"
) -> Message:
    return Message(message_id=name, role=role, state=state, content=content)


def _names(messages: list[Message]) -> str:
    return "".join(message.message_id for message in messages)


def test_what_the_person_said_last_is_answered_with_all_before_it() -> None:
    newest_first = [_message("c", USER), _message("b", ASSISTANT, STOPPED), _message("a", USER)]
    assert _names(to_be_answered(newest_first)) == "abc"


@pytest.mark.parametrize("state", [INTERRUPTED, STOPPED])
def test_a_reply_that_did_not_come_to_its_end_is_asked_for_again(
    state: MessageState.ValueType,
) -> None:
    newest_first = [
        _message("d", ASSISTANT, state),
        _message("c", ASSISTANT, INTERRUPTED),
        _message("b", USER),
        _message("a", USER),
    ]
    assert _names(to_be_answered(newest_first)) == "ab"


def test_instructions_count_when_a_service_wrote_them_and_not_when_they_were_imported() -> None:
    imported = _message("i", SYSTEM)
    imported.import_time.GetCurrentTime()
    for newest_first in (
        [_message("b", USER), imported, _message("a", SYSTEM)],
        [imported, _message("b", USER), _message("a", SYSTEM)],
    ):
        assert _names(to_be_answered(newest_first)) == "ab"
    with pytest.raises(Refusal) as refused:
        to_be_answered([imported])
    assert refused.value.reason_name == "NOTHING_TO_ANSWER"


@pytest.mark.parametrize(
    "newest_first",
    [
        [],
        [_message("b", ASSISTANT), _message("a", USER)],
        [_message("a", SYSTEM)],
        [_message("a", ASSISTANT, INTERRUPTED)],
    ],
    ids=["nothing", "a whole reply", "an instruction", "a reply to nothing"],
)
def test_there_may_be_nothing_to_answer(newest_first: list[Message]) -> None:
    with pytest.raises(Refusal) as refused:
        to_be_answered(newest_first)
    assert refused.value.reason_name == "NOTHING_TO_ANSWER"


def test_a_reply_that_still_grows_is_named() -> None:
    with pytest.raises(Refusal) as refused:
        to_be_answered([_message("b", ASSISTANT, GROWING), _message("a", USER)])
    assert refused.value.reason_name == "REPLY_UNDER_WAY"
    assert refused.value.metadata == {"message_id": "b"}


def test_the_newest_messages_that_fit_are_given() -> None:
    said = [_message(name, USER, content="x" * 10) for name in "abc"]
    assert _names(within(said, 30)) == "abc"
    assert _names(within(said, 29)) == "bc"
    assert _names(within(said, 5)) == "c"


def test_a_reply_without_a_word_is_not_given() -> None:
    said = [_message("a", USER), _message("b", ASSISTANT, STOPPED, ""), _message("c", USER)]
    assert _names(within(said, 100)) == "ac"
