"""Bad input over HTTP: a clear refusal, and nothing changed."""

import pytest

from tests.integration.calls import MakePerson, Refused, refusal_in

INVALID = Refused("INVALID_ARGUMENT", "REQUEST_INVALID")
MALFORMED = Refused("INVALID_ARGUMENT", "REQUEST_MALFORMED")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"content": ""}, INVALID),
        ({}, INVALID),
        ({"content": "x" * 50_001}, INVALID),
        ({"content": "a\0b"}, INVALID),
        ({"content": "a", "model": "m" * 101}, INVALID),
        ({"content": "a", "model": "\0"}, INVALID),
        ({"content": "a", "role": 17}, INVALID),
        ({"content": "a", "messageId": "nonsense"}, INVALID),
        ({"content": "a", "metadata": {"long": "x" * 16_384}}, INVALID),
        ({"content": "a", "metadata": {"nul": "\0"}}, INVALID),
        ({"content": "a", "role": "ROLE_UNHEARD_OF"}, MALFORMED),
        ({"content": {"not": "text"}}, MALFORMED),
        ({"content": "a", "role": "ROLE_SYSTEM"}, Refused("PERMISSION_DENIED", "ROLE_DENIED")),
    ],
)
def test_a_bad_message_is_refused_and_nothing_is_added(
    person: MakePerson, body: object, expected: Refused
) -> None:
    alice = person("alice")
    path = f"/v1/sessions/{alice.new_session()}/messages"
    assert alice.refused("POST", path, body) == expected
    assert alice.call("GET", path)["messages"] == []


@pytest.mark.parametrize(
    "raw", [b'{"content": ', b"[]", b'{"content": "a\xff"}', b"\x00", b"<content/>"]
)
def test_what_is_no_json_is_malformed(person: MakePerson, raw: bytes) -> None:
    alice = person("alice")
    path = f"/v1/sessions/{alice.new_session()}/messages"
    assert refusal_in(alice.http.post(path, content=raw)) == MALFORMED
    assert alice.call("GET", path)["messages"] == []


def test_a_body_larger_than_any_request_is_too_large(person: MakePerson) -> None:
    alice = person("alice")
    path = f"/v1/sessions/{alice.new_session()}/messages"
    answer = alice.http.post(path, json={"content": "x" * (2 << 20)})
    assert answer.status_code == 413
    assert refusal_in(answer) == Refused("RESOURCE_EXHAUSTED", "REQUEST_TOO_LARGE")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/sessions?pageSize=-1", INVALID),
        ("/v1/sessions?state=17", MALFORMED),
        ("/v1/sessions?state=UNHEARD_OF", MALFORMED),
        ("/v1/sessions?unheardOf=1", MALFORMED),
        ("/v1/sessions?pageToken=forged", Refused("INVALID_ARGUMENT", "PAGE_TOKEN_INVALID")),
        ("/v1/unheard/of", Refused("UNIMPLEMENTED", "ROUTE_NOT_FOUND")),
    ],
)
def test_a_bad_query_is_refused(person: MakePerson, path: str, expected: Refused) -> None:
    assert person("alice").refused("GET", path) == expected


def test_a_page_token_is_good_for_its_own_list_only(person: MakePerson) -> None:
    alice, bob = person("page-alice"), person("page-bob")
    for _ in range(3):
        alice.new_session()
    token = alice.call("GET", "/v1/sessions?pageSize=1")["nextPageToken"]
    path = f"/v1/sessions?pageSize=1&pageToken={token}"
    invalid = Refused("INVALID_ARGUMENT", "PAGE_TOKEN_INVALID")
    assert len(alice.call("GET", path)["sessions"]) == 1
    assert bob.refused("GET", path) == invalid
    assert alice.refused("GET", path + "&state=SESSION_STATE_ACTIVE") == invalid
    session = alice.new_session()
    messages = f"/v1/sessions/{session}/messages"
    assert alice.refused("GET", f"{messages}?pageToken={token}") == invalid
    watch = f"{messages}:watch?resumeToken={token}"
    assert alice.refused("GET", watch) == Refused("INVALID_ARGUMENT", "RESUME_TOKEN_INVALID")
