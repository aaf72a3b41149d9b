"""The TypeScript client in an empty project: installed from its folder, typed, at its main job."""

import json
import os
import re
import subprocess
import sysconfig
from pathlib import Path

import pytest

from contract.folders import ROOT
from local.stack import Stack
from tests.integration.calls import MakePerson

FOLDER = ROOT / "clients" / "typescript"
SCRIPTS = Path(sysconfig.get_path("scripts"))
# Node of the wheel, whatever else the machine has.
ENVIRONMENT = {**os.environ, "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"}
STRICT = {
    "compilerOptions": {
        "strict": True,
        "noUncheckedIndexedAccess": True,
        "exactOptionalPropertyTypes": True,
        "target": "ES2023",
        "lib": ["ES2023", "DOM", "DOM.Iterable"],
        "module": "NodeNext",
        "jsx": "react-jsx",
        "types": [],
    },
    "include": ["*.ts", "*.tsx"],
}
MAIN_JOB = """\
import { createInglenook, messagesInOrder } from "inglenook";

declare const process: { env: Record<string, string> };
const getToken = async () => process.env["TOKEN"] ?? null;
const client = createInglenook({ baseUrl: process.env["URL"] ?? "", getToken });
const { session } = await client.sessions.createSession({ title: "A first talk" });
const live = client.watchMessages(session?.sessionId ?? "");
live.subscribe(() => {
  const newest = messagesInOrder(live.snapshot.state).at(-1);
  if (newest !== undefined) console.log(`${newest.sequence}: ${newest.content}`);
});
await client.send(session?.sessionId ?? "", "Hello.");
"""
FIVE_LINES = """\
import {{ createInglenook }} from "inglenook";
import {{ InglenookProvider, useMessages, useSendMessage }} from "inglenook/react";
import type {{ ReactNode }} from "react";

declare const id: string, session: {{ getToken(): Promise<string | null> }};
{}
export function Talk({{ sessionId }}: {{ sessionId: string }}): ReactNode {{
{}
  const say = () => void send("Hello.");
  const lines = items.map(({{ message }}) => <p key={{message.messageId}}>{{message.content}}</p>);
  return <main onClick={{hasOlder ? () => void loadOlder() : say}}>{{status}}: {{lines}}</main>;
}}
export {{ page }};
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty project, into which the client was installed, and React and a compiler beside it."""
    project = tmp_path_factory.mktemp("project")
    (project / "package.json").write_text(json.dumps({"private": True, "type": "module"}))
    (project / "tsconfig.json").write_text(json.dumps(STRICT))
    beside = [f"{name}@{_version(name)}" for name in ("react", "@types/react", "typescript")]
    options = ("--install-links", "--prefer-offline", "--no-audit", "--no-fund")
    done = _run(project, SCRIPTS / "npm", "install", *options, FOLDER, *beside)
    assert done.returncode == 0, done.stderr
    return project


def _version(package: str) -> str:
    """The version that this repository has installed."""
    described = json.loads((ROOT / "node_modules" / package / "package.json").read_text())
    return str(described["version"])


def _run(project: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=project, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )


def _compile(project: Path, name: str, program: str) -> str:
    """What a strict compiler complains about in a program."""
    (project / name).write_text(program)
    return _run(project, project / "node_modules" / ".bin" / "tsc").stdout


def _readme() -> str:
    """The start of the client's README, in a component."""
    block = re.search(r"```tsx\n(.*?)```", (FOLDER / "README.md").read_text(), re.DOTALL)
    assert block
    outside, _, inside = block[1].partition("// In <Talk>")
    return FIVE_LINES.format(outside, f"  // In <Talk>{inside}")


def test_a_strict_program_in_an_empty_project_says_something_and_hears_what_follows(
    project: Path, stack: Stack, person: MakePerson
) -> None:
    assert _compile(project, "main.ts", MAIN_JOB) == ""
    # The wheel's `node` is a script that starts this one.
    node = _run(project, SCRIPTS / "node", "--print", "process.execPath").stdout.strip()
    program = subprocess.Popen(
        [node, "main.js"],
        cwd=project,
        env=ENVIRONMENT | {"URL": stack.url, "TOKEN": stack.token("pavel")},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None
    try:
        assert program.stdout.readline() == "1: Hello.\n"
        pavel = person("pavel")
        pavel.say(pavel.call("GET", "/v1/sessions")["sessions"][0]["sessionId"], "Are you there?")
        assert "2: Are you there?\n" in iter(program.stdout.readline, "")
    finally:
        program.kill()
        program.communicate()


def test_the_five_lines_of_the_readme_are_typed(project: Path) -> None:
    assert _compile(project, "readme.tsx", _readme()) == ""
    wrong = _readme().replace("message.content", "message.contents").replace("getToken:", "token:")
    found = _compile(project, "readme.tsx", wrong)
    assert "Property 'contents' does not exist on type 'Message'" in found
    assert "'token' does not exist in type 'InglenookOptions'" in found
