"""The Python client in an empty project: installed from its folder, it does the main job, typed."""

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from textwrap import indent

import pytest

from contract.folders import ROOT
from local.stack import Stack
from tests.integration.calls import MakePerson

FOLDER = ROOT / "clients" / "python"
SCRIPTS = Path(sysconfig.get_path("scripts"))
PROGRAM = """\
import asyncio
import os

from inglenook_client import Inglenook


async def provider(*, fresh: bool) -> str | None:
    return os.environ["TOKEN"]


async def main() -> None:
{}

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an empty project, into which the client was installed."""
    environment = tmp_path_factory.mktemp("project") / ".venv"
    python = environment / "bin" / "python"
    _run(SCRIPTS / "uv", "venv", "--quiet", "--python", sys.executable, environment)
    _run(SCRIPTS / "uv", "pip", "install", "--quiet", "--python", python, FOLDER)
    return python


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _five_lines(url: str) -> str:
    """The start of the client's README as a program."""
    block = re.search(r"```python\n(.*?)```", (FOLDER / "README.md").read_text(), re.DOTALL)
    assert block
    return PROGRAM.format(indent(block[1].replace("https://talk.example", url), "    "))


def _types(python: Path, program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "program.py").write_text(program)
    command: list[str | Path] = [SCRIPTS / "mypy", "--strict", "program.py"]
    command += ["--python-executable", python]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_the_five_lines_of_the_readme_say_something_and_hear_what_follows(
    python: Path, stack: Stack, person: MakePerson, tmp_path: Path
) -> None:
    (tmp_path / "program.py").write_text(_five_lines(stack.url))
    program = subprocess.Popen(
        [python, "-u", "program.py"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "TOKEN": stack.token("petra")},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None
    try:
        assert program.stdout.readline() == "Hello.\n"
        petra = person("petra")
        session = petra.call("GET", "/v1/sessions")["sessions"][0]["sessionId"]
        petra.say(session, "Are you there?")
        assert program.stdout.readline() == "Are you there?\n"
    finally:
        program.kill()
        program.communicate()


def test_a_strict_type_checker_takes_the_program_and_finds_what_is_wrong_in_another(
    python: Path, tmp_path: Path
) -> None:
    good = _five_lines("https://talk.example")
    checked = _types(python, good, tmp_path)
    assert checked.returncode == 0, checked.stdout
    wrong = good.replace("content=", "contents=").replace("messages[-1].content", "messages[-1].x")
    found = _types(python, wrong, tmp_path).stdout
    assert 'Unexpected keyword argument "contents"' in found
    assert '"Message" has no attribute "x"' in found
