"""What is always so of stored people."""

from sqlalchemy import Text, func, literal, select

from services.runtime.checks import Check, DifferenceRow
from services.runtime.database import statement
from services.users.store import DATA_KEYS, ERASED, USERS

CHECKS = tuple(
    Check(
        f"no {what} is left of an erased person",
        statement(
            select(
                table.c.user_id.cast(Text).label("about"),
                func.count().label("found"),
                literal(0).label("expected"),
            )
            .select_from(table.join(ERASED.table, ERASED.table.c.user_id == table.c.user_id))
            .group_by(table.c.user_id),
            DifferenceRow,
        ),
    )
    for what, table in (("profile", USERS), ("data key", DATA_KEYS.table))
)
