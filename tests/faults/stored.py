"""What must be so of all tables of all services once nothing is owed any more."""

import asyncio
import sys
from pathlib import Path

from local.stack import Stack
from services import SERVICES
from tests.integration.eventually import content, rows

_COMPLAINTS = ("INTERNAL_FAULT", "DATA_UNREADABLE", "was never retrieved")

# Each finds what must not be. They look over the services' borders, which no service can.
_ORPHANS = {
    "part of a message that does not grow": """
        SELECT part.message_id FROM messages.message_parts AS part
        LEFT JOIN messages.messages AS message USING (session_id, user_id, message_id)
        WHERE message.state IS DISTINCT FROM 2
    """,
    "message of a conversation that is gone": """
        SELECT message.message_id FROM messages.messages AS message
        LEFT JOIN messages.conversations AS conversation USING (session_id, user_id)
        WHERE conversation.session_id IS NULL OR conversation.delete_time IS NOT NULL
    """,
    "data key of a conversation that is gone": """
        SELECT key.key_id FROM messages.data_keys AS key
        LEFT JOIN messages.conversations AS conversation USING (session_id, user_id)
        WHERE conversation.session_id IS NULL OR conversation.delete_time IS NOT NULL
    """,
    "conversation of a session that is gone": """
        SELECT conversation.session_id FROM messages.conversations AS conversation
        LEFT JOIN sessions.sessions AS session USING (session_id, user_id)
        WHERE conversation.delete_time IS NULL
        AND (session.session_id IS NULL OR session.delete_time IS NOT NULL)
    """,
    "session that is there for its owner and not for messages": """
        SELECT session.session_id FROM sessions.sessions AS session
        JOIN messages.conversations AS conversation USING (session_id, user_id)
        WHERE session.delete_time IS NULL AND conversation.delete_time IS NOT NULL
    """,
    "count that is not that of the messages": """
        SELECT session.session_id FROM sessions.sessions AS session
        LEFT JOIN messages.conversations AS conversation USING (session_id, user_id)
        WHERE session.delete_time IS NULL
        AND session.message_count != coalesce(conversation.message_count, 0)
    """,
    "session of nobody": """
        SELECT session.session_id FROM sessions.sessions AS session
        LEFT JOIN sessions.people AS person USING (user_id)
        WHERE person.user_id IS NULL
    """,
    "title of a deleted session": """
        SELECT session_id FROM sessions.sessions
        WHERE delete_time IS NOT NULL AND title != ''
    """,
    "data key of a person without a profile": """
        SELECT key.key_id FROM users.data_keys AS key
        LEFT JOIN users.users AS person USING (user_id)
        WHERE person.user_id IS NULL
    """,
    "data key of a person without sessions": """
        SELECT key.key_id FROM sessions.data_keys AS key
        LEFT JOIN sessions.people AS person USING (user_id)
        WHERE person.user_id IS NULL
    """,
}


def orphans(stack: Stack) -> dict[str, list[str]]:
    """What is left of something that is gone, by what it is."""
    found = {
        what: [str(thing) for (thing,) in rows(stack, query)] for what, query in _ORPHANS.items()
    }
    return {what: things for what, things in found.items() if things}


async def differences(stack: Stack) -> list[str]:
    """What the services' own checks find: `python -m services.<name> check`."""
    told = await asyncio.gather(*(_check(stack, name) for name in SERVICES))
    return [lines for code, lines in told if code]


async def _check(stack: Stack, name: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"services.{name}", "check"),
        env=dict(stack.service(name).environment),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return process.returncode, f"{name}:\n{said.decode()}"


def data_keys(stack: Stack, owner: object) -> dict[str, str]:
    """A person's data keys in all services by their ids, each with the session that it is for."""
    columns = {"users": "''", "sessions": "''", "messages": "session_id::text"}
    return {
        str(key): str(session)
        for service, column in columns.items()
        for key, session in rows(
            stack,
            f"SELECT key_id, {column} FROM {service}.data_keys WHERE user_id = %s",  # noqa: S608
            owner,
        )
    }


def growing(stack: Stack) -> int:
    """How many messages grow."""
    ((count,),) = rows(stack, "SELECT count(*) FROM messages.messages WHERE state = 2")
    return int(count)


def complaints(stack: Stack) -> list[str]:
    """The lines of the services' logs that tell of a fault of the code, whoever was told of it."""
    return [
        line
        for name in SERVICES
        for log in stack.home.logs.glob(f"{name}*.log")
        for line in log.read_text().splitlines()
        if any(word in line for word in _COMPLAINTS)
    ]


def files_with(folder: Path, word: bytes) -> list[str]:
    """The files below a folder that hold a word."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return [str(file) for file in files if word in content(file)]
