"""`python -m services.<name> check` finds what is not as it should be."""

import psycopg
import pytest

from local.home import SERVICES
from local.stack import Stack
from tests.integration.calls import MakePerson
from tests.integration.commands import run_command


@pytest.mark.parametrize("service", SERVICES)
def test_a_system_that_was_used_has_no_differences(
    stack: Stack, person: MakePerson, service: str
) -> None:
    alice = person("alice")
    session = alice.new_session()
    deleted = [alice.say(session, f"{n}") for n in range(3)][1]
    alice.call("DELETE", f"/v1/sessions/{session}/messages/{deleted['messageId']}")
    done = run_command(stack, service, "check")
    assert done.code == 0, done.told
    assert all(line.startswith("ok ") for line in done.told.splitlines())


def test_a_count_that_is_wrong_is_reported(stack: Stack, person: MakePerson) -> None:
    alice = person("alice")
    session = alice.new_session()
    alice.say(session, "one")
    update = "UPDATE messages.conversations SET message_count = %s WHERE session_id = %s"
    with psycopg.connect(stack.admin_url, autocommit=True) as database:
        database.execute(update, (7, session))
        done = run_command(stack, "messages", "check")
        database.execute(update, (1, session))
    assert done.code != 0
    assert f"{session}/" in done.told
    assert "7, expected 1" in done.told
    assert "1 differences were found" in done.told
