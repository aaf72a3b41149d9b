"""Bringing many messages in."""

from collections.abc import Iterator
from uuid import uuid4

from inglenook.messages.v1.messages_pb2 import ImportMessagesRequest, Message, Role

from bench.bench import CONTENT, Bench, Person
from bench.errors import BenchError

_IN_A_REQUEST = 200


def bring_in(bench: Bench, person: Person, count: int) -> None:
    """Imports so many messages into a person's conversation.

    Raises:
        BenchError: not all of them were stored.
    """
    answer = bench.messages.ImportMessages(_requests(person, count), metadata=person.metadata)
    if answer.imported != count:
        raise BenchError(f"{answer.imported} of {count} messages were imported")


def _requests(person: Person, count: int) -> Iterator[ImportMessagesRequest]:
    for start in range(0, count, _IN_A_REQUEST):
        yield ImportMessagesRequest(
            messages=[
                Message(
                    session_id=person.session_id,
                    message_id=str(uuid4()),
                    role=Role.ROLE_USER,
                    content=CONTENT,
                )
                for _ in range(min(_IN_A_REQUEST, count - start))
            ]
        )
