"""A launcher as `make run` starts it, in a home and on ports of its own."""

import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import psutil

from contract.folders import ROOT
from local.home import PROGRAMS
from local.stack import free_ports


class Launcher:
    """`python -m local run`, of this version or of the one whose files are at `root`."""

    def __init__(self, home: Path, *, root: Path = ROOT, **settings: str) -> None:
        port = free_ports().gateway
        self.home = home
        self.url = f"http://localhost:{port}"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "local", "run"],
            cwd=root,
            env={
                **{k: v for k, v in os.environ.items() if not k.startswith("INGLENOOK_")},
                "PYTHONPATH": f"{root}{os.pathsep}{root / 'generated'}",
                "INGLENOOK_HOME": str(home),
                "INGLENOOK_PORT": str(port),
                "INGLENOOK_SERVICE_PORT": str(_first_of_free_ports()),
                **settings,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def welcome(self) -> tuple[str, str]:
        """Waits until all of it runs: the line that says so, and the command to try."""
        assert self.process.stdout is not None
        says, curl = (self.process.stdout.readline() for _ in range(2))
        assert curl.startswith("curl "), self.process.communicate(timeout=120)
        return says, curl

    def wait_for(self, log: str) -> None:
        deadline = time.monotonic() + 60
        while not (self.home / "logs" / log).exists():
            assert time.monotonic() < deadline
            assert self.process.poll() is None
            time.sleep(0.01)

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self, number: int = 0) -> tuple[int, str, str]:
        """Sends a signal and waits for the end: exit code, output, errors."""
        self.process.send_signal(number)
        output, errors = self.process.communicate(timeout=120)
        return self.process.returncode, output, errors


def _first_of_free_ports() -> int:
    """One for each program in a row, as the launcher takes them."""
    while True:
        first = free_ports().users
        with ExitStack() as probes:
            try:
                for port in range(first, first + len(PROGRAMS)):
                    probes.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return first
