"""What an identity provider's events say, and that whatever else comes is told apart."""

import json
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.identity import user_id_of
from services.users.identity_events import (
    EventError,
    PersonDeleted,
    PersonStated,
    read_event,
)

ISSUER = "https://app.clerk.accounts.dev"
SENT = datetime(2026, 1, 2, tzinfo=UTC)
MILLISECONDS = 1_700_000_001_250
MOMENT = datetime(2023, 11, 14, 22, 13, 21, 250_000, tzinfo=UTC)


def _read(event: object) -> PersonStated | PersonDeleted | None:
    return read_event(json.dumps(event).encode(), issuer=ISSUER, sent=SENT)


def _user(**changes: object) -> dict[str, object]:
    addresses = [
        {"id": "idn_1", "email_address": "one@example.com"},
        {"id": "idn_2", "email_address": "two@example.com"},
    ]
    user = {"id": "user_1", "updated_at": MILLISECONDS, "first_name": " Ada ", "last_name": "Byron"}
    user |= {"primary_email_address_id": "idn_2", "email_addresses": addresses, **changes}
    return {"type": "user.updated", "data": user}


def test_a_user_has_an_id_of_their_issuer_a_name_and_the_primary_address() -> None:
    assert _read(_user()) == PersonStated(
        user_id=user_id_of(ISSUER, "user_1"),
        time=MOMENT,
        type="user.updated",
        name="Ada Byron",
        email="two@example.com",
    )


@pytest.mark.parametrize(
    ("changes", "name", "email"),
    [
        ({"first_name": None, "last_name": None}, "", "two@example.com"),
        ({"last_name": ""}, "Ada", "two@example.com"),
        ({"primary_email_address_id": None}, "Ada Byron", ""),
        ({"primary_email_address_id": "idn_9"}, "Ada Byron", ""),
        ({"email_addresses": []}, "Ada Byron", ""),
        ({"first_name": "a\0b"}, "", "two@example.com"),
        ({"first_name": "x" * 201}, "", "two@example.com"),
    ],
)
def test_what_is_missing_or_unfit_is_empty(
    changes: dict[str, object], name: str, email: str
) -> None:
    said = _read(_user(**changes))
    assert isinstance(said, PersonStated)
    assert (said.name, said.email) == (name, email)


def test_a_deletion_happened_when_it_says_or_else_when_it_was_sent() -> None:
    event = {"type": "user.deleted", "data": {"id": "user_1", "deleted": True}}
    person = user_id_of(ISSUER, "user_1")
    assert _read(event) == PersonDeleted(person, SENT)
    assert _read({**event, "timestamp": MILLISECONDS}) == PersonDeleted(person, MOMENT)


@given(st.binary())
def test_bytes_are_an_event_or_are_told_apart(body: bytes) -> None:
    with pytest.raises(EventError):
        read_event(body, issuer=ISSUER, sent=SENT)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.sampled_from(["user.created", "user.updated", "user.deleted"]),
    st.fixed_dictionaries(
        {}, optional={"id": _JSON, "updated_at": _JSON, "first_name": _JSON, "last_name": _JSON}
    ),
    _JSON,
)
def test_an_event_of_any_form_is_read_or_told_apart(
    kind: str, data: dict[str, object], timestamp: object
) -> None:
    body = json.dumps({"type": kind, "data": data, "timestamp": timestamp}).encode()
    with suppress(EventError):
        assert read_event(body, issuer=ISSUER, sent=SENT) is not None


def test_neither_an_event_nor_what_is_wrong_with_one_shows_a_name() -> None:
    with pytest.raises(EventError) as wrong:
        _read(_user(updated_at="Ada"))
    assert str(wrong.value) == ""
    assert wrong.value.__suppress_context__
    assert "Ada" not in repr(_read(_user()))
    assert "example.com" not in repr(_read(_user()))
