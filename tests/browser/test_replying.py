"""Replies as people have them: asked for by themselves, stopped, and had again."""

from playwright.async_api import Request, expect

from tests.browser.conftest import BeginReply, OpenTab


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
