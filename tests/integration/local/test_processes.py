"""Supervision, with small programs in the place of servers."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from local.environment import inherited_environment
from local.errors import ProcessDiedError, StackError, StopRequestedError
from local.processes import Processes, ProcessSpec
from tests.integration.local.liveness import runs

GUARD = 60.0
# Says that it runs; when it is told to end, writes when it did.
_SERVER = """
import pathlib, signal, sys, time
name, folder = sys.argv[1], pathlib.Path(sys.argv[2])
def end(*_):
    with (folder / "ends").open("a") as ends: ends.write(name + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
(folder / name).touch()
print(name, "serves", flush=True)
while True: time.sleep(60)
"""
_STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
# A launcher that starts what its arguments name, and tells their process ids.
_LAUNCHER = """
import pathlib, sys, time
from tests_processes import spec_of
from local.processes import Processes
processes = Processes()
pids = [processes.start(spec_of(name, pathlib.Path(sys.argv[1]))) for name in sys.argv[2:]]
for name in sys.argv[2:]: processes.wait_until_ready(name, 60)
print(*pids, flush=True)
time.sleep(60)
"""


def _server(name: str, folder: Path) -> ProcessSpec:
    return _python(name, folder, _SERVER, ready=(folder / name).exists)


def _python(
    name: str, folder: Path, program: str, *, ready: Callable[[], bool] = lambda: True
) -> ProcessSpec:
    command = [sys.executable, "-c", program, name, str(folder)]
    return ProcessSpec(name, command, inherited_environment(), folder / f"{name}.log", ready)


def _gone(pid: int, seconds: float = GUARD) -> bool:
    try:
        process = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return True
    deadline = time.monotonic() + seconds
    while runs(process):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.fixture
def processes() -> Iterator[Processes]:
    started = Processes()
    yield started
    started.stop_all()


def test_the_last_that_was_started_is_the_first_that_is_stopped(tmp_path: Path) -> None:
    processes = Processes()
    for name in ("one", "two", "three"):
        processes.start(_server(name, tmp_path))
        processes.wait_until_ready(name, GUARD)
    pids = processes.pids().values()
    processes.stop_all()
    assert (tmp_path / "ends").read_text().split() == ["three", "two", "one"]
    assert all(_gone(pid, 0) for pid in pids)


def test_whoever_died_is_named_with_the_end_of_its_log(
    tmp_path: Path, processes: Processes
) -> None:
    processes.start(_server("well", tmp_path))
    program = (
        "import sys; print('\\n'.join(map(str, range(100))), flush=True); sys.exit('out of luck')"
    )
    processes.start(_python("ill", tmp_path, program))
    with pytest.raises(ProcessDiedError) as told:
        processes.wait_until(lambda: False, GUARD, "nobody died")
    text = str(told.value)
    assert text.startswith("ill ended by itself (exit code 1)")
    assert str(tmp_path / "ill.log") in text
    assert text.endswith("out of luck")
    assert "\n50\n" not in text


def test_the_log_of_an_earlier_run_is_not_shown_as_this_one_s(
    tmp_path: Path, processes: Processes
) -> None:
    (tmp_path / "mute.log").write_text("an old trouble\n")
    processes.start(_python("mute", tmp_path, "import os; os.kill(os.getpid(), 9)"))
    with pytest.raises(ProcessDiedError, match="signal 9") as told:
        processes.wait_until(lambda: False, GUARD, "nobody died")
    assert "an old trouble" not in str(told.value)
    assert "an old trouble" in (tmp_path / "mute.log").read_text()


def test_a_command_that_is_not_there_is_told_as_a_death(
    tmp_path: Path, processes: Processes
) -> None:
    spec = ProcessSpec("absent", ["/nowhere/absent"], {}, tmp_path / "absent.log")
    processes.start(spec)
    with pytest.raises(ProcessDiedError, match="/nowhere/absent: not found"):
        processes.wait_until(lambda: False, GUARD, "nobody died")


def test_a_job_may_end_and_a_failed_job_may_not(tmp_path: Path, processes: Processes) -> None:
    processes.run_to_end(_python("job", tmp_path, "print('done')"))
    assert processes.pids() == {}
    with pytest.raises(ProcessDiedError, match="job failed"):
        processes.run_to_end(_python("job", tmp_path, "raise SystemExit(3)"))


def test_whoever_is_killed_or_stopped_on_purpose_did_not_die(
    tmp_path: Path, processes: Processes
) -> None:
    killed = processes.start(_server("one", tmp_path))
    stopped = processes.start(_server("two", tmp_path))
    processes.wait_until_ready("two", GUARD)
    processes.kill("one")
    processes.stop("two")
    processes.check()
    assert _gone(killed, 0)
    assert _gone(stopped, 0)


def test_what_does_not_get_ready_is_told_with_where_its_log_is(
    tmp_path: Path, processes: Processes
) -> None:
    processes.start(_python("late", tmp_path, _SERVER, ready=lambda: False))
    with pytest.raises(StackError, match=f"late is not ready after 0 s: see {tmp_path}"):
        processes.wait_until_ready("late", 0.1)


def test_a_request_to_stop_ends_the_waiting(tmp_path: Path) -> None:
    request = tmp_path / "request"
    processes = Processes(stop_requested=request.exists)

    def ready() -> bool:
        request.touch()
        return False

    processes.start(_python("late", tmp_path, _SERVER, ready=ready))
    with pytest.raises(StopRequestedError):
        processes.wait_until_ready("late", GUARD)
    processes.stop_all()


def test_without_its_watchdog_nothing_goes_on(tmp_path: Path) -> None:
    processes = Processes()
    pid = processes.start(_server("one", tmp_path))
    watchdog = processes._watchdog._process
    watchdog.kill()
    watchdog.wait()
    with pytest.raises(ProcessDiedError, match="watchdog"):
        processes.check()
    processes.stop_all()
    assert _gone(pid, 0)


def _launch(folder: Path, *names: str) -> tuple["subprocess.Popen[str]", list[int]]:
    (folder / "tests_processes.py").write_text(
        "import sys; from local.environment import inherited_environment\n"
        "from local.processes import ProcessSpec\n"
        f"PROGRAMS = {{'stubborn': {_STUBBORN!r}}}\n"
        "def spec_of(name, folder):\n"
        f"    program = PROGRAMS.get(name, {_SERVER!r})\n"
        "    ready = (folder / name).exists if name not in PROGRAMS else (lambda: True)\n"
        "    command = [sys.executable, '-c', program, name, str(folder)]\n"
        "    log = folder / (name + '.log')\n"
        "    return ProcessSpec(name, command, inherited_environment(), log, ready)\n"
    )
    here = Path(__file__).resolve().parents[3]
    launcher = subprocess.Popen(
        [sys.executable, "-c", _LAUNCHER, str(folder), *names],
        cwd=here,
        env=inherited_environment() | {"PYTHONPATH": f"{here}:{folder}"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert launcher.stdout is not None
    return launcher, [int(pid) for pid in launcher.stdout.readline().split()]


def test_a_killed_launcher_leaves_no_orphan(tmp_path: Path) -> None:
    launcher, pids = _launch(tmp_path, "one", "two")
    assert len(pids) == 2
    assert all(psutil.pid_exists(pid) for pid in pids)
    with launcher:
        launcher.kill()
    assert all(_gone(pid) for pid in pids)
    # They were asked, not just killed.
    assert sorted((tmp_path / "ends").read_text().split()) == ["one", "two"]


def test_what_ignores_its_signal_is_no_orphan_either(tmp_path: Path) -> None:
    launcher, (pid,) = _launch(tmp_path, "stubborn")
    with launcher:
        launcher.kill()
    assert _gone(pid, 30)


def test_nothing_begins_that_the_watchdog_does_not_know_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes = Processes()

    def die(*_: object) -> None:
        raise InterruptedError

    monkeypatch.setattr(processes._watchdog, "started", die)
    with pytest.raises(InterruptedError):
        processes.start(_server("one", tmp_path))
    (pid,) = processes.pids().values()
    assert os.waitpid(pid, 0)[1] != 0
    assert not (tmp_path / "one").exists()
    with pytest.raises(ProcessDiedError):
        processes.check()
    processes.stop_all()


def test_signals_are_sent_as_the_process_wants_them(tmp_path: Path) -> None:
    processes = Processes()
    # Whoever runs the tests in the background may have left this signal ignored.
    program = """
import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    print("up", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    print("interrupted")
"""
    spec = _python("one", tmp_path, program)
    log = spec.log
    processes.start(
        ProcessSpec(
            spec.name,
            spec.command,
            spec.environment,
            log,
            stop_signal=signal.SIGINT,
            ready=lambda: "up" in log.read_text(),
        )
    )
    processes.wait_until_ready("one", GUARD)
    processes.stop_all()
    assert log.read_text().split() == ["up", "interrupted"]
