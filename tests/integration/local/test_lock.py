import os
import subprocess
import sys
from pathlib import Path

import pytest

from local.errors import StackError
from local.home import Home
from local.lock import locked


def test_a_second_launcher_on_a_home_is_refused(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with locked(home):
        refusal = rf"runs already with the data in {tmp_path} \(process {os.getpid()}\)"
        with pytest.raises(StackError, match=refusal), locked(home):
            pass


def test_a_home_is_free_again_afterwards(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with locked(home):
        pass
    with locked(home):
        pass


def test_the_next_launcher_waits_for_what_a_killed_one_left_behind(tmp_path: Path) -> None:
    home = Home(tmp_path)
    left = tmp_path / "left"
    # A launcher that is gone, and a child of its that holds the lock until it leaves.
    child = "import pathlib, sys, time; time.sleep(1); pathlib.Path(sys.argv[1]).touch()"
    program = (
        "import pathlib, subprocess, sys\n"
        "from local.home import Home\n"
        "from local.lock import locked\n"
        "with locked(Home(pathlib.Path(sys.argv[1]))) as lock:\n"
        "    subprocess.Popen([sys.executable, '-c', *sys.argv[2:]], pass_fds=[lock])\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path), child, str(left)], check=True)
    with locked(home):
        assert left.exists()
