"""A real browser, and people who use the web app in it."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Route, async_playwright, expect

from contract.folders import ROOT
from local.stack import Stack
from services.runtime.identity import user_id_of
from services.runtime.service_tokens import ServiceTokens
from services.runtime.settings import DEVELOPMENT_ISSUER
from tests.browser.person import Tab
from tests.replies import Reply

OpenTab = Callable[..., Awaitable[Tab]]
BeginReply = Callable[[Tab, str], Awaitable[Reply]]

# As the app itself remembers in a tab whom it signed in, until they sign out.
_REMEMBER = """if (sessionStorage.getItem("inglenook.person") === null) {
    sessionStorage.setItem("inglenook.person", "%s");
}"""
# What is waited for comes, on a machine that does other things too; how long it takes says nothing.
_PATIENCE = 60_000
expect.set_options(timeout=_PATIENCE)

_QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


@pytest_asyncio.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with running_browser() as running:
        yield running


@asynccontextmanager
async def running_browser(*arguments: str) -> AsyncIterator[Browser]:
    """Chromium with the app at hand, started with more arguments than the usual ones."""
    assert (ROOT / "web/dist/index.html").exists(), "the web app was not built: `make web` does it"
    chromium = shutil.which("chromium")
    assert chromium, "there is no Chromium: `make browser` installs it"
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(
            executable_path=chromium, args=[*_QUIET, *arguments]
        )
        yield running
        await running.close()


async def without_responder(route: Route) -> None:
    """Tells the app of a gateway with nobody behind it who answers."""
    answer = await route.fetch()
    configuration = await answer.json()
    configuration["services"] = [
        name for name in configuration["services"] if "RespondService" not in name
    ]
    await route.fulfill(json=configuration)


@pytest_asyncio.fixture
async def open_tab(browser: Browser, stack: Stack) -> AsyncIterator[OpenTab]:
    """Opens a tab in a browser of its own, in which a person is signed in.

    Nobody answers them but the test, unless they are `answered`.
    """
    async with AsyncExitStack() as opened:

        async def open_one(person: str, *, answered: bool = False, **settings: object) -> Tab:
            context = await browser.new_context(
                base_url=stack.url,
                locale="en-GB",
                timezone_id="Europe/Berlin",
                **settings,  # type: ignore[arg-type]
            )
            opened.push_async_callback(context.close)
            await context.add_init_script(_REMEMBER % person)
            if not answered:
                await context.route("**/configuration.json", without_responder)
            tab = Tab(await context.new_page(), person)
            await tab.page.goto("/")
            await expect(tab.new_conversation).to_be_visible()
            return tab

        yield open_one


@pytest.fixture
def begin_reply(stack: Stack, responder: ServiceTokens) -> BeginReply:
    """Begins a reply in the conversation that a tab shows."""

    async def begin(tab: Tab, text: str) -> Reply:
        person = user_id_of(DEVELOPMENT_ISSUER, tab.person)
        reply = await asyncio.to_thread(
            Reply, stack, responder, person=person, session=tab.session_id
        )
        reply.say(text)
        return reply

    return begin


@pytest.fixture(scope="session")
def screenshots() -> Path:
    """Where pictures of the app are left, to be looked at."""
    folder = Path(__file__).parent / "screenshots"
    folder.mkdir(exist_ok=True)
    return folder
