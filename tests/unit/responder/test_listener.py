"""The listener: what it gives back, what it never overlooks, and what it never claims."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.responder.crisis import POINTER, REMINDER, is_of_crisis
from examples.responder.listener import reply_to


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("I am afraid of my boss.", "What is the worst that could happen with your boss?"),
        ("I can't talk to you about it", "What stands in the way when you try to talk to me"),
        ("I want to leave my job!", "What would be different if you could leave your job?"),
        ("I need a rest", "What would it mean to you to have a rest?"),
        ("i\N{RIGHT SINGLE QUOTATION MARK}m so tired of myself", "you been tired of yourself?"),
        ("It is because you left me", "Is that the whole reason: I left you?"),
        ("It is because I was late", "Is that the whole reason: you were late?"),
        ("My little sister came.", "Tell me more about your little sister."),
        ("Nobody calls.", "Whom do you think of first when you say that?"),
        ("Why?", "What answer would you like best?"),
    ],
)
def test_what_somebody_says_is_given_back_from_the_other_side(said: str, answer: str) -> None:
    assert answer in reply_to([said])


def test_the_same_said_again_is_answered_otherwise() -> None:
    said = ["I am tired."]
    answers = []
    for _ in range(3):
        answers.append(reply_to(said))
        said.append("I am tired.")
    assert len(set(answers)) == 3


def test_without_anything_to_go_by_it_comes_back_to_what_was_spoken_of() -> None:
    assert "your garden" in reply_to(["My garden", "well", "hm"])


def test_what_is_too_long_to_be_given_back_is_not() -> None:
    assert "word word" not in reply_to([f"I want {'word ' * 60}"])


@pytest.mark.parametrize(
    "asked", ["Are you a real person?", "are you human", "Who are you?", "Am I talking to a bot?"]
)
def test_it_says_that_it_is_a_program(asked: str) -> None:
    assert "computer program" in reply_to([asked])


@pytest.mark.parametrize(
    "said",
    [
        "I want to die",
        "i just wanna die.",
        "I am going to kill myself tonight",
        "I have been thinking about suicide.",
        "feeling SUICIDAL again",
        "I don't want to live",
        "I don\N{RIGHT SINGLE QUOTATION MARK}t want  to be alive\nany more",
        "I do not want to wake up tomorrow",
        "I wish I were dead",
        "They would be better off without me",
        "there is no reason to live",
        "I can't go on like this",
        "I might end my life",
        "I want to end it all",
        "I keep cutting myself",
        "I hurt myself yesterday",
        "it is self-harm I suppose",
        "I took an overdose",
        "Ich denke an Suizid",
    ],
)
def test_words_of_crisis_get_a_plain_pointer_to_help(said: str) -> None:
    assert reply_to(["hello", said]) == POINTER


def test_the_pointer_names_help_and_claims_nothing() -> None:
    for needed in ("112", "911", "988", "findahelpline.com", "computer program", "cannot call"):
        assert needed in POINTER


@pytest.mark.parametrize(
    "said",
    [
        "I want to live in Lisbon",
        "I don't want to live with my parents",
        "The deadline is killing me",
        "I ended the meeting early",
        "My phone died",
    ],
)
def test_other_words_are_no_crisis(said: str) -> None:
    assert not is_of_crisis(said)


def test_for_a_while_after_a_crisis_it_reminds() -> None:
    said = ["I want to die"]
    reminded = []
    for word in ("yes", "no", "well", "hm"):
        said.append(word)
        reminded.append(REMINDER in reply_to(said))
    assert reminded == [True, True, True, False]


@given(st.lists(st.text(max_size=200), min_size=1, max_size=6))
def test_whatever_is_said_there_is_one_short_answer_and_always_the_same(said: list[str]) -> None:
    answer = reply_to(said)
    assert answer == reply_to(said)
    assert 0 < len(answer) < 1_000
    assert "{}" not in answer or any("{}" in text for text in said)
    assert "\0" not in answer or "\0" in said[-1]
