"""What is always so of stored sessions."""

from sqlalchemy import Text, func, literal, select

from services.runtime.checks import Check, DifferenceRow
from services.runtime.database import statement
from services.sessions.store import ERASED, PEOPLE, SESSIONS

_highest = (
    select(SESSIONS.c.user_id, func.max(SESSIONS.c.revision).label("revision"))
    .group_by(SESSIONS.c.user_id)
    .subquery("highest")
)
_revision = func.coalesce(PEOPLE.c.revision, literal(0))

CHECKS = (
    Check(
        "no session has a revision above its person's",
        statement(
            select(
                _highest.c.user_id.cast(Text).label("about"),
                _revision.label("found"),
                _highest.c.revision.label("expected"),
            )
            .select_from(_highest.outerjoin(PEOPLE, PEOPLE.c.user_id == _highest.c.user_id))
            .where(_revision < _highest.c.revision),
            DifferenceRow,
        ),
    ),
    Check(
        "nothing is left of an erased person",
        statement(
            select(
                SESSIONS.c.user_id.cast(Text).label("about"),
                func.count().label("found"),
                literal(0).label("expected"),
            )
            .select_from(SESSIONS.join(ERASED.table, ERASED.table.c.user_id == SESSIONS.c.user_id))
            .group_by(SESSIONS.c.user_id),
            DifferenceRow,
        ),
    ),
)
