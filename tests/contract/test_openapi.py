"""The OpenAPI document says all that is open to people, and is what OpenAPI 3.1 wants."""

from typing import Any

import pytest
from openapi_spec_validator import validate

from contract.folders import DESCRIPTORS
from contract.methods import load_methods
from contract.openapi import openapi
from contract.reference import page

PUBLIC = [method for method in load_methods(DESCRIPTORS) if method.public_facing]


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return openapi()


def _operations(document: dict[str, Any]) -> dict[str, Any]:
    return {
        operation["operationId"]: operation
        for verbs in document["paths"].values()
        for operation in verbs.values()
    }


def test_it_is_valid(document: dict[str, Any]) -> None:
    validate(document)


def test_every_method_that_people_may_call_has_an_operation_and_no_other_has(
    document: dict[str, Any],
) -> None:
    names = {f"{method.name[0].lower()}{method.name[1:]}" for method in PUBLIC}
    assert set(_operations(document)) == names
    for operation in _operations(document).values():
        assert operation["description"]
        assert operation["x-codeSamples"]
        # Each can be refused for the request, and most for the token.
        assert {"200", "400", "401"} <= set(operation["responses"])


def test_rules_are_constraints_and_comments_descriptions(document: dict[str, Any]) -> None:
    append = _operations(document)["appendMessage"]
    body = append["requestBody"]["content"]["application/json"]["schema"]
    assert body["required"] == ["content"]
    content = body["properties"]["content"]
    assert (content["minLength"], content["maxLength"]) == (1, 50_000)
    assert content["description"].startswith("What is said: 1 to 50,000 characters")
    assert append["parameters"] == [
        {
            "name": "sessionId",
            "in": "path",
            "required": True,
            "description": "The session's id, a UUID. Required.",
            "schema": {"type": "string", "format": "uuid"},
        }
    ]
    assert append["responses"]["409"]["description"] == "Conflict: ID_REUSED."
    size = next(
        parameter
        for parameter in _operations(document)["listMessages"]["parameters"]
        if parameter["name"] == "pageSize"
    )
    assert (size["in"], size["required"], size["schema"]["minimum"]) == ("query", False, 0)


def test_the_page_has_every_operation_and_every_schema_and_nothing_from_elsewhere(
    document: dict[str, Any],
) -> None:
    html = page(document)
    for name in (*_operations(document), *document["components"]["schemas"]):
        assert f'id="{name}"' in html
    assert "<script" not in html
    assert "style=" not in html
    assert "//" not in html.replace("&quot;$INGLENOOK", "")
