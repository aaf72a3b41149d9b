"""A statement's name says what it does to which tables, and nothing of its values."""

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, delete, insert, select, text, update

from services.runtime.database import statement

_ONE = Table("one", MetaData(), Column("a", Integer), schema="things")
_TWO = Table("two", MetaData(), Column("a", Integer), schema="things")
_ADDED = insert(_TWO).from_select(["a"], select(_ONE.c.a)).cte("added")


@pytest.mark.parametrize(
    ("clause", "name"),
    [
        (select(_ONE), "SELECT things.one"),
        (select(_ONE).join(_TWO, _ONE.c.a == _TWO.c.a), "SELECT things.one SELECT things.two"),
        (select(_ONE).where(_ONE.c.a == 42).union_all(select(_ONE)), "SELECT things.one"),
        (insert(_ONE).values(a=42), "INSERT things.one"),
        (update(_ONE).values(a=42), "UPDATE things.one"),
        (delete(_ONE).where(_ONE.c.a == 42), "DELETE things.one"),
        (select(_ONE).add_cte(_ADDED), "INSERT things.two SELECT things.one"),
        (select(_ONE).with_for_update(), "SELECT things.one"),
        (select(text("now()")), "SELECT"),
    ],
)
def test_a_name_says_what_is_done_to_what(clause: object, name: str) -> None:
    assert statement(clause, object).name == name  # type: ignore[arg-type]
