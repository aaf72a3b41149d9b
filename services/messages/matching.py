"""Matching: whether a text holds all words of a query, and where.

Words are what white space separates. Each must occur, as a word or inside one, in the folded text
(see `folding`); the order and the distance do not matter.
"""

from dataclasses import dataclass

from services.messages.folding import folded, original_span
from services.messages.graphemes import (
    cut_at_or_after,
    cut_at_or_before,
    words_begin_after,
    words_end_before,
)

AROUND = 80
"""How many characters an excerpt has before and after its match, at most."""


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A match with what stands around it, all as it was written and without a gap."""

    before: str
    match: str
    after: str


class Query:
    """What is searched for."""

    def __init__(self, text: str) -> None:
        """Takes what a person typed. Words that are nothing but accents are not looked for."""
        words = {folded(word) for word in text.split()} - {""}
        # The longest first: it is the least likely to occur, and it is the one to show where
        # another begins at the same place.
        self._words = sorted(words, key=len, reverse=True)

    @property
    def is_empty(self) -> bool:
        """Whether there is no word to look for, so that nothing can match."""
        return not self._words

    def first_match(self, text: str) -> Excerpt | None:
        """The earliest occurrence of any of the words, if a text holds all of them."""
        fold = folded(text)
        if not self._words or not all(word in fold for word in self._words):
            return None
        place, word = min(
            ((fold.index(word), word) for word in self._words), key=lambda found: found[0]
        )
        start, end = original_span(text, place, place + len(word))
        start, end = cut_at_or_before(text, start), cut_at_or_after(text, end)
        return Excerpt(
            before=words_end_before(text, start, AROUND),
            match=text[start:end],
            after=words_begin_after(text, end, AROUND),
        )
