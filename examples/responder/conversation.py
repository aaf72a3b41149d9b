"""What a conversation says to whoever shall reply: pure, from its newest messages."""

from collections.abc import Iterator, Sequence

import grpc
from inglenook.errors.v1.errors_pb2 import Reason
from inglenook.messages.v1.messages_pb2 import Message, MessageState, Role

from services.runtime.errors import Refusal

_UNFINISHED = {MessageState.MESSAGE_STATE_INTERRUPTED, MessageState.MESSAGE_STATE_STOPPED}


def to_be_answered(newest_first: Sequence[Message]) -> list[Message]:
    """The messages in their order, up to the one of the person's that waits for a reply.

    A reply after it that was cut off or stopped is left out: the person asks for another one. So
    are instructions that were imported: a service did not write them, whoever had the person's
    token did, and a model obeys instructions before it listens to anybody.

    Raises:
        Refusal: NOTHING_TO_ANSWER or REPLY_UNDER_WAY.
    """
    rest = [message for message in newest_first if not _is_imported_instruction(message)]
    for message in rest:
        if message.state == MessageState.MESSAGE_STATE_GROWING:
            raise reply_under_way(message.message_id)
    while rest and rest[0].role == Role.ROLE_ASSISTANT and rest[0].state in _UNFINISHED:
        del rest[0]
    if not rest or rest[0].role != Role.ROLE_USER:
        raise Refusal(
            grpc.StatusCode.FAILED_PRECONDITION,
            Reason.REASON_NOTHING_TO_ANSWER,
            "There is nothing to reply to. Say something first.",
        )
    return rest[::-1]


def _is_imported_instruction(message: Message) -> bool:
    return message.role == Role.ROLE_SYSTEM and message.HasField("import_time")


def within(messages: Sequence[Message], characters: int) -> list[Message]:
    """The newest messages that have at most so many characters together, in their order.

    The newest one is among them however long it is: without it there is nothing to answer.
    """
    return list(_newest(messages, characters))[::-1]


def _newest(messages: Sequence[Message], characters: int) -> Iterator[Message]:
    left = characters
    for message in reversed(messages):
        left -= len(message.content)
        if left < 0 and message is not messages[-1]:
            return
        if message.content:
            yield message


def reply_under_way(message_id: str) -> Refusal:
    """A reply in the conversation is under way, and there is one at a time."""
    return Refusal(
        grpc.StatusCode.FAILED_PRECONDITION,
        Reason.REASON_REPLY_UNDER_WAY,
        "A reply is under way here. Wait for its end, or stop it.",
        metadata={"message_id": message_id},
    )
