"""Replies as people have them: asked for by themselves, stopped, and had again."""

import asyncio
from pathlib import Path

from playwright.async_api import Request, expect

from local.stack import Stack
from services.runtime.identity import user_id_of
from services.runtime.settings import DEVELOPMENT_ISSUER
from tests.browser.conftest import BeginReply, OpenTab
from tests.browser.looks import look
from tests.browser.person import Tab
from tests.integration.commands import run_command


async def test_what_is_said_is_replied_to_in_every_tab(open_tab: OpenTab) -> None:
    rosa = await open_tab("rosa", answered=True)
    await rosa.begin()
    other = await rosa.second()
    await rosa.write("I cannot sleep, because of my work.")
    for tab in (rosa, other):
        await _is_replied_to(tab, "I cannot sleep, because of my work.")
    reply = await rosa.messages.last.inner_text()
    await expect(other.messages.last).to_have_text(reply)
    await expect(rosa.page.locator("[aria-live=polite]")).to_have_text(f"Reply: {reply}")
    assert rosa.faults == other.faults == []


async def test_a_growing_reply_is_stopped_by_the_keyboard_where_it_stands(
    open_tab: OpenTab, begin_reply: BeginReply
) -> None:
    samir = await open_tab("samir")
    await samir.begin()
    other = await samir.second()
    await begin_reply(samir, "Once upon a time")
    for tab in (samir, other):
        await tab.sees("Once upon a time")
        await expect(tab.page.locator("[aria-live=polite]")).to_have_text(
            "A reply is being written."
        )
    await samir.page.keyboard.press("Shift+Tab")
    await expect(samir.page.get_by_role("button", name="Stop")).to_be_focused()
    await samir.page.keyboard.press("Enter")
    await expect(samir.field).to_be_focused()
    for tab in (samir, other):
        await expect(tab.page.get_by_text("You stopped this reply here.")).to_be_visible()
        await tab.sees("Once upon a time")
        await expect(tab.page.get_by_role("button", name="Stop")).to_have_count(0)
        await expect(tab.page.locator("[aria-live=polite]")).to_have_text(
            "Reply: Once upon a time The reply was stopped here."
        )


async def test_a_reply_that_was_cut_off_is_tried_again(
    open_tab: OpenTab, begin_reply: BeginReply, screenshots: Path
) -> None:
    tara = await open_tab("tara")
    await tara.begin()
    await tara.write("Is anybody there?")
    await tara.sees("Is anybody there?")
    cut = await begin_reply(tara, "There was some")
    await tara.sees("Is anybody there?", "There was some")
    cut.vanish()
    await expect(tara.page.get_by_text("This reply was cut off here")).to_be_visible()
    await expect(tara.page.get_by_role("button", name="Try again")).to_have_count(0)
    answered = await _again(open_tab, tara)
    await expect(answered.page.get_by_role("button", name="Try again")).to_be_visible()
    await look(answered, "interrupted", screenshots)
    await answered.page.get_by_role("button", name="Try again").click()
    await expect(answered.page.get_by_text("There was some")).to_have_count(0)
    await _is_replied_to(answered, "Is anybody there?")


async def test_a_reply_that_was_cut_off_and_has_to_be_kept_is_followed_by_another(
    open_tab: OpenTab, begin_reply: BeginReply, stack: Stack
) -> None:
    tove = await open_tab("tove")
    await tove.begin()
    await tove.write("Is anybody there?")
    await tove.sees("Is anybody there?")
    cut = await begin_reply(tove, "There was some")
    await tove.sees("Is anybody there?", "There was some")
    named = (str(user_id_of(DEVELOPMENT_ISSUER, "tove")), tove.session_id)
    held = await asyncio.to_thread(run_command, stack, "sessions", "hold", *named)
    assert held.code == 0
    cut.vanish()
    await expect(tove.page.get_by_text("This reply was cut off here")).to_be_visible()
    answered = await _again(open_tab, tove)
    await answered.page.get_by_role("button", name="Try again").click()
    await expect(answered.messages).to_have_count(3)
    await expect(answered.messages.nth(1)).to_have_text("There was some")
    await expect(answered.page.get_by_text("Replying…")).to_have_count(0)
    await expect(answered.page.get_by_role("alert")).to_have_count(0)


async def test_a_reply_that_never_came_can_be_asked_for(
    open_tab: OpenTab, stack: Stack, screenshots: Path
) -> None:
    uma = await open_tab("uma")
    await uma.begin()
    await uma.write("Hello?")
    await uma.sees("Hello?")
    answered = await _again(open_tab, uma)
    ask = answered.page.get_by_role("button", name="Ask for a reply")
    await expect(ask).to_be_visible()
    await asyncio.to_thread(stack.kill, "responder")
    await ask.click()
    # Told only after a few tries.
    alert = answered.page.get_by_role("alert")
    await expect(alert).to_contain_text("No reply came.")
    await look(answered, "unanswered", screenshots)
    await asyncio.to_thread(stack.start_again, "responder")
    await ask.click()
    await _is_replied_to(answered, "Hello?")
    await expect(alert).to_have_count(0)


async def test_what_is_said_while_a_reply_grows_gets_a_reply_of_its_own(open_tab: OpenTab) -> None:
    vera = await open_tab("vera", answered=True)
    await vera.begin()
    await vera.write("I had a dream about my mother.")
    await expect(vera.messages).to_have_count(2)
    await vera.write("And about my brother.")
    await expect(vera.messages).to_have_count(4)
    await expect(vera.messages.nth(2)).to_have_text("And about my brother.")
    await expect(vera.page.get_by_text("Replying…")).to_have_count(0)


async def test_what_was_said_offline_is_replied_to_once_it_is_sent(open_tab: OpenTab) -> None:
    wilma = await open_tab("wilma", answered=True)
    await wilma.begin()
    await wilma.page.context.set_offline(True)
    await wilma.write("From the tunnel.")
    await expect(wilma.page.get_by_text("Waiting to be sent")).to_be_visible()
    await wilma.page.context.set_offline(False)
    await _is_replied_to(wilma, "From the tunnel.")


async def test_where_nobody_answers_nobody_is_asked(open_tab: OpenTab) -> None:
    xenia = await open_tab("xenia")
    asked: list[str] = []

    def note(request: Request) -> None:
        if "RespondService" in request.url:
            asked.append(request.url)

    xenia.page.on("request", note)
    await xenia.begin()
    await xenia.write("To myself.")
    await xenia.sees("To myself.")
    await xenia.page.reload()
    await xenia.sees("To myself.")
    await expect(xenia.page.get_by_role("button", name="Ask for a reply")).to_have_count(0)
    assert asked == []


async def _again(open_tab: OpenTab, tab: Tab) -> Tab:
    """The same person at the same conversation, where there is somebody who answers."""
    answered = await open_tab(tab.person, answered=True)
    await answered.page.goto(tab.page.url)
    return answered


async def _is_replied_to(tab: Tab, text: str) -> None:
    """Waits until this is all that was said, and has a whole reply."""
    await expect(tab.messages).to_have_count(2)
    await expect(tab.messages.first).to_have_text(text)
    await expect(tab.page.get_by_text("Replying…")).to_have_count(0)
    await expect(tab.page.locator(".reply .content")).not_to_be_empty()
    await expect(tab.page.locator(".reply-bar button")).to_have_count(0)
