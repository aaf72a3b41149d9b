"""The web app's files at the gateway, and how people sign in to it in development."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import jwt
import pytest

from contract.folders import DESCRIPTORS
from gateway.settings import GatewaySettings
from gateway.web import web_routes
from local.stack import Stack, free_ports
from tests.integration.calls import Refused, refusal_in

PAGE = {"accept": "text/html,application/xhtml+xml"}
SCRIPT = "console.log('hello');\n" * 100
SOME_UPSTREAMS = {"inglenook.users.v1.UsersService": "127.0.0.1:1"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A web app as it is after a build: a page, and files whose names change with their content."""
    folder = tmp_path_factory.mktemp("web")
    (folder / "assets").mkdir()
    (folder / "index.html").write_text("<!doctype html><title>Talks</title>")
    (folder / "assets" / "app-1a2b.js").write_text(SCRIPT)
    (folder / "secret.txt").write_text("beside the page, and not of it")
    return folder


@pytest.fixture(scope="module")
def web(built: Path, reachable_to_all: Path) -> Iterator[httpx.Client]:
    with (
        Stack(reachable_to_all / "home", free_ports(), web=built) as stack,
        httpx.Client(base_url=stack.url, trust_env=False, timeout=60) as client,
    ):
        yield client


def test_the_page_is_asked_for_anew_and_its_files_are_kept(web: httpx.Client) -> None:
    page = web.get("/")
    assert (page.status_code, page.text) == (200, "<!doctype html><title>Talks</title>")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["cache-control"] == "no-cache"
    file = web.get("/assets/app-1a2b.js")
    assert (file.status_code, file.text) == (200, SCRIPT)
    assert file.headers["content-type"] == "text/javascript; charset=utf-8"
    assert file.headers["content-encoding"] == "gzip"
    assert "immutable" in file.headers["cache-control"]


def test_the_page_may_run_its_own_files_and_nothing_else(web: httpx.Client) -> None:
    headers = web.get("/").headers
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("path", ["/conversations/5f1c", "/search", "/somewhere/else"])
def test_an_address_of_the_app_is_its_page(web: httpx.Client, path: str) -> None:
    assert web.get(path, headers=PAGE).text == web.get("/").text


@pytest.mark.parametrize(
    ("verb", "path", "headers"),
    [
        ("GET", "/v1/nothing", PAGE),
        ("GET", "/assets/gone-3c4d.js", PAGE),
        ("GET", "/assets/../secret.txt", {}),
        ("GET", "/secret.txt", {}),
        ("GET", "/search", {}),
        ("POST", "/", PAGE),
        ("POST", "/inglenook.users.v1.UsersService/Nothing", {}),
    ],
)
def test_what_is_neither_a_call_nor_the_app_is_not_there(
    web: httpx.Client, verb: str, path: str, headers: dict[str, str]
) -> None:
    assert refusal_in(web.request(verb, path, headers=headers)) == Refused(
        "UNIMPLEMENTED", "ROUTE_NOT_FOUND"
    )


def test_calls_keep_their_answers(web: httpx.Client) -> None:
    assert refusal_in(web.get("/v1/me", headers=PAGE)).reason == "TOKEN_MISSING"
    assert web.get("/healthz", headers=PAGE).status_code == 200


def test_the_app_is_told_which_services_answer(web: httpx.Client) -> None:
    services = web.get("/configuration.json").json()["services"]
    assert "inglenook.messages.v1.MessagesService" in services


def test_the_development_sign_in_gives_a_token_for_whoever_is_named(web: httpx.Client) -> None:
    configuration = web.get("/configuration.json").json()
    assert (configuration["signIn"], configuration["person"]) == ("development", "")
    token = web.post("/development/token", json={"person": "ann"}).json()["token"]
    me = web.get("/v1/me", headers={"authorization": f"Bearer {token}"}).json()
    assert me["user"]["email"] == "ann@example.com"
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == 3600


def test_the_development_sign_in_does_not_answer_other_sites_pages(web: httpx.Client) -> None:
    asked = json.dumps({"person": "ann"})
    as_json = {"content-type": "application/json"}
    # A page of another site can send this without asking first.
    assert web.post("/development/token", content=asked).status_code == 400
    rebound = {**as_json, "host": "elsewhere.example"}
    assert web.post("/development/token", headers=rebound, content=asked).status_code == 403
    other = {**as_json, "origin": "https://elsewhere.example"}
    answer = web.post("/development/token", headers=other, content=asked)
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("asked", [{"person": "A B"}, {"person": ""}, {"person": 1}, [], {}])
def test_the_development_sign_in_refuses_what_is_no_name(web: httpx.Client, asked: object) -> None:
    assert web.post("/development/token", json=asked).status_code == 400


@pytest.fixture
def production(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, built: Path) -> dict[str, object]:
    issuer = {"issuer": "https://id.example", "jwks_url": "https://id.example/k"}
    monkeypatch.setenv("INGLENOOK_ISSUERS", json.dumps([{**issuer, "audiences": ["x"]}]))
    return {
        "upstreams": SOME_UPSTREAMS,
        "bootstrap_file": tmp_path / "envoy.json",
        "descriptors": DESCRIPTORS,
        "web_folder": built,
    }


def test_production_has_no_development_sign_in(production: dict[str, object]) -> None:
    routes = json.dumps(web_routes(GatewaySettings.model_validate(production)))
    assert "development" not in routes.replace('"path_separated_prefix": "/development"', "")
    with pytest.raises(ValueError, match="needs INGLENOOK_DEVELOPMENT_ISSUER"):
        GatewaySettings.model_validate({**production, "development_sign_in": "127.0.0.1:1"})


def test_a_clerk_application_signs_people_in_by_its_key(production: dict[str, object]) -> None:
    key = "pk_test_dGFsa3MuY2xlcmsuYWNjb3VudHMuZGV2JA"
    settings = GatewaySettings.model_validate({**production, "clerk_publishable_key": key})
    routes = json.dumps(web_routes(settings))
    assert "script-src 'self' https://talks.clerk.accounts.dev;" in routes
    assert "worker-src blob:" in routes
    assert key in routes


def test_a_clerk_key_without_its_issuer_is_told(production: dict[str, object]) -> None:
    development = {
        "environment": "development",
        "development_issuer": Path("anywhere"),
        "development_sign_in": "127.0.0.1:1",
        "issuers": (),
        "clerk_publishable_key": "pk_test_dGFsa3MuY2xlcmsuYWNjb3VudHMuZGV2JA",
    }
    with pytest.raises(ValueError, match="name the Clerk application in INGLENOOK_ISSUERS"):
        GatewaySettings.model_validate({**production, **development})


def test_an_app_that_was_not_built_is_told(production: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no index\.html"):
        GatewaySettings.model_validate({**production, "web_folder": tmp_path})
