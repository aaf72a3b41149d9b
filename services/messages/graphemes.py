"""Where a text may be cut: between what a reader sees as characters, and at words.

Follows UAX #29 as far as the standard library knows the characters: a base is not cut from its
marks, a syllable from its jamo, an emoji from its joiners, colour and flag halves, a virama from
the consonant after it.
"""

import unicodedata

_JOINER = "\N{ZERO WIDTH JOINER}"
_NON_JOINER = "\N{ZERO WIDTH NON-JOINER}"
_VIRAMA_CLASS = 9
_LEADING_JAMO = range(0x1100, 0x1160)
_JOINING_JAMO = range(0x1160, 0x1200)
_REGIONAL_INDICATORS = range(0x1F1E6, 0x1F200)
_SKIN_TONES = range(0x1F3FB, 0x1F400)
_TAGS = range(0xE0020, 0xE0080)
# Letters by category that continue the character before them: vowels of Thai and Lao, and the
# halfwidth voicing marks of Kana.
_CONTINUING = frozenset("\u0e33\u0eb3\uff9e\uff9f")


def can_cut(text: str, at: int) -> bool:
    """Whether a text can be cut before the character at an index."""
    if not 0 < at < len(text):
        return True
    before, after = text[at - 1], text[at]
    if before.isascii() and after.isascii():
        return (before, after) != ("\r", "\n")
    return not (
        _continues(after)
        or before == _JOINER
        or (unicodedata.combining(before) == _VIRAMA_CLASS and after.isalpha())
        or (ord(before) in _LEADING_JAMO and 0xAC00 <= ord(after) <= 0xD7A3)  # noqa: PLR2004
        or (ord(before) in _LEADING_JAMO and ord(after) in _LEADING_JAMO)
        or _splits_a_flag(text, at)
    )


def cut_at_or_before(text: str, at: int) -> int:
    """The last place at or before an index where a text can be cut."""
    while not can_cut(text, at):
        at -= 1
    return at


def cut_at_or_after(text: str, at: int) -> int:
    """The first place at or after an index where a text can be cut."""
    while not can_cut(text, at):
        at += 1
    return at


def words_end_before(text: str, start: int, at_most: int) -> str:
    """The end of what stands before an index: so many characters at most, from a word if it can."""
    begin = max(0, start - at_most)
    if begin > 0:
        begin = min(cut_at_or_after(text, begin), start)
        for place in range(begin, min(begin + at_most // 2, start)):
            if text[place - 1].isspace() and not text[place].isspace() and can_cut(text, place):
                begin = place
                break
    return text[begin:start]


def words_begin_after(text: str, end: int, at_most: int) -> str:
    """The beginning of what stands from an index on, as `words_end_before` gives the end."""
    stop = min(len(text), end + at_most)
    if stop < len(text):
        stop = max(cut_at_or_before(text, stop), end)
        for place in range(stop, max(stop - at_most // 2, end), -1):
            if text[place].isspace() and not text[place - 1].isspace() and can_cut(text, place):
                stop = place
                break
    return text[end:stop]


def _continues(character: str) -> bool:
    code = ord(character)
    return (
        unicodedata.category(character) in {"Mn", "Mc", "Me"}
        or character in {_JOINER, _NON_JOINER}
        or character in _CONTINUING
        or code in _JOINING_JAMO
        or code in _SKIN_TONES
        or code in _TAGS
    )


def _splits_a_flag(text: str, at: int) -> bool:
    """Whether a cut would be between the two letters of a flag, counted from the first letter."""
    if ord(text[at]) not in _REGIONAL_INDICATORS:
        return False
    begin = at
    while begin > 0 and ord(text[begin - 1]) in _REGIONAL_INDICATORS:
        begin -= 1
    return (at - begin) % 2 == 1
