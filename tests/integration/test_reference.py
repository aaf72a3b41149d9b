"""The API's reference at the gateway: each of its examples does what it says, as it stands."""

import json
import os
import subprocess
from typing import Any
from uuid import uuid4

import httpx
import pytest
from inglenook.access.v1.access_pb2 import Access
from openapi_schema_validator import OAS31Validator

from contract.folders import DESCRIPTORS
from contract.methods import Method, load_methods
from contract.openapi import openapi
from local.stack import Stack
from tests.integration.calls import MakePerson

SERVED = {
    f"{method.name[0].lower()}{method.name[1:]}": method
    for method in load_methods(DESCRIPTORS)
    if Access.ACCESS_USER in method.allow and "respond" not in method.service
}
DOCUMENT = openapi()
OPERATIONS = {
    operation["operationId"]: operation
    for verbs in DOCUMENT["paths"].values()
    for operation in verbs.values()
}


@pytest.fixture
def name() -> str:
    """A person of this test's own."""
    return f"reader-{uuid4().hex}"


def test_anyone_can_read_it_and_its_page_runs_nothing(stack: Stack) -> None:
    with httpx.Client(base_url=stack.url, trust_env=False, timeout=60) as client:
        document = client.get("/v1/openapi.json")
        assert document.headers["content-type"] == "application/json"
        assert document.json() == DOCUMENT
        page = client.get("/v1/reference", headers={"accept": "text/html"})
        assert "API reference" in page.text
        policy = page.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'self'; ")
        style = client.get("/v1/reference/style.css")
        assert style.headers["content-type"] == "text/css; charset=utf-8"


@pytest.mark.parametrize("operation", SERVED)
def test_its_example_works(operation: str, stack: Stack, person: MakePerson, name: str) -> None:
    reader = person(name)
    session = reader.new_session()
    message = reader.say(session, "It has been a long day.")["messageId"]
    if operation == "resumeSession":
        reader.call("POST", f"/v1/sessions/{session}:complete", {})
    environment = {
        "PATH": os.environ["PATH"],
        "INGLENOOK": stack.url,
        "TOKEN": stack.token(name),
        "SESSION": session,
        "MESSAGE": message,
    }
    [sample] = OPERATIONS[operation]["x-codeSamples"]
    answer = _first_line(sample["source"], environment, SERVED[operation])
    assert "code" not in answer, answer
    schema = OPERATIONS[operation]["responses"]["200"]["content"]["application/json"]["schema"]
    OAS31Validator({**schema, "components": DOCUMENT["components"]}).validate(answer)


def _first_line(source: str, environment: dict[str, str], method: Method) -> Any:  # noqa: ANN401 - JSON
    """The answer, or the first frame of a stream, which may last."""
    with subprocess.Popen(
        ["bash", "-euc", f"exec {source}"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        if method.server_streaming:
            line = running.stdout.readline()
            running.kill()
            return json.loads(line)
        output, complaints = running.communicate(timeout=60)
        assert running.returncode == 0, output + complaints
        return json.loads(output)
