"""Searching words in a text: what counts as the same, and what is shown of it."""

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.messages.folding import folded, original_span
from services.messages.graphemes import can_cut
from services.messages.matching import AROUND, Excerpt, Query

# Letters, marks and signs that meet: cases, accents, ligatures, jamo, voicing, viramas, emoji.
SIGNS = (
    "aAeEiIsSzZ '-.\n\u00a0ßẞſİıéÉÅłŁøæŒﬁﬀ½①ǅΣσςᾳά\u0301\u0300\u0315\u0327\u0345\u0338´¨ё"
    "がｶﾞか\u3099\u309aﾟ가각\u1100\u1161\u11a8ㄱㅏㅋ\uffa1\u302e\u0915\u093c\u094d\u0958"
    "\u09c7\u09be\u09cb\u0e01\u0e38\u0e48\u0e33ﷺ’“‐\u00ad\u200b\u200d\u034f\ufe0f❤👩👍🏽🇩🇪🇫"
)
TEXTS = st.text(st.one_of(st.sampled_from(SIGNS), st.characters(exclude_characters="\0")))
TEXTS_OF_SIGNS = st.text(st.sampled_from(SIGNS))
UNSEEN = "\u00ad\u200b\u200d\u034f\ufe0f"
REPLACED = {"ı": "i", "ł": "l", "ø": "o", "æ": "ae", "œ": "oe", "’": "'", "“": '"', "‐": "-"}


def _reference(text: str) -> str:
    """Folding by its description, one character at a time."""
    folds = [_reference_of(character) for character in text]
    return _syllables(_sorted_marks([part for fold in folds for part in fold]))


def _reference_of(character: str) -> str:
    if character == "\uffa1":
        return "ㄱ"
    if "가" <= character <= "힣" or "\u1100" <= character <= "\u11ff" or character in "ㄱㅏㅋ":
        return character
    bare = _without_accents(_without_accents(character).casefold())
    fold = "".join(REPLACED.get(part, part) for part in bare)
    return character if fold == " " and not character.isspace() else fold


def _without_accents(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(
        part
        for part in decomposed
        if part not in UNSEEN
        and (
            (accent := unicodedata.combining(part)) == 0 or 6 <= accent <= 9 or 84 <= accent <= 132
        )
    )


def _sorted_marks(parts: list[str]) -> list[str]:
    """Canonical order, as UAX #15 defines it: neighbours change places while one must."""
    changed = True
    while changed:
        changed = False
        for index in range(len(parts) - 1):
            first, second = map(unicodedata.combining, parts[index : index + 2])
            if first > second > 0:
                parts[index : index + 2] = reversed(parts[index : index + 2])
                changed = True
    return parts


def _syllables(parts: list[str]) -> str:
    """Jamo joined to syllables, by the arithmetic of the Unicode Standard, section 3.12."""
    joined: list[str] = []
    for part in parts:
        last = ord(joined[-1]) if joined else 0
        code = ord(part)
        if 0x1100 <= last <= 0x1112 and 0x1161 <= code <= 0x1175:
            joined[-1] = chr(0xAC00 + ((last - 0x1100) * 21 + code - 0x1161) * 28)
        elif 0xAC00 <= last <= 0xD7A3 and (last - 0xAC00) % 28 == 0 and 0x11A8 <= code <= 0x11C2:
            joined[-1] = chr(last + code - 0x11A7)
        else:
            joined.append(part)
    return "".join(joined)


@given(TEXTS_OF_SIGNS)
@example("a\u0e48\u0e38")
@example("\u1100\u1161\u11a8\u1100\u1161")
@example("가\u11a8")
def test_folding_in_one_go_is_folding_character_by_character(text: str) -> None:
    assert folded(text) == _reference(text)


@given(TEXTS)
def test_spellings_that_unicode_calls_equivalent_fold_alike(text: str) -> None:
    fold = folded(text)
    assert folded(unicodedata.normalize("NFD", text)) == fold
    assert folded(unicodedata.normalize("NFC", text)) == fold


@given(TEXTS)
def test_folding_twice_changes_nothing(text: str) -> None:
    assert folded(folded(text)) == folded(text)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("ete", "Été"),
        ("ÉTÉ", "c'est l'ete"),
        ("strasse", "Straße"),
        ("STRAẞE", "strasse"),
        ("istanbul", "İSTANBUL"),
        ("işik", "IŞIK ve ışık"),
        ("final", "ﬁnal"),
        ("coeur", "cœur"),
        ("lodz", "Łódź"),
        ("ガ", "ｶﾞ"),
        ("各", "各自"),
        ("각", "\u1100\u1161\u11a8"),
        ("ΟΔΟΣ", "οδος"),
        ("don't", "I don’t"),
        ("❤", "❤️"),
        ("cooperate", "co\u00adoperate"),
        ("two one", "one, then two"),
        ("шёл", "шел"),
        ("שלום", "שָׁלוֹם"),
        ("محمد", "مُحَمَّد"),
    ],
)
def test_a_text_is_found_whatever_its_case_and_accents(query: str, text: str) -> None:
    assert Query(query).first_match(text) is not None


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("か", "かさ"[1:]),
        ("が", "か"),
        ("가", "각"),
        ("ㄱ", "가"),
        ("कि", "क"),
        ("one two", "one, then three"),
        ("\u0301", "any text"),
        ("´", "a text with spaces"),
    ],
)
def test_other_words_are_not_found(query: str, text: str) -> None:
    assert Query(query).first_match(text) is None


