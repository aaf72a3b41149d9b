"""Who is calling: what handlers know of a caller, and what a call passes on to other services."""

from contextvars import ContextVar
from dataclasses import dataclass, field
from uuid import NAMESPACE_URL, UUID, uuid5

NAME_CHARACTERS = 200
EMAIL_CHARACTERS = 320
"""How long what an issuer states of a person may be, to be taken."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A verified caller: a person, a service, or a service that acts for a person."""

    user_id: UUID | None
    """The person, or None for a service that acts for nobody."""
    service: str | None
    """The calling service's name, or None when a person calls by themselves."""
    expires_at: float
    """When the token ends, in seconds since the epoch; streams end with it."""
    issued_at: float = 0.0
    """When the token was issued, in seconds since the epoch; 0 when it does not say."""
    name: str = field(default="", repr=False)
    """What the token states as the person's name, or empty."""
    email: str = field(default="", repr=False)
    """What the token states as the person's email address, or empty."""


@dataclass(frozen=True, slots=True)
class Call:
    """The call that is being served."""

    request_id: str
    identity: Identity | None = None
    token: str | None = field(default=None, repr=False)
    """The caller's token, only for passing on to another service on the caller's behalf."""


current_call: ContextVar[Call | None] = ContextVar("current_call", default=None)


def caller() -> Identity:
    """The verified caller of the call that is being served.

    Raises:
        LookupError: nobody was verified: the method is public, or this is no call.
    """
    call = current_call.get()
    if call is None or call.identity is None:
        raise LookupError("no verified caller")
    return call.identity


def person() -> UUID:
    """The person that the call is about: who calls, or whom the calling service acts for.

    Raises:
        LookupError: there is none; the interceptor lets no such call reach a person's method.
    """
    user_id = caller().user_id
    if user_id is None:
        raise LookupError("the caller is a service that acts for nobody")
    return user_id


def user_id_of(issuer: str, subject: str) -> UUID:
    """A person's id: UUID version 5 (RFC 9562) of the subject in the namespace of its issuer.

    The issuer's own namespace is UUID version 5 of its URL, so that no pair of issuer and subject
    can be mistaken for another.
    """
    return uuid5(uuid5(NAMESPACE_URL, issuer), subject)


def fit_or_empty(stated: object, characters: int) -> str:
    """What an issuer states of a person, if it can be stored as the contract's text, or empty."""
    if not isinstance(stated, str) or len(stated) > characters or "\0" in stated:
        return ""
    try:
        stated.encode()  # JSON can spell halves of characters, which no text has.
    except UnicodeEncodeError:
        return ""
    return stated
