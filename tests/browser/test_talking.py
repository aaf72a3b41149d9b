"""What people do in the web app, in a real browser."""

import asyncio
import json
from pathlib import Path

from playwright.async_api import expect

from local.stack import Stack
from tests.browser.conftest import BeginReply, OpenTab


async def test_a_reply_grows_in_every_tab_of_the_person(
    open_tab: OpenTab, begin_reply: BeginReply
) -> None:
    alice = await open_tab("alice")
    await alice.begin()
    other = await alice.second()
    await alice.write("It has been a long day.")
    await other.sees("It has been a long day.")
    reply = await begin_reply(alice, "That sounds ")
    for tab in (alice, other):
        await tab.sees("It has been a long day.", "That sounds ")
        await expect(tab.page.get_by_text("Replying…")).to_be_visible()
    reply.say("tiring. 🔥 ")
    reply.say("What happened?")
    for tab in (alice, other):
        await tab.sees("It has been a long day.", "That sounds tiring. 🔥 What happened?")
    await asyncio.to_thread(reply.finish)
    for tab in (alice, other):
        await expect(tab.page.get_by_text("Replying…")).to_have_count(0)
        await expect(tab.page.locator("[aria-live=polite]")).to_contain_text("What happened?")
        assert tab.faults == []


async def test_a_conversation_is_renamed_completed_and_resumed(open_tab: OpenTab) -> None:
    bob = await open_tab("bob")
    await bob.begin()
    menu = bob.page.get_by_label("This conversation").first
    await menu.click()
    await bob.page.get_by_role("button", name="Rename").click()
    await bob.page.get_by_label("Title").fill("About work")
    await bob.page.keyboard.press("Enter")
    await expect(bob.page.get_by_role("heading", name="About work")).to_be_visible()
    await expect(bob.conversations.first).to_contain_text("About work")
    await menu.click()
    await bob.page.get_by_role("button", name="Complete").click()
    await expect(bob.conversations.first).to_contain_text("completed")
    await menu.click()
    await bob.page.get_by_role("button", name="Resume").click()
    await expect(bob.conversations.first).not_to_contain_text("completed")


async def test_the_conversation_with_the_latest_message_comes_first(open_tab: OpenTab) -> None:
    carol = await open_tab("carol")
    await carol.begin()
    first = carol.session_id
    await carol.begin()
    await carol.page.goto(f"/conversations/{first}")
    await carol.write("One more thing.")
    await expect(carol.conversations.first).to_have_attribute("href", f"/conversations/{first}")
    await expect(carol.conversations.first).to_contain_text("1 message")


async def test_a_deletion_can_be_taken_back_and_else_is_carried_out(open_tab: OpenTab) -> None:
    dora = await open_tab("dora")
    for wanted in ("Undo", "Leave"):
        await dora.begin()
        await dora.write("To be forgotten.")
        await dora.sees("To be forgotten.")
        await dora.page.get_by_label("This conversation").first.click()
        await dora.page.get_by_role("button", name="Delete").click()
        await expect(dora.conversations).to_have_count(0)
        if wanted == "Undo":
            await dora.page.get_by_role("button", name="Undo").click()
            await expect(dora.conversations).to_have_count(1)
            await dora.conversations.first.click()
            await dora.sees("To be forgotten.")
            await dora.page.get_by_label("This conversation").first.click()
            await dora.page.get_by_role("button", name="Delete").click()
    await expect(dora.page.get_by_role("button", name="Undo")).to_have_count(0, timeout=30_000)
    await dora.page.reload()
    await expect(dora.page.get_by_text("No conversations yet")).to_be_visible()


async def test_what_was_said_is_found_and_shown_in_its_place(open_tab: OpenTab) -> None:
    erin = await open_tab("erin")
    await erin.begin()
    said = [f"Number {number}" for number in range(1, 9)]
    for text in [*said[:4], "Été à la mer", *said[4:]]:
        await erin.write(text)
    await erin.sees(*said[:4], "Été à la mer", *said[4:])
    await erin.page.get_by_role("link", name="Search").click()
    await erin.page.get_by_label("Words to find").fill("ete")
    await erin.page.keyboard.press("Enter")
    await expect(erin.page.get_by_text("1 message found.")).to_be_visible()
    await erin.page.get_by_role("link", name="Été à la mer").click()
    await expect(erin.page.locator("[data-sought] .content")).to_have_text("Été à la mer")
    assert "ete" not in erin.page.url


async def test_a_conversation_is_exported_as_it_can_be_imported(
    open_tab: OpenTab, tmp_path: Path
) -> None:
    frank = await open_tab("frank")
    await frank.begin()
    await frank.write("Keep this.")
    await frank.sees("Keep this.")
    await frank.page.get_by_label("This conversation").first.click()
    async with frank.page.expect_download() as download:
        await frank.page.get_by_role("button", name="Export").click()
    file = tmp_path / "export.json"
    await (await download.value).save_as(file)
    (request,) = json.loads(file.read_text())
    assert [message["content"] for message in request["messages"]] == ["Keep this."]


async def test_an_account_is_erased_and_leaves_a_receipt(open_tab: OpenTab) -> None:
    gina = await open_tab("gina-who-leaves")
    await gina.begin()
    await gina.write("Nobody shall read this.")
    await gina.sees("Nobody shall read this.")
    await gina.page.get_by_role("link", name="Account").click()
    await gina.page.get_by_label("To erase your account").fill("ERASE")
    await gina.page.get_by_role("button", name="Erase my account").click()
    await expect(gina.page.get_by_role("heading", name="Your account is erased")).to_be_visible()
    await expect(gina.page.locator(".receipt dd").nth(2)).to_have_text("1")


async def test_a_second_person_sees_nothing_of_the_first(open_tab: OpenTab, stack: Stack) -> None:
    alice, mallory = await open_tab("harriet"), await open_tab("mallory")
    await alice.begin()
    await alice.write("For nobody else.")
    await alice.sees("For nobody else.")
    await mallory.page.goto(alice.page.url.replace(stack.url, ""))
    await expect(mallory.page.get_by_text("This conversation is not there.")).to_be_visible()
    await expect(mallory.conversations).to_have_count(0)
    assert "For nobody else." not in await mallory.page.content()


async def test_nothing_is_kept_in_the_browser_but_who_is_signed_in(open_tab: OpenTab) -> None:
    ida = await open_tab("ida")
    await ida.begin()
    await ida.write("Only in memory.")
    await ida.sees("Only in memory.")
    kept = await ida.page.evaluate(
        "[Object.keys(localStorage), Object.entries(sessionStorage), document.cookie]"
    )
    assert kept == [[], [["inglenook.person", "ida"]], ""]
    assert await ida.page.evaluate("indexedDB.databases()") == []
