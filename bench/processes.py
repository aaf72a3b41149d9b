"""What processes take of the machine: processor time and memory."""

from dataclasses import dataclass

import psutil

_KIBIBYTE = 1 << 10


@dataclass(frozen=True, slots=True)
class Memory:
    """What a process holds, in bytes."""

    resident: int
    peak: int
    """The most that it ever held."""


def cpu_seconds(pid: int, *, children: bool = False) -> float:
    """The processor time that a process has taken, with its living children's if asked for."""
    process = psutil.Process(pid)
    counted = [process, *(process.children() if children else [])]
    times = [one.cpu_times() for one in counted]
    return sum(taken.user + taken.system for taken in times)


def cpu_seconds_by_thread(pid: int) -> dict[int, float]:
    """The processor time that each thread of a process has taken, by its id."""
    return {
        thread.id: thread.user_time + thread.system_time for thread in psutil.Process(pid).threads()
    }


def memory(pid: int) -> Memory:
    """What a process holds now and held at most."""
    resident = psutil.Process(pid).memory_info().rss
    with open(f"/proc/{pid}/status") as status:  # noqa: PTH123 - no file, the kernel's view
        lines = dict(line.split(":", 1) for line in status if ":" in line)
    return Memory(resident, int(lines["VmHWM"].split()[0]) * _KIBIBYTE)
