"""A stack for the client's tests: says where it answers, then does what each line of input asks.

A line is a JSON list: what to do, and its arguments by name. The answer is a line of JSON.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric import ed25519

from local.stack import Stack, free_ports
from services.runtime.identity import user_id_of
from services.runtime.jwks import write_signing_key
from services.runtime.service_tokens import ServiceTokens
from services.runtime.settings import DEVELOPMENT_ISSUER
from tests.ports import take_share
from tests.replies import Reply

_RESPONDERS_ISSUER = "inglenook-responders"
_FILES_AT_ONCE = 64
"""At most: as many as there are cores, and each has one stack."""


class Commands:
    """What a test may ask for."""

    def __init__(self, stack: Stack, responder: ServiceTokens) -> None:
        self._stack, self._responder = stack, responder
        self._replies: dict[str, Reply] = {}

    def token(self, person: str, lifetime: float = 3600) -> str:
        return self._stack.token(person, lifetime=lifetime)

    def restart(self, name: str) -> None:
        self._stack.restart(name)

    def kill(self, name: str) -> None:
        self._stack.kill(name)

    def start(self, name: str) -> None:
        self._stack.start_again(name)

    def reply(self, person: str, session: str, text: str) -> str:
        user: UUID = user_id_of(DEVELOPMENT_ISSUER, person)
        reply = Reply(self._stack, self._responder, person=user, session=session)
        reply.say(text)
        self._replies[reply.message_id] = reply
        return reply.message_id

    def more(self, message: str, text: str) -> None:
        self._replies[message].say(text)

    def finish(self, message: str) -> None:
        self._replies.pop(message).finish()

    def vanish(self, message: str) -> None:
        self._replies.pop(message).vanish()


def main() -> None:
    """Serves the test that started this, until it closes the input."""
    take_share(int(os.environ["VITEST_POOL_ID"]), _FILES_AT_ONCE)
    with tempfile.TemporaryDirectory(prefix="inglenook-client-") as name:
        folder = Path(name)
        # PostgreSQL's own user must get to its data below.
        folder.chmod(0o711)
        write_signing_key(folder / "responder", "responder", ed25519.Ed25519PrivateKey.generate())
        trusted = {
            "issuer": _RESPONDERS_ISSUER,
            "jwks_file": str(folder / "responder" / "jwks.json"),
            "audiences": ["inglenook"],
            "algorithms": ["EdDSA"],
            "kind": "service",
        }
        settings = {"INGLENOOK_ISSUERS": json.dumps([trusted])}
        responder = ServiceTokens(
            folder / "responder",
            issuer=_RESPONDERS_ISSUER,
            audience="inglenook",
            service="responder",
        )
        with Stack(folder / "home", free_ports(), settings=settings) as stack:
            commands = Commands(stack, responder)
            _say(stack.url)
            for line in sys.stdin:
                what, arguments = json.loads(line)
                _say(getattr(commands, what)(**arguments))


def _say(answer: object) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
