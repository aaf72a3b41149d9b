"""A listener that reflects: what somebody said, turned round and given back as a question.

After the manner of Weizenbaum's ELIZA ("ELIZA: A Computer Program For the Study of Natural Language
Communication Between Man and Machine", CACM 9(1), 1966): the weightiest rule whose pattern is found
gives the answer, with what the pattern caught put in it from the listener's side. It understands
nothing, and says so when it is asked. Words of crisis go before every rule.

It is pure: what it says follows from what the person has said so far, and from nothing else.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from examples.responder.crisis import POINTER, REMINDER, is_of_crisis

_REMINDED = 3
"""How many replies after words of crisis come with a reminder."""
_LONGEST_ECHO = 80
"""How many characters of what was said are given back at most: more reads like a machine."""


@dataclass(frozen=True, slots=True)
class _Rule:
    pattern: re.Pattern[str]
    answers: tuple[str, ...]
    """Taken in turn. `{}` stands for what the pattern's group caught, reflected."""


def _rule(pattern: str, *answers: str) -> _Rule:
    return _Rule(re.compile(pattern, re.IGNORECASE), answers)


# What ends a clause ends what is given back.
_REST = r"([^.!?;:\n,]+)"

# The first that is found answers: the weightier stand before the others.
_RULES = (
    _rule(
        r"\b(?:are|r) (?:you|u) (?:a |an )?(?:real|human|person|robot|bot|machine|computer|program"
        r"|ai|alive)\b|\bam i talking to\b|\bwho are you\b|\bwhat are you\b",
        "I am a computer program with a handful of rules, and no person. I give back what you say"
        " so that you can look at it. What made you wonder?",
    ),
    _rule(
        r"\b(?:thanks|thank you)\b",
        "You are welcome. Is there something else that wants to be said?",
        "I am glad if it helped. What would you like to do with the rest of the day?",
    ),
    _rule(
        r"^\W*(?:hi|hello|hey|good (?:morning|afternoon|evening))\b[\s!.,]*$",
        "Hello. What is on your mind today?",
        "Hello again. Where would you like to begin?",
    ),
    _rule(
        r"\bi (?:can't|cannot|can not|cant) sleep\b|\b(?:insomnia|sleepless)\b",
        "Nights can be long. What goes through your mind while you lie awake?",
        "When did you last sleep well, and what was different then?",
    ),
    _rule(
        rf"\bi(?:'m| am) (?:so |very |really |just |always |a bit )*afraid (?:of |that )?{_REST}",
        "What is the worst that could happen with {}?",
        "When you think of {}, where do you feel the fear?",
    ),
    _rule(
        rf"\bi (?:can't|cannot|can not|cant) {_REST}",
        "What stands in the way when you try to {}?",
        "Was there a time when you could {}?",
        "Suppose that you could {}. What would be different?",
    ),
    _rule(
        rf"\bi (?:need|want|would like|long) to {_REST}",
        "What would be different if you could {}?",
        "What holds you back when you want to {}?",
    ),
    _rule(
        rf"\bi (?:need|want|wish for|would like|long for) {_REST}",
        "What would it mean to you to have {}?",
        "How long have you been missing this: {}?",
    ),
    _rule(
        rf"\bi(?:'m| am) (?:feeling |so |very |really |just |always )*{_REST}",
        "How long have you been {}?",
        "What is it like, being {}?",
        "Is there anything that helps a little when you are {}?",
    ),
    _rule(
        rf"\bi feel (?:so |very |really |just |like )*{_REST}",
        "You feel {}. When did it begin?",
        "Where in your day do you feel {} the most?",
        "Who knows that you feel {}?",
    ),
    _rule(
        rf"\bi (?:remember|keep thinking (?:about|of)|think (?:about|of)) {_REST}",
        "What comes with the thought of {}?",
        "What else belongs to {}?",
    ),
    _rule(
        r"\bmy ((?:\w+[- ])?(?:mother|mum|mom|father|dad|parents|sister|brother|son|daughter"
        r"|children|kids|wife|husband|partner|girlfriend|boyfriend|family|friends?))\b",
        "Tell me more about your {}.",
        "What is it like between you and your {}?",
        "What would your {} say if they heard you now?",
    ),
    _rule(
        r"\bmy ((?:\w+[- ])?(?:work|job|boss|office|school|studies|exams?|colleagues?))\b",
        "How much of your thoughts goes to your {}?",
        "What would a good day with your {} look like?",
    ),
    _rule(
        rf"\bbecause {_REST}",
        "Is that the whole reason: {}?",
        "And if it were not so, {}, what would change?",
    ),
    _rule(
        rf"\b(?:nobody|no one|everybody|everyone) {_REST}",
        "Whom do you think of first when you say that?",
        "Is there one person of whom it is not true?",
    ),
    _rule(
        r"\b(?:always|never|every time)\b",
        "Can you think of one time when it was otherwise?",
        "When was the last time?",
    ),
    _rule(
        r"\b(?:tired|exhausted|worn out|overwhelmed|stressed|burnt out)\b",
        "That sounds like a lot. Which part of it weighs most today?",
        "If you could put one thing down for an evening, which would it be?",
    ),
    _rule(
        r"\b(?:sad|lonely|alone|crying|cried|miss|grief|lost|hopeless|empty)\b",
        "That sounds heavy. Would you like to say more about it?",
        "I am listening. What hurts most about it?",
    ),
    _rule(
        r"\b(?:angry|furious|annoyed|hate|unfair|mad at)\b",
        "What was it that went too far?",
        "If the anger could speak, what would it ask for?",
    ),
    _rule(
        r"\b(?:happy|glad|relieved|proud|grateful|better|calm)\b",
        "It is good to hear that. What made it possible?",
        "What would help you keep a little of it for tomorrow?",
    ),
    _rule(
        r"\?\s*$",
        "What answer would you like best?",
        "I know no answer to that. What comes to your own mind when you ask it?",
    ),
    _rule(
        r"^\W*(?:yes|yeah|yep|sure|right|true|no|nope|not really|maybe|perhaps)\b\W*$",
        "Can you say a little more about that?",
        "What are you thinking of?",
    ),
)
_OTHERWISE = (
    "I am listening. Please go on.",
    "What is it about this that stays with you?",
    "How do you feel as you write this?",
    "What would you like to happen next?",
)
_SPOKEN_OF = re.compile(r"\bmy (\w+)", re.IGNORECASE)
_COME_BACK = "Earlier you spoke of your {}. Does that have to do with it?"

