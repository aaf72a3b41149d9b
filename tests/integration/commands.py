"""Running a service's commands, as an operator does."""

import subprocess
import sys
from dataclasses import dataclass

from local.stack import Stack


@dataclass(frozen=True)
class Done:
    """A command that has ended: its exit code, and all that it told."""

    code: int
    told: str


def run_command(stack: Stack, service: str, *arguments: str, **settings: str) -> Done:
    """Runs `python -m services.<service> …` with the service's own settings.

    `settings` are others instead, by their names without the prefix.
    """
    own = {f"INGLENOOK_{name.upper()}": value for name, value in settings.items()}
    done = subprocess.run(
        [sys.executable, "-m", f"services.{service}", *arguments],
        env={**stack.service(service).environment, **own},
        capture_output=True,
        text=True,
        check=False,
    )
    return Done(done.returncode, done.stdout + done.stderr)
