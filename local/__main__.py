"""`python -m local run`: the whole system on this machine, until Ctrl-C."""

import argparse
import os
import signal
import sys
import threading
import time
from pathlib import Path

from local.processes import ProcessDiedError
from local.stack import Ports, Stack, StackError

_ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Runs the command that the program was started with."""
    parser = argparse.ArgumentParser(prog="python -m local", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run", help="run everything until Ctrl-C")
    parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        _run(stop)
    except (ProcessDiedError, StackError, RuntimeError) as error:
        sys.exit(str(error))


def _run(stop: threading.Event) -> None:
    started = time.monotonic()
    home = Path(os.environ.get("INGLENOOK_HOME", _ROOT / ".inglenook"))
    database_url = os.environ.get("DATABASE_URL")
    with Stack(home, _ports(), database_url=database_url) as stack:
        print(_welcome(stack, time.monotonic() - started), flush=True)
        while not stop.wait(0.25):
            stack.check()
    print("Stopped.", flush=True)


def _ports() -> Ports:
    first = int(os.environ.get("INGLENOOK_SERVICE_PORT", "50051"))
    gateway = int(os.environ.get("INGLENOOK_PORT", "8080"))
    return Ports(gateway=gateway, users=first, sessions=first + 1, messages=first + 2)


def _welcome(stack: Stack, seconds: float) -> str:
    data = "DATABASE_URL" if stack.postgres is None else str(stack.postgres.data)
    return (
        f"Inglenook runs at {stack.url} (users, sessions, messages, gateway; PostgreSQL in {data};"
        f" logs in {stack.home.logs}; ready after {seconds:.1f} s; Ctrl-C stops it). Try:\n"
        f'curl -s {stack.url}/v1/sessions -d \'{{"title": "A first talk"}}\''
        f" -H 'Authorization: Bearer {stack.token('alice')}'"
    )


if __name__ == "__main__":
    main()
