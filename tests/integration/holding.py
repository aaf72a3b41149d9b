"""Setting and lifting legal holds, as an operator does."""

import argparse
import asyncio
from uuid import UUID

from local.stack import Stack
from services.runtime.audit.chain import chain_key
from services.runtime.cursors import read_token_key
from services.runtime.database import Database
from services.sessions.hold_commands import hold_lines


def hold_command(
    stack: Stack,
    command: str,
    named: tuple[UUID, str],
    operator: str = "olga",
    reference: str = "",
) -> list[str]:
    """What `hold` or `release` says, run here: as a program it starts for longer than it runs.

    `named` are the ids of the person and the session.

    Raises:
        HoldError: as the command does.
    """
    person, session = named
    arguments = argparse.Namespace(
        command=command,
        person=person,
        session=UUID(session),
        operator=operator,
        reference=reference,
    )
    url = stack.service("sessions").environment["INGLENOOK_DATABASE_URL"]
    key = chain_key(read_token_key(stack.home.token_key_file("sessions")), "sessions")

    async def run() -> list[str]:
        async with Database(url, pool_size=1, name="a command") as database:
            return [line async for line in hold_lines(database, key, arguments)]

    # Not by `asyncio.run`, after which the thread has no event loop, which other tests count on.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(run())
