"""How many bytes the envelopes of messages take, as the database sees it: SQL and nothing else.

A conversation's row keeps the sum of its messages (`CONVERSATIONS`), so that a person's total is
read without reading what was said. What a write takes away is read in the statement that writes:
the conversation is locked by then, and nobody else changes it.
"""

from sqlalchemy import BigInteger, Uuid, bindparam, func, literal, select

from services.messages.tables import CONVERSATIONS, MESSAGES, PARTS, PERSON, SESSION

_CONVERSATION = CONVERSATIONS.c
_MESSAGE = MESSAGES.c
_PART = PARTS.c
_ID = bindparam("message", type_=Uuid)
_NONE = literal(0, BigInteger)

_of_message = func.coalesce(func.octet_length(_MESSAGE.body), _NONE) + func.coalesce(
    func.octet_length(_MESSAGE.original), _NONE
)
THIS_MESSAGE_BYTES = (
    select(_of_message)
    .where(_MESSAGE.session_id == SESSION, _MESSAGE.user_id == PERSON, _MESSAGE.message_id == _ID)
    .scalar_subquery()
)
"""What the message named by `message`, which is there, takes without its parts."""
THESE_PARTS_BYTES = (
    select(func.coalesce(func.sum(func.octet_length(_PART.body)), _NONE))
    .where(_PART.session_id == SESSION, _PART.user_id == PERSON, _PART.message_id == _ID)
    .scalar_subquery()
)
"""What the parts of the message named by `message` take."""

CONVERSATION_BYTES = (
    select(func.coalesce(func.sum(_of_message).cast(BigInteger), _NONE))
    .where(
        _MESSAGE.session_id == _CONVERSATION.session_id, _MESSAGE.user_id == _CONVERSATION.user_id
    )
    .scalar_subquery()
    + select(func.coalesce(func.sum(func.octet_length(_PART.body)), _NONE))
    .where(_PART.session_id == _CONVERSATION.session_id, _PART.user_id == _CONVERSATION.user_id)
    .scalar_subquery()
)
"""What a conversation that is not deleted takes, counted from its messages and their parts."""