# What is said of oneself, as the other says it; of a form and its beginning, the longer first.
_TURNED = {
    "i am": "you are",
    "i was": "you were",
    "i'm": "you're",
    "i've": "you've",
    "i'd": "you'd",
    "i'll": "you'll",
    "i": "you",
    "me": "you",
    "myself": "yourself",
    "my": "your",
    "mine": "yours",
    "you are": "I am",
    "you were": "I was",
    "you're": "I'm",
    "yourself": "myself",
    "yours": "mine",
    "your": "my",
    "you": "I",
}
_TO_YOU = re.compile(r"\b(to|with|for|at|from|of|by|about|on|than) you\b|\byou$", re.IGNORECASE)
_ONE = re.compile(rf"\b(?:{'|'.join(_TURNED)})(?![\w'])", re.IGNORECASE)
_OTHER = "\0"
_APOSTROPHE = "\N{RIGHT SINGLE QUOTATION MARK}"


def reply_to(said: Sequence[str]) -> str:
    """What the listener says to a person, who has said these things, the last one just now."""
    *before, now = (text.replace(_APOSTROPHE, "'") for text in said)
    if is_of_crisis(now):
        return POINTER
    answer = _answer(now, before)
    if any(map(is_of_crisis, before[-_REMINDED:])):
        return f"{answer} {REMINDER}"
    return answer


def _answer(now: str, before: Sequence[str]) -> str:
    for rule in _RULES:
        found = rule.pattern.search(now)
        if found is None:
            continue
        caught = _reflected(found[1]) if found.re.groups else ""
        turn = sum(rule.pattern.search(text) is not None for text in before)
        answer = rule.answers[turn % len(rule.answers)]
        if "{}" in answer and not 0 < len(caught) <= _LONGEST_ECHO:
            continue
        return answer.replace("{}", caught)
    return _without_a_rule(before)


def _without_a_rule(before: Sequence[str]) -> str:
    """Something that fits always; each third time, what was spoken of before."""
    turn = len(before)
    if turn % 3 == 2:  # noqa: PLR2004 - each third time
        for text in reversed(before):
            spoken_of = _SPOKEN_OF.search(text)
            if spoken_of:
                return _COME_BACK.replace("{}", spoken_of[1])
    return _OTHERWISE[turn % len(_OTHERWISE)]


def _reflected(text: str) -> str:
    """What somebody said, from the other side: "my sister left me" is "your sister left you"."""
    # Whom something is done to is told from who does it by what stands before it, or nothing after.
    marked = _TO_YOU.sub(lambda found: f"{found[1]} {_OTHER}" if found[1] else _OTHER, text.strip())
    turned = _ONE.sub(lambda found: _TURNED[found[0].lower()], marked)
    return turned.replace(_OTHER, "me")
