"""How the web app looks, and whether everybody can use it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import expect

from contract.folders import ROOT
from tests.browser.conftest import BeginReply, OpenTab
from tests.browser.person import Tab

_AXE = ROOT / "node_modules/axe-core/axe.min.js"
_WIDE = {"width": 1200, "height": 800}
_SMALL = {"width": 390, "height": 780}


async def _is_accessible(tab: Tab) -> None:
    # Through the debugger's door: the page's own policy lets no other script in.
    await tab.page.evaluate(_AXE.read_text() + ";0")
    result: Any = await tab.page.evaluate("axe.run()")
    found = [
        (fault["id"], fault["nodes"][0]["html"])
        for fault in result["violations"]
        if fault["impact"] in {"serious", "critical"}
    ]
    assert found == []


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("light", {"viewport": _WIDE, "color_scheme": "light"}),
        ("dark", {"viewport": _WIDE, "color_scheme": "dark"}),
        ("small", {"viewport": _SMALL, "color_scheme": "light", "has_touch": True}),
    ],
)
async def test_every_screen_is_accessible(
    open_tab: OpenTab,
    begin_reply: BeginReply,
    screenshots: Path,
    name: str,
    settings: dict[str, object],
) -> None:
    tab = await open_tab(f"olga-{name}", **settings)

    async def look(screen: str) -> None:
        await _is_accessible(tab)
        await tab.page.screenshot(path=screenshots / f"{screen}-{name}.png")

    await look("start")
    await tab.begin()
    await look("empty")
    await tab.write("It has been a long day, and I cannot stop thinking about the meeting.")
    await tab.sees("It has been a long day, and I cannot stop thinking about the meeting.")
    reply = await begin_reply(tab, "That sounds like it stayed with you.")
    await expect(tab.messages).to_have_count(2)
    await tab.write("It did. I keep hearing what I should have said.\n\nAll of it.")
    await expect(tab.messages).to_have_count(3)
    await asyncio.to_thread(reply.finish)
    cut = await begin_reply(tab, "What would you have liked to")
    await expect(tab.messages).to_have_count(4)
    cut.vanish()
    await expect(tab.page.get_by_text("This reply was cut off here")).to_be_visible(timeout=60_000)
    growing = await begin_reply(tab, "Let me begin again. If you could go back into that room, ")
    await expect(tab.messages).to_have_count(5)
    await tab.page.get_by_label("This conversation").first.click()
    await tab.page.get_by_role("button", name="Rename").click()
    await tab.page.get_by_label("Title").fill("The meeting")
    await look("rename")
    await tab.page.keyboard.press("Enter")
    await expect(tab.page.get_by_role("heading", name="The meeting")).to_be_visible()
    await look("conversation")
    await tab.page.get_by_label("This conversation").first.click()
    await look("menu")
    await asyncio.to_thread(growing.finish)
    await tab.page.goto("/search")
    await tab.page.get_by_label("Words to find").fill("room")
    await tab.page.keyboard.press("Enter")
    await expect(tab.page.get_by_text("1 message found.")).to_be_visible()
    await look("search")
    await tab.page.goto("/account")
    await expect(tab.page.get_by_label("What you want to be called")).to_be_visible()
    await look("account")
    await tab.page.get_by_role("button", name="Sign out").click()
    await expect(tab.page.get_by_label("Your name")).to_be_visible()
    await look("sign-in")
    assert tab.faults == []


async def test_everything_can_be_done_with_the_keyboard(open_tab: OpenTab) -> None:
    paula = await open_tab("paula")
    keyboard = paula.page.keyboard
    await keyboard.press("Tab")
    await expect(paula.page.get_by_text("Skip to the conversation")).to_be_focused()
    await keyboard.press("Tab")
    await keyboard.press("Enter")
    await expect(paula.field).to_be_focused()
    await keyboard.type("Said without a mouse.")
    await keyboard.press("Enter")
    await paula.sees("Said without a mouse.")
    await expect(paula.field).to_be_focused()
    await keyboard.press("Shift+Tab")
    await keyboard.press("Shift+Tab")
    await keyboard.press("Enter")
    await expect(paula.page.get_by_role("button", name="Rename")).to_be_visible()
    await keyboard.press("Escape")
    await expect(paula.page.get_by_role("button", name="Rename")).to_be_hidden()
