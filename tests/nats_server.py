"""A real NATS server, which lets in who has the nkey in its file and nobody else."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import nkeys

from local.stack import free_ports

_DEADLINE_SECONDS = 30.0


class NatsServer:
    """A server on a port of its own, the same one however often it is started."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_ports().gateway
        self._process: subprocess.Popen[bytes] | None = None
        self.credentials = folder / "user.nk"
        seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
        self.credentials.write_bytes(seed)
        public_key = nkeys.from_seed(bytearray(seed)).public_key.decode()
        self._configuration = folder / "nats.conf"
        self._configuration.write_text(
            f"authorization {{ users = [ {{ nkey: {public_key} }} ] }}\n"
        )

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self._port}"

    def start(self) -> None:
        command = [
            *(str(Path(sys.executable).with_name("nats-server")), "-a", "127.0.0.1"),
            *("-p", str(self._port), "-c", str(self._configuration)),
            *("--ports_file_dir", str(self._folder)),
        ]
        with (self._folder / "nats.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        ports = self._folder / f"nats-server_{self._process.pid}.ports"
        deadline = time.monotonic() + _DEADLINE_SECONDS
        while not ports.exists() or not ports.read_text():
            assert self._process.poll() is None, (self._folder / "nats.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        (listening,) = json.loads(ports.read_text())["nats"]
        self._port = int(listening.rpartition(":")[2])

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(_DEADLINE_SECONDS)
            self._process = None
