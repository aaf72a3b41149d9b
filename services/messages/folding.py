"""Folding: what is left of a text when case, accents and other spellings of the same are ignored.

Each character is decomposed by compatibility (NFKD, UAX #15), rid of accents and points, and
case-folded in full. So "Été", "ÉTÉ" and "ete" fold alike, as do "Straße" and "STRASSE", "ﬁn" and
"fin", "İ" and "i", "ｶﾞ" and "ガ". What tells words apart stays: the voicing marks of Kana, viramas
and nuktas, the vowel signs and tone marks of Thai, Lao and Tibetan. A Hangul syllable stays whole,
however it is spelled: "가" is not in "각".
"""

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from itertools import accumulate

# Canonical combining classes (UAX #44, table 15) of marks that are accents or points: overlays;
# the points of Hebrew, Arabic and Syriac; and all that is placed above, below or across a letter.
# Not among them are 6 to 9 (nukta, Kana voicing, virama) and 84 to 132 (vowel signs, tones).
_ACCENT_CLASSES = frozenset({1, *range(10, 37), *range(200, 241)})
# Letters and signs that people replace when their keyboard does not have them, and which Unicode
# does not decompose.
_REPLACED = str.maketrans(
    {
        "æ": "ae",
        "œ": "oe",
        "ø": "o",
        "đ": "d",
        "ħ": "h",
        "\N{LATIN SMALL LETTER DOTLESS I}": "i",
        "ł": "l",
        "ŧ": "t",
        "\N{LEFT SINGLE QUOTATION MARK}": "'",
        "\N{RIGHT SINGLE QUOTATION MARK}": "'",
        "\N{MODIFIER LETTER APOSTROPHE}": "'",
        "\N{LEFT DOUBLE QUOTATION MARK}": '"',
        "\N{RIGHT DOUBLE QUOTATION MARK}": '"',
        "\N{DOUBLE LOW-9 QUOTATION MARK}": '"',
        "\N{HYPHEN}": "-",
    }
)
# Format characters that stand for something, unlike soft hyphens and joiners (UAX #44,
# Prepended_Concatenation_Mark).
_VISIBLE_FORMAT = frozenset("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u08e2\U000110bd")
_GRAPHEME_JOINER = "\N{COMBINING GRAPHEME JOINER}"
# Stands, while a text is folded, before what may have to change places with its neighbours or join
# them. Texts of the contract hold no NUL.
_MOVABLE = "\0"
_MOVABLE_RUN = re.compile(f"(?:{_MOVABLE}.){{2,}}", re.DOTALL)
_JAMO = re.compile("[\u1100-\u11ff]")
# A leading jamo or a syllable, with the vowels and final consonants that may join it; or anything.
_SYLLABLE_OR_CHARACTER = re.compile("[\uac00-\ud7a3\u1100-\u115f][\u1160-\u11ff]*|.", re.DOTALL)
_SYLLABLES = re.compile("[\uac00-\ud7a3\u1100-\u11ff]+")
_REMEMBERED = 60_000


def folded(text: str) -> str:
    """A text as it is compared with others."""
    if text.isascii():
        return text.lower()
    fold = text.translate(_FOLDED)
    return _settled(fold) if _MOVABLE in fold else fold


def original_span(text: str, start: int, end: int) -> tuple[int, int]:
    """Where in a text the characters from `start` to `end` of its folded form come from.

    A character that folds to several counts as a whole. Marks in a row may be told from each other
    only as a row.
    """
    if text.isascii():
        return start, end
    if _JAMO.search(text):
        pieces = _SYLLABLE_OR_CHARACTER.findall(text)
        first, last = _covering((len(folded(piece)) for piece in pieces), start, end)
        begins = [0, *accumulate(map(len, pieces))]
        return begins[first], begins[last]
    folds = map(_FOLDED.__getitem__, map(ord, text))
    if _MOVABLE in text.translate(_FOLDED):
        return _covering((len(fold.replace(_MOVABLE, "")) for fold in folds), start, end)
    return _covering(map(len, folds), start, end)


def _covering(lengths: Iterable[int], start: int, end: int) -> tuple[int, int]:
    """The first piece and the one past the last, of pieces this long, that hold a part of them."""
    places = [0, *accumulate(lengths)]
    return bisect_right(places, start) - 1, bisect_left(places, end)


def _settled(fold: str) -> str:
    """A folded text with its marks in canonical order and its jamo joined to syllables.

    The marks are sorted here, since `unicodedata.normalize` takes the square of the number of marks
    in a row: seconds, for a message that somebody made for it.
    """
    ordered = _MOVABLE_RUN.sub(_in_canonical_order, fold).replace(_MOVABLE, "")
    if not _JAMO.search(ordered):
        return ordered
    return _SYLLABLES.sub(lambda run: unicodedata.normalize("NFC", run[0]), ordered)


def _in_canonical_order(run: re.Match[str]) -> str:
    ordered: list[str] = []
    marks: list[str] = []
    for character in run[0].replace(_MOVABLE, ""):
        if unicodedata.combining(character):
            marks.append(character)
        else:
            ordered += [*sorted(marks, key=unicodedata.combining), character]
            marks.clear()
    return "".join(ordered + sorted(marks, key=unicodedata.combining))


class _FoldedCharacters(dict[int, str]):
    """What each character folds to, by its code point; worked out when it is first met."""

    def __missing__(self, code: int) -> str:
        if len(self) >= _REMEMBERED:
            # Nobody writes in so many characters: somebody tries how much this can hold.
            self.clear()
        fold = self[code] = _fold(chr(code))
        return fold


def _fold(character: str) -> str:
    if _stays(character):
        return character
    if "HANGUL" in unicodedata.name(character, ""):
        return _fold_hangul(character)
    fold = _bare(_bare(character).casefold()).translate(_REPLACED)
    if fold.isspace() and not character.isspace():
        return character  # An accent on its own: it decomposes to a space with the accent on it.
    return "".join(_MOVABLE + part if unicodedata.combining(part) else part for part in fold)


def _stays(character: str) -> bool:
    """Whether a character obviously folds to itself: most of those that exist."""
    return (
        unicodedata.category(character) in {"Lo", "Cn", "Co", "So"}
        and not unicodedata.decomposition(character)
        and not _JAMO.match(character)
    )


def _fold_hangul(character: str) -> str:
    """A syllable or a letter on its own as it is, a letter of a syllable as one that may join."""
    if _JAMO.match(character):
        return _MOVABLE + character
    while unicodedata.decomposition(character).startswith(("<narrow>", "<wide>")):
        character = chr(int(unicodedata.decomposition(character).split()[1], 16))
    return "" if _is_ignored(character) else character


def _bare(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(character for character in decomposed if not _is_ignored(character))


def _is_ignored(character: str) -> bool:
    """Whether a character is an accent, a point, or nothing that one sees."""
    match unicodedata.category(character):
        case "Cf":
            return character not in _VISIBLE_FORMAT
        case "Cc":
            return character == _MOVABLE
        case "Mn" | "Mc":
            return (
                unicodedata.combining(character) in _ACCENT_CLASSES
                or character == _GRAPHEME_JOINER
                or "VARIATION SELECTOR" in unicodedata.name(character)
            )
        case _:
            return False


_FOLDED = _FoldedCharacters()
