"""`python -m local run`: the whole system on this machine, until Ctrl-C."""

import argparse
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import httpx

from local.demonstration import PERSON, tell_example
from local.errors import StackError, StopRequestedError
from local.stack import Ports, Stack

_ROOT = Path(__file__).resolve().parent.parent
_CHECK_SECONDS = 0.25
_HIGHEST_PORT = 65535


class _StopRequest:
    """Whether a signal told the launcher to stop.

    A plain flag: an Event's lock may be held by the very code that the signal interrupts.
    """

    def __init__(self) -> None:
        self._made = False

    def __call__(self) -> bool:
        return self._made

    def listen(self) -> None:
        """From now on, the signals that ask a program to end are requests."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._make)

    def _make(self, *_: object) -> None:
        self._made = True


def main() -> None:
    """Runs the command that the program was started with."""
    parser = argparse.ArgumentParser(prog="python -m local", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run", help="run everything until Ctrl-C")
    parser.parse_args()
    stop = _StopRequest()
    stop.listen()
    try:
        _run(stop)
    except StopRequestedError:
        print("Stopped.", flush=True)
    except (StackError, OSError) as error:
        sys.exit(str(error))


def _run(stop: _StopRequest) -> None:
    started = time.monotonic()
    web = _web()
    stack = Stack(
        Path(os.environ.get("INGLENOOK_HOME") or _ROOT / ".inglenook"),
        _ports(),
        database_url=_database_url(),
        settings={"INGLENOOK_DEVELOPMENT_PERSON": PERSON} | _settings(),
        web=web,
        stop_requested=stop,
    )
    with stack:
        if web is not None and stack.is_for_development:
            _tell_example(stack)
        print(_welcome(stack, time.monotonic() - started), flush=True)
        while True:
            stack.check()
            time.sleep(_CHECK_SECONDS)


def _web() -> Path | None:
    """The web app, if it was built."""
    built = _ROOT / "web" / "dist"
    return built if (built / "index.html").exists() else None


def _tell_example(stack: Stack) -> None:
    try:
        tell_example(stack)
    except httpx.HTTPError as error:
        # The system runs; that there is nothing to look at yet is no reason to stop it.
        print(f"The example conversation was not made: {error}", flush=True)


def _database_url() -> str | None:
    given = os.environ.get("DATABASE_URL") or None
    if given is not None and not given.startswith(("postgresql://", "postgres://")):
        raise StackError("DATABASE_URL does not begin with postgresql://")
    return given


def _settings() -> dict[str, str]:
    """The user's own settings of the services and the gateway, and of their traces."""
    # The one that opens the whole database is for migrations alone, which are given theirs.
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith(("INGLENOOK_", "OTEL_")) and name != "INGLENOOK_ADMIN_DATABASE_URL"
    }


def _ports() -> Ports:
    gateway = _port("INGLENOOK_PORT", 8080)
    first = _port("INGLENOOK_SERVICE_PORT", 50051)
    ports = Ports(
        gateway=gateway,
        users=first,
        sessions=first + 1,
        messages=first + 2,
        responder=first + 3,
    )
    if not os.environ.get("INGLENOOK_METRICS_PORT"):
        return ports
    shown = _port("INGLENOOK_METRICS_PORT", 0)
    return replace(
        ports,
        users_metrics=shown,
        sessions_metrics=shown + 1,
        messages_metrics=shown + 2,
        gateway_metrics=shown + 3,
        responder_metrics=shown + 4,
    )


def _port(variable: str, default: int) -> int:
    given = os.environ.get(variable) or str(default)
    if not given.isdecimal() or not 0 < int(given) <= _HIGHEST_PORT - 4:
        raise StackError(f"{variable} is not a port: {given}")
    return int(given)


def _welcome(stack: Stack, seconds: float) -> str:
    look = "" if _web() is None else f" Open {stack.url} in a browser."
    runs = (
        f"Inglenook runs at {stack.url} (users, sessions, messages, responder, gateway;"
        f" PostgreSQL in {_data(stack)}; logs in {stack.home.logs}; ready after {seconds:.1f} s;"
        f" Ctrl-C stops it).{look}"
    )
    if not stack.is_for_development:
        return f"{runs} The issuers in INGLENOOK_ISSUERS sign people in."
    return (
        f"{runs} Try:\n"
        f'curl -s {stack.url}/v1/sessions -d \'{{"title": "A first talk"}}\''
        f" -H 'Authorization: Bearer {stack.token('alice')}'"
    )


def _data(stack: Stack) -> str:
    if stack.postgres is None:
        return "DATABASE_URL"
    data = stack.postgres.data
    if data.is_relative_to(stack.home.folder):
        return str(data)
    return f"{data}, since its user cannot reach {stack.home.folder}"


if __name__ == "__main__":
    main()
