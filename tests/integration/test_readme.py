"""The README's commands, run as they stand there."""

import os
import re
import subprocess
from pathlib import Path

from contract.folders import ROOT
from local.stack import Stack


def _commands() -> list[str]:
    return re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def _run(stack: Stack, script: str, home: Path) -> list[str]:
    """Runs a script as a newcomer would, with port 8080 leading to this stack's gateway."""
    gateway = f"127.0.0.1:{stack.ports.gateway}"
    (home / ".curlrc").write_text(f"connect-to = localhost:8080:{gateway}\n")
    if "examples/" in script:
        script = script.replace('"$TOKEN"\n', f'"$TOKEN" http://{gateway}\n')
    # Whoever watches for a few seconds sees nothing where it takes longer to be let in.
    script = script.replace("--max-time 3 ", "--max-time 10 ")
    environment = {
        **os.environ,
        "CURL_HOME": str(home),
        "HOME": str(home),
        "INGLENOOK_HOME": str(stack.home.folder),
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_the_commands_of_the_readme_do_what_it_says(stack: Stack, tmp_path: Path) -> None:
    blocks = _commands()
    assert len(blocks) == 4
    output = "\n".join(_run(stack, "\n".join(blocks[:3]), tmp_path))
    assert output.count("It has been a long day.") == 3  # Appended, listed, watched.
    assert '"current":{}' in output
    assert '"reason":"SESSION_NOT_FOUND"' in output


def test_the_typed_client_of_the_readme_hears_what_it_says(stack: Stack, tmp_path: Path) -> None:
    token_line = _commands()[0].splitlines()[0]
    output = _run(stack, f"{token_line}\n{_commands()[3]}", tmp_path)
    assert output == ["1: It has been a long day.", "2: I would like to talk about it."]