@given(TEXTS, st.data())
def test_every_piece_of_a_text_is_found_in_it(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    # Cut where a reader would: half of a syllable is another letter.
    query = Query(text[start:end]) if can_cut(text, start) and can_cut(text, end) else Query("")
    assert query.is_empty or query.first_match(text) is not None


@given(TEXTS, TEXTS_OF_SIGNS.filter(lambda word: not Query(word).is_empty), TEXTS)
def test_an_excerpt_is_a_piece_of_the_text_around_the_match(
    before: str, word: str, after: str
) -> None:
    text = f"{before} {word} {after}"
    found = Query(word).first_match(text)
    assert found is not None
    assert found.before + found.match + found.after in text
    assert any(folded(one) in folded(found.match) for one in word.split() if folded(one))
    assert len(found.before) <= AROUND
    assert len(found.after) <= AROUND


@given(TEXTS, TEXTS)
def test_an_excerpt_cuts_no_character_that_a_reader_sees(before: str, after: str) -> None:
    text = f"{before * 9} Zug {after * 9}"
    found = Query("zug").first_match(text)
    assert found is not None
    begin = text.index(found.before + found.match + found.after)
    assert can_cut(text, begin)
    assert can_cut(text, begin + len(found.before))
    assert can_cut(text, begin + len(found.before) + len(found.match))
    assert can_cut(text, begin + len(found.before) + len(found.match) + len(found.after))


@given(TEXTS, st.data())
def test_the_span_of_a_part_is_as_short_as_it_can_be(text: str, data: st.DataObject) -> None:
    fold = folded(text)
    start = data.draw(st.integers(0, len(fold)))
    end = data.draw(st.integers(start, len(fold)))
    first, last = original_span(text, start, end)
    if end > start and not any(
        6 <= unicodedata.combining(part) <= 132 or "\u1100" <= part <= "\u11ff" for part in fold
    ):
        assert fold[start:end] in folded(text[first:last])
        assert len(folded(text[: first + 1])) > start
        assert len(folded(text[: last - 1])) < end


def test_an_excerpt_begins_and_ends_at_words() -> None:
    text = "word " * 40 + "NEEDLE" + " more" * 40
    assert Query("needle").first_match(text) == Excerpt(
        before="word " * 16, match="NEEDLE", after=" more" * 16
    )
    found = Query("needle").first_match("abcdefg " * 20 + "needle" + " hijklm" * 20)
    assert found == Excerpt("abcdefg " * 10, "needle", " hijklm" * 11)


def test_a_text_without_spaces_has_an_excerpt_too() -> None:
    found = Query("山").first_match("川" * 200 + "山" + "川" * 200)
    assert found == Excerpt("川" * 80, "山", "川" * 80)


def test_the_earliest_word_is_shown_with_its_marks() -> None:
    found = Query("late early").first_match("so EA\u0301RLY, not láte")
    assert found == Excerpt("so ", "EA\u0301RLY", ", not láte")


@pytest.mark.parametrize(
    "whole", ["e\u0301", "🇩🇪", "👩\u200d👧", "👍🏽", "क्ष", "\u1100\u1161", "❤\ufe0f", "กำ", "\r\n"]
)
def test_what_a_reader_sees_as_one_is_not_cut(whole: str) -> None:
    assert not any(can_cut(f"x{whole}y", 1 + at) for at in range(1, len(whole)))
    assert can_cut(f"x{whole}y", 1)
    assert can_cut(f"x{whole}y", 1 + len(whole))
