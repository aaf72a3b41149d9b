"""Page and resume tokens are good for what they were made for, and for nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.cursors import CursorError, Cursors

CURSORS = Cursors(b"k" * 32)
NUMBERS = st.lists(st.integers(0, 2**63 - 1), max_size=4)


@given(NUMBERS)
def test_a_cursor_gives_back_its_numbers(numbers: list[int]) -> None:
    cursor = CURSORS.make(("list", "alice"), *numbers)
    assert CURSORS.read(("list", "alice"), cursor) == tuple(numbers)


@given(st.text(max_size=80))
def test_a_cursor_that_was_made_up_is_refused(text: str) -> None:
    with pytest.raises(CursorError):
        CURSORS.read(("list", "alice"), text)


@pytest.mark.parametrize("purpose", [("list", "bob"), ("feed", "alice"), ("list",), ("listalice",)])
def test_a_cursor_for_something_else_is_refused(purpose: tuple[str, ...]) -> None:
    cursor = CURSORS.make(("list", "alice"), 7)
    with pytest.raises(CursorError):
        CURSORS.read(purpose, cursor)


def test_a_cursor_has_one_spelling() -> None:
    cursor = CURSORS.make(("list",), 7)
    for other in (cursor + "=", cursor + "A", cursor[:-1], cursor.swapcase()):
        with pytest.raises(CursorError):
            CURSORS.read(("list",), other)
