"""How the web app looks, and whether everybody can use it."""

import asyncio
from pathlib import Path

from playwright.async_api import expect

from local.stack import Stack
from tests.browser.conftest import BeginReply, OpenTab
from tests.browser.looks import look


async def test_every_screen_of_a_conversation_is_accessible(
    open_tab: OpenTab, begin_reply: BeginReply, screenshots: Path
) -> None:
    tab = await open_tab("ottilie")
    await expect(tab.page.get_by_text("No conversations yet.")).to_be_visible()
    await look(tab, "start", screenshots)
    await tab.begin()
    await look(tab, "empty", screenshots)
    await tab.write("It has been a long day, and I cannot stop thinking about the meeting.")
    await expect(tab.messages).to_have_count(1)
    reply = await begin_reply(tab, "That sounds like it stayed with you.")
    await expect(tab.messages).to_have_count(2)
    await asyncio.to_thread(reply.finish)
    await tab.write("It did. I keep hearing what I should have said.\n\nAll of it.")
    cut = await begin_reply(tab, "What would you have liked to")
    await expect(tab.messages).to_have_count(4)
    cut.vanish()
    await expect(tab.page.get_by_text("This reply was cut off here")).to_be_visible()
    await tab.choose("Rename")
    await tab.page.get_by_label("Title").fill("The meeting")
    await look(tab, "rename", screenshots)
    await tab.page.keyboard.press("Enter")
    await expect(tab.page.get_by_role("heading", name="The meeting")).to_be_visible()
    # For no longer than its token is good for.
    growing = await begin_reply(tab, "Let me begin again. If you could go back into that room, ")
    await expect(tab.messages).to_have_count(5)
    await look(tab, "conversation", screenshots)
    await tab.page.get_by_role("button", name="Stop").click()
    await expect(tab.page.get_by_text("You stopped this reply here.")).to_be_visible()
    growing.vanish()
    await tab.page.get_by_label("This conversation").first.click()
    await look(tab, "menu", screenshots)
    await tab.page.get_by_role("button", name="Complete").click()
    await expect(tab.page.get_by_text("completed", exact=True)).to_be_visible()
    await tab.page.context.set_offline(True)
    await tab.write("Is anybody there?")
    await expect(tab.page.get_by_text("You are offline.")).to_be_visible()
    await look(tab, "offline", screenshots)
    await tab.page.context.set_offline(False)
    await expect(tab.page.get_by_text("You are offline.")).to_have_count(0)
    await tab.choose("Delete")
    await look(tab, "deleted", screenshots)
    assert tab.faults == []


async def test_every_other_screen_is_accessible(
    open_tab: OpenTab, stack: Stack, screenshots: Path
) -> None:
    tab = await open_tab("oskar")
    for title, text in (
        ("Sleep", "I lay awake in that room until four."),
        ("A letter to my sister", "I wrote to her, and the room grew quiet."),
        ("", "Nothing in particular."),
    ):
        await tab.begin()
        await tab.write(text)
        await tab.sees(text)
        if title:
            await tab.choose("Rename")
            await tab.page.get_by_label("Title").fill(title)
            await tab.page.keyboard.press("Enter")
    await tab.page.goto("/")
    await expect(tab.conversations).to_have_count(3)
    await look(tab, "list", screenshots)
    await tab.page.goto("/search")
    await tab.page.get_by_label("Words to find").fill("room")
    await tab.page.keyboard.press("Enter")
    await expect(tab.page.get_by_text("2 messages found.")).to_be_visible()
    await look(tab, "search", screenshots)
    await tab.page.goto("/conversations/00000000-0000-4000-8000-000000000000")
    await expect(tab.page.get_by_text("This conversation is not there.")).to_be_visible()
    await look(tab, "missing", screenshots)
    await tab.page.goto("/account")
    await expect(tab.page.get_by_text("Signed in with oskar@example.com")).to_be_visible()
    await look(tab, "account", screenshots)
    await tab.page.get_by_label("To erase your account").fill("ERASE")
    await tab.page.get_by_role("button", name="Erase my account").click()
    await expect(tab.page.get_by_role("heading", name="Your account is erased")).to_be_visible()
    await look(tab, "erased", screenshots)
    await tab.page.get_by_role("button", name="Close").click()
    await expect(tab.page.get_by_label("Your name")).to_be_visible()
    await look(tab, "sign-in", screenshots)
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
    await expect(paula.page.get_by_label("This conversation").first).to_be_visible()
    await keyboard.press("Shift+Tab")
    await keyboard.press("Shift+Tab")
    await keyboard.press("Enter")
    await expect(paula.page.get_by_role("button", name="Rename")).to_be_visible()
    await keyboard.press("Escape")
    await expect(paula.page.get_by_role("button", name="Rename")).to_be_hidden()
    await expect(paula.page.get_by_label("This conversation").first).to_be_focused()
    await keyboard.press("Enter")
    await keyboard.press("Tab")
    await keyboard.press("Enter")
    await expect(paula.page.get_by_label("Title")).to_be_focused()
    await keyboard.type("By hand")
    await keyboard.press("Enter")
    await expect(paula.page.get_by_role("heading", name="By hand")).to_be_visible()
    await expect(paula.page.get_by_label("This conversation").first).to_be_focused()
