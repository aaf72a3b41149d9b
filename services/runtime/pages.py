"""Paging (AIP-158): how many items a page holds, and the token of the next one."""

import grpc
from inglenook.errors.v1.errors_pb2 import Reason

from services.runtime.cursors import CursorError, Cursors
from services.runtime.errors import Refusal

_DEFAULT_SIZE = 50
_MAXIMUM_SIZE = 200


def page_limit(asked: int) -> int:
    """How many items a page may hold: 0 asks for the default, more than the maximum for that."""
    return min(asked, _MAXIMUM_SIZE) if asked else _DEFAULT_SIZE


def page_start(cursors: Cursors, purpose: tuple[str, ...], token: str) -> int | None:
    """The place that a page token names, or None for the first page.

    Raises:
        Refusal: PAGE_TOKEN_INVALID, the token was not given for this purpose.
    """
    numbers = page_place(cursors, purpose, token)
    return None if numbers is None else numbers[0]


def page_place(cursors: Cursors, purpose: tuple[str, ...], token: str) -> tuple[int, ...] | None:
    """The place that a page token names by several numbers, or None for the first page.

    Raises:
        Refusal: PAGE_TOKEN_INVALID, the token was not given for this purpose.
    """
    if not token:
        return None
    try:
        return cursors.read(purpose, token)
    except CursorError:
        raise Refusal(
            grpc.StatusCode.INVALID_ARGUMENT,
            Reason.REASON_PAGE_TOKEN_INVALID,
            "The page token does not belong to this list. Start again without it.",
        ) from None
