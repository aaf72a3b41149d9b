"""What is always so of stored conversations."""

from sqlalchemy import Text, case, func, literal, select

from services.messages.erasing import PURGE
from services.messages.sizes import CONVERSATION_BYTES
from services.messages.tables import CONVERSATIONS, DATA_KEYS, ERASED, MESSAGES, OUTBOX
from services.runtime.checks import Check, DifferenceRow
from services.runtime.database import statement

_CONVERSATION = CONVERSATIONS.c
_MESSAGE = MESSAGES.c
_KEY = DATA_KEYS.table.c
_about = func.concat_ws("/", _CONVERSATION.session_id.cast(Text), _CONVERSATION.user_id.cast(Text))
_truth = (
    select(
        func.count().filter(_MESSAGE.body.is_not(None)).label("messages"),
        func.coalesce(func.max(_MESSAGE.sequence), 0).label("sequence"),
        func.count().label("rows"),
    )
    .where(
        _MESSAGE.session_id == _CONVERSATION.session_id, _MESSAGE.user_id == _CONVERSATION.user_id
    )
    .lateral("truth")
)
_is_there = _CONVERSATION.delete_time.is_(None)
_bytes = case((_is_there, CONVERSATION_BYTES), else_=literal(0))
_orphaned = func.concat_ws("/", _MESSAGE.session_id.cast(Text), _MESSAGE.user_id.cast(Text))
_keyed = func.concat_ws("/", _KEY.session_id.cast(Text), _KEY.user_id.cast(Text))

CHECKS = (
    Check(
        "a conversation's message count is that of its messages",
        statement(
            select(
                _about.label("about"),
                _CONVERSATION.message_count.label("found"),
                _truth.c.messages.label("expected"),
            )
            .select_from(CONVERSATIONS.join(_truth, literal(1) == literal(1)))
            .where(_is_there, _CONVERSATION.message_count != _truth.c.messages),
            DifferenceRow,
        ),
    ),
    Check(
        "a conversation's sequences are dense, up to its last one",
        statement(
            select(
                _about.label("about"),
                _CONVERSATION.last_sequence.label("found"),
                case(
                    (_truth.c.sequence == _truth.c.rows, _truth.c.sequence), else_=_truth.c.rows
                ).label("expected"),
            )
            .select_from(CONVERSATIONS.join(_truth, literal(1) == literal(1)))
            .where(
                _is_there,
                (_CONVERSATION.last_sequence != _truth.c.sequence)
                | (_truth.c.sequence != _truth.c.rows),
            ),
            DifferenceRow,
        ),
    ),
    Check(
        "a conversation that is counted takes as many bytes as its messages",
        statement(
            select(
                _about.label("about"),
                _CONVERSATION.bytes.label("found"),
                _bytes.label("expected"),
            ).where(
                _CONVERSATION.counted_revision == _CONVERSATION.revision,
                _CONVERSATION.bytes != _bytes,
            ),
            DifferenceRow,
        ),
    ),
    Check(
        "every message is of a conversation",
        statement(
            select(
                _orphaned.label("about"),
                func.count().label("found"),
                literal(0).label("expected"),
            )
            .where(
                ~select(literal(1))
                .select_from(CONVERSATIONS)
                .where(
                    _CONVERSATION.session_id == _MESSAGE.session_id,
                    _CONVERSATION.user_id == _MESSAGE.user_id,
                )
                .exists()
            )
            .group_by(_MESSAGE.session_id, _MESSAGE.user_id),
            DifferenceRow,
        ),
    ),
    Check(
        "every data key is of a conversation that is not deleted",
        statement(
            select(_keyed.label("about"), func.count().label("found"), literal(0).label("expected"))
            .where(
                ~select(literal(1))
                .select_from(CONVERSATIONS)
                .where(
                    _CONVERSATION.session_id == _KEY.session_id,
                    _CONVERSATION.user_id == _KEY.user_id,
                    _is_there,
                )
                .exists()
            )
            .group_by(_KEY.session_id, _KEY.user_id),
            DifferenceRow,
        ),
    ),
    Check(
        "nothing is left of an erased person",
        statement(
            select(
                _CONVERSATION.user_id.cast(Text).label("about"),
                func.count().label("found"),
                literal(0).label("expected"),
            )
            .select_from(
                CONVERSATIONS.join(ERASED.table, ERASED.table.c.user_id == _CONVERSATION.user_id)
            )
            # What is still owed goes as soon as it is delivered.
            .where(
                ~select(literal(1))
                .select_from(OUTBOX.table)
                .where(
                    OUTBOX.table.c.session_id == _CONVERSATION.session_id,
                    OUTBOX.table.c.user_id == _CONVERSATION.user_id,
                    OUTBOX.table.c.kind == PURGE,
                )
                .exists()
            )
            .group_by(_CONVERSATION.user_id),
            DifferenceRow,
        ),
    ),
)
