"""Which tables and fields of the app hold what.

The defaults are those of the app that Inglenook was first made for; another app's names go into a
JSON file of the same shape, of which only what differs needs to be there.
"""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ValidationError

RoleName = Literal["user", "assistant", "system"]


class MappingError(Exception):
    """The mapping is not what it should be; the text says what is wrong."""


class People(BaseModel, extra="forbid", frozen=True):
    """Where the people are."""

    table: str = "users"
    subject: str = "clerkId"
    """What the identity provider calls the person: the claim `sub` of their tokens."""


class Sessions(BaseModel, extra="forbid", frozen=True):
    """Where the sessions are."""

    table: str = "sessions"
    person: str = "userId"
    """Whose it is: the document's id in the people's table, or the person's subject."""
    title: str = "title"
    status: str = "status"
    completed: tuple[str, ...] = ("completed",)
    """The values of `status` that mean that the session was brought to its end."""
    time: str = "updatedAt"
    """When something last happened in it, in milliseconds: sessions are opened in this order."""


class Messages(BaseModel, extra="forbid", frozen=True):
    """Where the messages are."""

    table: str = "messages"
    session: str = "sessionId"
    role: str = "role"
    roles: dict[str, RoleName] = {"user": "user", "assistant": "assistant", "system": "system"}
    """What each value of `role` means."""
    content: str = "content"
    model: str = "modelUsed"
    metadata: str = "metadata"
    time: str = "timestamp"
    """When it was said, in milliseconds; without one, `_creationTime` says it."""


class Mapping(BaseModel, extra="forbid", frozen=True):
    """Where everything is."""

    users: People = People()
    sessions: Sessions = Sessions()
    messages: Messages = Messages()


def read_mapping(path: Path) -> Mapping:
    """The mapping in a file.

    Raises:
        MappingError: the file cannot be read, or is no mapping.
    """
    try:
        return Mapping.model_validate_json(path.read_bytes())
    except OSError as error:
        raise MappingError(f"{path}: {error.strerror}") from None
    except ValidationError as error:
        complaints = (
            f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()
        )
        raise MappingError(f"{path}: {'; '.join(complaints)}") from None
