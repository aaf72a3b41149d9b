"""What an identity provider tells of people: Clerk's user events, as its webhooks have them.

Pure: from the bytes that were signed to what they say. What the events hold is a person's, and so
no error here carries any of it.
"""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ValidationError

from services.runtime.identity import (
    EMAIL_CHARACTERS,
    NAME_CHARACTERS,
    fit_or_empty,
    user_id_of,
)

_STATING = {"user.created", "user.updated"}
_DELETED = "user.deleted"


class EventError(Exception):
    """The bytes are no event, or one of a known type that lacks what it must have."""


@dataclass(frozen=True, slots=True)
class PersonStated:
    """What the provider states of a person."""

    user_id: UUID
    time: datetime
    """As of when it is so, by the provider's clock."""
    type: str
    """The event's: `user.created` or `user.updated`."""
    name: str = field(repr=False)
    email: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class PersonDeleted:
    """The provider has deleted a person."""

    user_id: UUID
    time: datetime
    """When, by the provider's clock."""
    type: str = _DELETED
    """The event's."""


class _EmailAddress(BaseModel, frozen=True):
    id: str
    email_address: str


class _User(BaseModel, frozen=True):
    id: str
    updated_at: int
    """In milliseconds since the epoch."""
    first_name: str | None = None
    last_name: str | None = None
    primary_email_address_id: str | None = None
    email_addresses: tuple[_EmailAddress, ...] = ()


class _Deleted(BaseModel, frozen=True):
    id: str


class _Event(BaseModel, frozen=True):
    type: str
    timestamp: int | None = None
    """When it happened, in milliseconds since the epoch."""
    data: dict[str, Any]


def read_event(body: bytes, *, issuer: str, sent: datetime) -> PersonStated | PersonDeleted | None:
    """What an event says; None for one of a type that says nothing of people.

    `issuer` is whose people it is about, `sent` when the delivery was signed, which stands for the
    time of an event that does not say when it happened.

    Raises:
        EventError: it cannot be read.
    """
    try:
        event = _Event.model_validate(json.loads(body))
        if event.type in _STATING:
            user = _User.model_validate(event.data)
            return PersonStated(
                user_id=_person(issuer, user.id),
                time=_moment(user.updated_at),
                type=event.type,
                name=fit_or_empty(_name_of(user), NAME_CHARACTERS),
                email=fit_or_empty(_email_of(user), EMAIL_CHARACTERS),
            )
        if event.type == _DELETED:
            subject = _Deleted.model_validate(event.data).id
            time = sent if event.timestamp is None else _moment(event.timestamp)
            return PersonDeleted(_person(issuer, subject), time)
    except (ValidationError, ValueError, OverflowError, OSError, RecursionError):
        # Their texts quote the event.
        raise EventError from None
    return None


def _person(issuer: str, subject: str) -> UUID:
    if not subject:
        raise ValueError("a subject is not empty")
    return user_id_of(issuer, subject)


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, tz=UTC)


def _name_of(user: _User) -> str:
    parts = ((part or "").strip() for part in (user.first_name, user.last_name))
    return " ".join(part for part in parts if part)


def _email_of(user: _User) -> str:
    addresses = {address.id: address.email_address for address in user.email_addresses}
    return addresses.get(user.primary_email_address_id or "", "")
