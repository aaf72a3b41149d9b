"""`python -m services.<name> check` finds what is not as it should be."""

import subprocess
import sys

import psycopg
import pytest

from local.home import SERVICES
from local.stack import Stack
from tests.integration.calls import MakePerson


def _check(stack: Stack, service: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", f"services.{service}", "check"],
        env=stack.service(service).environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("service", SERVICES)
def test_a_system_that_was_used_has_no_differences(
    stack: Stack, person: MakePerson, service: str
) -> None:
    alice = person("alice")
    session = alice.new_session()
    deleted = [alice.say(session, f"{n}") for n in range(3)][1]
    alice.call("DELETE", f"/v1/sessions/{session}/messages/{deleted['messageId']}")
    code, told = _check(stack, service)
    assert code == 0, told
    assert all(line.startswith("ok ") for line in told.splitlines())


def test_a_count_that_is_wrong_is_reported(stack: Stack, person: MakePerson) -> None:
    alice = person("alice")
    session = alice.new_session()
    alice.say(session, "one")
    update = "UPDATE messages.conversations SET message_count = %s WHERE session_id = %s"
    with psycopg.connect(stack.admin_url, autocommit=True) as database:
        database.execute(update, (7, session))
        code, told = _check(stack, "messages")
        database.execute(update, (1, session))
    assert code != 0
    assert f"{session}/" in told
    assert "7, expected 1" in told
    assert "1 differences were found" in told
