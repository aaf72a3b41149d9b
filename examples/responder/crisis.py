"""Words of crisis: whether somebody may be about to harm themselves, and what they are told then.

It knows plain forms in English and the words that other languages share, and no more: it overlooks
much, and what it finds may be meant otherwise. It is the least that a program owes which listens,
and no safeguard to rely on.
"""

import re

POINTER = (
    "I am taking what you wrote seriously. I am a computer program: I cannot judge how much danger"
    " you are in, and I cannot call anyone for you. If you might act on this, please call the"
    " emergency number where you are now: 112 in Europe, 911 in the United States and Canada, 999"
    " in the United Kingdom, 000 in Australia. In the United States and Canada you can also call or"
    " text 988 at any hour; in other countries, findahelpline.com lists people who listen, free of"
    " charge. If somebody you trust is near, tell them how bad it is and ask them to stay with you."
    " You do not have to carry this alone."
)
"""What somebody in a crisis is told: where people are who can help."""

REMINDER = (
    "What you wrote earlier stays on my mind. If it comes back, call your emergency number, or the"
    " people at findahelpline.com."
)
"""What follows the reply for a while afterwards."""

_MYSELF = r"my ?self"
_NOT = r"(?:\bnot|n't|\bnever|\bdont)"
_LIFE = r"(?:my (?:own )?life|it all|everything)"
_WORDS = re.compile(
    "|".join(
        (
            r"\bsuicid\w*",
            r"\bsui[sz]id\w*",
            r"\bselbstmord\w*",
            rf"\bkill(?:ing|ed)? {_MYSELF}\b",
            rf"\b(?:end|ending|ended) {_LIFE}\b",
            r"\b(?:take|taking|took) my (?:own )?life\b",
            r"\b(?:want|wish|wanna|going|plan|planning|ready) (?:to |i could )?(?:just )?die\b",
            r"\bwish (?:that )?i (?:was|were) (?:dead|not alive|never born)\b",
            r"\bwant to be dead\b",
            r"\bbetter off (?:dead|without me)\b",
            rf"{_NOT} (?:really )?want to (?:be alive|exist|wake up)\b",
            rf"{_NOT} (?:really )?want to live\b(?! (?:here|there|with|in|at))",
            r"\b(?:nothing|no reason) (?:left )?to live(?: for)?\b",
            r"\b(?:can't|cannot|can not|cant) (?:go on|live) (?:any ?more|any longer|like this)\b",
            rf"\b(?:hurt|hurting|harm|harming|cut|cutting|burn|burning) {_MYSELF}\b",
            r"\bself[- ]?harm\w*",
            rf"\b(?:hang|shoot|drown|poison) {_MYSELF}\b",
            r"\boverdos\w+",
        )
    ),
    re.IGNORECASE,
)
_APOSTROPHES = str.maketrans(dict.fromkeys("\N{RIGHT SINGLE QUOTATION MARK}\N{ACUTE ACCENT}`", "'"))


def is_of_crisis(text: str) -> bool:
    """Whether a text has words of crisis."""
    return _WORDS.search(" ".join(text.translate(_APOSTROPHES).split())) is not None
