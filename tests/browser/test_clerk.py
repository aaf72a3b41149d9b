"""Signing in by Clerk: a stand-in of it, whose real tokens a whole stack trusts."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from contract.folders import ROOT
from local.stack import Stack, free_ports
from tests.browser.clerk import ISSUER, PUBLISHABLE_KEY, ClerkApplication
from tests.browser.conftest import running_browser, without_responder
from tests.browser.person import Tab, asked


@pytest.fixture(scope="module")
def clerk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClerkApplication]:
    with closing(ClerkApplication(tmp_path_factory.mktemp("clerk"), lifetime=6)) as application:
        yield application


@pytest.fixture(scope="module")
def clerks_stack(clerk: ClerkApplication, reachable_to_all: Path) -> Iterator[Stack]:
    """A stack that takes Clerk's tokens and nobody else's, by Clerk's keys at their URL."""
    ports = free_ports()
    issuer = {
        "issuer": ISSUER,
        "jwks_url": clerk.jwks_url,
        "authorized_parties": [f"http://localhost:{ports.gateway}"],
        "algorithms": ["RS256"],
    }
    settings = {
        "INGLENOOK_ISSUERS": json.dumps([issuer]),
        "INGLENOOK_CLERK_PUBLISHABLE_KEY": PUBLISHABLE_KEY,
        "INGLENOOK_TOKEN_LEEWAY": "1",
    }
    home = reachable_to_all / "home"
    with Stack(home, ports, settings=settings, web=ROOT / "web/dist") as stack:
        yield stack


@pytest_asyncio.fixture(scope="module")
async def browser(clerk: ClerkApplication) -> AsyncIterator[Browser]:
    """A browser that finds the stand-in where Clerk would be."""
    async with running_browser(f"--host-resolver-rules={clerk.rule}") as running:
        yield running


@pytest_asyncio.fixture
async def tab(browser: Browser, clerks_stack: Stack, clerk: ClerkApplication) -> AsyncIterator[Tab]:
    """Somebody who was led to Clerk's page and signed in there."""
    context = await browser.new_context(base_url=clerks_stack.url, ignore_https_errors=True)
    await context.route("**/configuration.json", without_responder)
    tab = Tab(await context.new_page(), "ann")
    await tab.page.goto("/account")
    await tab.page.get_by_role("link", name="Ann").click()
    yield tab
    await context.close()
    clerk.end_sessions()


async def test_people_sign_in_on_clerks_page_and_come_back_to_where_they_were(tab: Tab) -> None:
    await expect(tab.page.get_by_role("heading", name="Account")).to_be_visible()
    await tab.begin()
    await tab.write("Said by somebody whom Clerk knows.")
    await tab.sees("Said by somebody whom Clerk knows.")
    await tab.page.reload()
    await tab.sees("Said by somebody whom Clerk knows.")
    assert tab.faults == []


async def test_clerks_tokens_end_and_nobody_notices(tab: Tab, clerk: ClerkApplication) -> None:
    await tab.begin()
    await tab.note_trouble()
    before, said = clerk.tokens_given, list[str]()
    while clerk.tokens_given < before + 2:
        said.append(f"Number {len(said) + 1}")
        await tab.write(said[-1])
        await tab.sees(*said)
        await asyncio.sleep(1)
    assert await tab.trouble() is None
    assert tab.faults == []


async def test_who_signs_out_of_clerk_is_led_back_to_its_page(
    tab: Tab, clerk: ClerkApplication
) -> None:
    await tab.page.get_by_role("button", name="Sign out").click()
    await expect(tab.page.get_by_role("link", name="Ann")).to_be_visible()
    assert clerk.sessions == {}


async def test_who_would_lose_what_is_not_sent_by_signing_in_again_is_asked_first(
    tab: Tab, clerk: ClerkApplication
) -> None:
    await tab.begin()
    await tab.page.keyboard.type("Not sent yet.")
    clerk.end_sessions()
    await expect(tab.page.get_by_text("This leaves the page: copy first")).to_be_visible()
    sign_in = tab.page.get_by_role("button", name="Sign in")
    questions = await asked(tab, accept=False, by=sign_in)
    assert questions == ["You wrote something that is not sent. Leave and lose it?"]
    await expect(tab.field).to_have_value("Not sent yet.")
    assert await asked(tab, accept=True, by=sign_in) == questions
    await expect(tab.page.get_by_role("link", name="Ann")).to_be_visible()


async def test_the_receipt_of_an_erasure_stays_in_view_after_clerk_was_left(tab: Tab) -> None:
    await tab.page.get_by_label("To erase your account").fill("ERASE")
    async with tab.page.expect_response("**/v1/client/sessions?*"):
        await tab.page.get_by_role("button", name="Erase my account").click()
    await expect(tab.page.get_by_role("heading", name="Your account is erased")).to_be_visible()


async def test_clerk_that_does_not_answer_is_told_and_tried_again(
    browser: Browser, clerks_stack: Stack
) -> None:
    context = await browser.new_context(base_url=clerks_stack.url, ignore_https_errors=True)
    await context.route(f"{ISSUER}/**", lambda route: route.abort())
    page = await context.new_page()
    await page.goto("/")
    await expect(page.get_by_text(f"{ISSUER} does not answer.")).to_be_visible()
    await context.unroute_all()
    await page.get_by_role("button", name="Try again").click()
    await expect(page.get_by_role("link", name="Ann")).to_be_visible()
    await context.close()
