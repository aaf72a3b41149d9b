"""What a person wrote and did not send: it is not lost unless they say so, and is nobody else's."""

import asyncio

import httpx
from playwright.async_api import Dialog, Route, expect

from local.stack import Stack
from tests.browser.conftest import OpenTab
from tests.browser.person import Tab, asked


async def test_what_is_not_sent_outlasts_a_sign_in_that_ended(
    open_tab: OpenTab, stack: Stack
) -> None:
    oda = await open_tab("oda")
    await _let_the_sign_in_end(oda, stack)
    await oda.write("Refused.")
    await expect(oda.page.get_by_role("alert")).to_contain_text("Your sign-in has ended.")
    await oda.page.keyboard.press("End")
    await oda.page.keyboard.type(" And more.")
    await expect(oda.page.get_by_text("What you wrote and did not send waits")).to_be_visible()
    await oda.page.get_by_role("button", name="Sign in").click()
    await _sign_in(oda, "oda")
    await expect(oda.field).to_have_value("Refused. And more.")
    await oda.page.get_by_role("button", name="Send").click()
    await oda.sees("Refused. And more.")
    await expect(oda.page.get_by_text("Your sign-in has ended.")).to_have_count(0)


async def test_what_is_not_sent_is_gone_when_somebody_else_signs_in(
    open_tab: OpenTab, stack: Stack
) -> None:
    otto = await open_tab("otto")
    await _let_the_sign_in_end(otto, stack)
    await otto.field.fill("For nobody else.")
    await otto.page.get_by_role("button", name="Sign in").click()
    await _sign_in(otto, "olga")
    await expect(otto.page.get_by_text("This conversation is not there.")).to_be_visible()
    assert "For nobody else." not in await otto.page.content()
    await otto.page.get_by_role("link", name="Account").click()
    await otto.page.get_by_role("button", name="Sign out").click()
    await otto.page.go_back()
    await _sign_in(otto, "otto")
    await expect(otto.field).to_have_value("")


async def test_who_would_lose_what_is_not_sent_is_asked_first(open_tab: OpenTab) -> None:
    olaf = await open_tab("olaf")
    await olaf.begin()
    assert await _asked_at_reload(olaf) == []
    await _type(olaf, "Not sent yet.")
    await olaf.page.get_by_role("link", name="Account").click()
    sign_out = olaf.page.get_by_role("button", name="Sign out")
    questions = await asked(olaf, accept=False, by=sign_out)
    assert questions == ["You wrote something that is not sent. Leave and lose it?"]
    await olaf.conversations.first.click()
    await expect(olaf.field).to_have_value("Not sent yet.")
    await olaf.page.get_by_role("link", name="Account").click()
    assert await asked(olaf, accept=True, by=sign_out) == questions
    await olaf.page.go_back()
    await _sign_in(olaf, "olaf")
    await expect(olaf.field).to_have_value("")
    await _type(olaf, "Not sent either.")
    assert await _asked_at_reload(olaf) == ["beforeunload"]


async def test_what_was_written_where_a_conversation_is_gone_can_be_copied_or_thrown_away(
    open_tab: OpenTab, stack: Stack
) -> None:
    oleg = await open_tab("oleg")
    await oleg.begin()
    await oleg.field.fill("A long thought.")
    await asyncio.to_thread(_delete, oleg, stack)
    left = oleg.page.get_by_label("What you wrote here and did not send")
    await expect(left).to_have_value("A long thought.")
    await oleg.page.get_by_role("button", name="Throw it away").click()
    await expect(left).to_have_count(0)
    assert await _asked_at_reload(oleg) == []


async def test_what_is_too_long_comes_back_says_so_and_does_not_hold_up_what_was_said_after_it(
    open_tab: OpenTab,
) -> None:
    onno = await open_tab("onno")
    await onno.begin()
    both_are_said = asyncio.Event()

    async def a_proxy_with_a_limit(route: Route) -> None:
        if b"A long one." in (route.request.post_data_buffer or b""):
            await both_are_said.wait()
            await route.fulfill(status=413, body="too large")
        else:
            await route.continue_()

    await onno.page.route("**/AppendMessage", a_proxy_with_a_limit)
    await onno.write("A long one.")
    await onno.write("A short one.")
    both_are_said.set()
    alert = onno.page.get_by_role("alert")
    await expect(alert).to_have_text(
        "This was not sent. It is too long to be sent in one piece. Send it in several."
    )
    await expect(onno.field).to_have_value("A long one.")
    await onno.sees("A short one.")


async def _let_the_sign_in_end(tab: Tab, stack: Stack) -> None:
    """Begins a conversation; then the sign-in ends, and cannot be renewed."""
    await tab.begin()
    token = stack.token(tab.person, lifetime=-60)

    async def the_same_again(route: Route) -> None:
        await route.fulfill(json={"token": token})

    await tab.page.route("**/development/token", the_same_again)
    await tab.page.reload()
    await expect(tab.page.get_by_text("Your sign-in has ended.")).to_be_visible()


async def _sign_in(tab: Tab, person: str) -> None:
    await tab.page.unroute_all()
    name = tab.page.get_by_label("Your name")
    await name.fill(person)
    await name.press("Enter")


def _delete(tab: Tab, stack: Stack) -> None:
    """Deletes the conversation that a tab shows, from elsewhere."""
    headers = {"authorization": f"Bearer {stack.token(tab.person)}"}
    url = f"{stack.url}/v1/sessions/{tab.session_id}"
    httpx.delete(url, headers=headers, trust_env=False).raise_for_status()


async def _type(tab: Tab, text: str) -> None:
    """Writes as people do: a browser asks nobody who has not touched the page."""
    await tab.field.click()
    await tab.page.keyboard.type(text)


async def _asked_at_reload(tab: Tab) -> list[str]:
    """What the browser asks when the page is loaded anew, which goes on."""
    questions: list[str] = []

    async def answer(dialog: Dialog) -> None:
        questions.append(dialog.type)
        await dialog.accept()

    tab.page.on("dialog", answer)
    await tab.page.reload()
    await expect(tab.new_conversation).to_be_visible()
    tab.page.remove_listener("dialog", answer)
    return questions
