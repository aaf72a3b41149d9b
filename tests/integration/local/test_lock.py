import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from local.errors import StackError
from local.home import Home
from local.lock import locked


def test_a_second_launcher_on_a_home_is_refused_at_once(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with locked(home):
        started = time.monotonic()
        refusal = rf"runs already with the data in {tmp_path} \(process {os.getpid()}\)"
        with pytest.raises(StackError, match=refusal), locked(home):
            pass
        assert time.monotonic() - started < 1


def test_a_home_is_free_again_afterwards(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with locked(home):
        pass
    with locked(home):
        pass


def test_the_next_launcher_waits_for_what_a_killed_one_left_behind(tmp_path: Path) -> None:
    home = Home(tmp_path)
    # A launcher that is gone, and a child of its that holds the lock for a second.
    program = (
        "import pathlib, subprocess, sys\n"
        "from local.home import Home\n"
        "from local.lock import locked\n"
        "with locked(Home(pathlib.Path(sys.argv[1]))) as lock:\n"
        "    child = [sys.executable, '-c', 'import time; time.sleep(1)']\n"
        "    subprocess.Popen(child, pass_fds=[lock])\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)
    started = time.monotonic()
    with locked(home):
        assert time.monotonic() - started > 0.3
