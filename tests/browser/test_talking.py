"""What people do in the web app, in a real browser."""

import asyncio
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
from playwright.async_api import Download, expect

from local.stack import Stack
from services.runtime.identity import user_id_of
from services.runtime.settings import DEVELOPMENT_ISSUER
from tests.browser.conftest import BeginReply, OpenTab
from tests.browser.person import Tab
from tests.integration.commands import run_command

# How long the app lets a person take back a deletion, in seconds.
_TO_TAKE_BACK = 8


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
    await bob.choose("Rename")
    await bob.page.get_by_label("Title").fill("About work")
    await bob.page.keyboard.press("Enter")
    await expect(bob.page.get_by_role("heading", name="About work")).to_be_visible()
    await expect(bob.conversations.first).to_contain_text("About work")
    await bob.choose("Complete")
    await expect(bob.conversations.first).to_contain_text("completed")
    await bob.choose("Resume")
    await expect(bob.conversations.first).not_to_contain_text("completed")


async def test_what_comes_while_a_name_is_written_leaves_it_alone(open_tab: OpenTab) -> None:
    nils = await open_tab("nils")
    await nils.begin()
    other = await nils.second()
    await nils.choose("Rename")
    await expect(nils.page.get_by_label("Title")).to_be_focused()
    await nils.page.keyboard.type("About ")
    await other.write("Something.")
    await expect(nils.conversations.first).to_contain_text("message")
    await nils.page.keyboard.type("work")
    await nils.page.keyboard.press("Enter")
    await expect(nils.page.get_by_role("heading", name="About work")).to_be_visible()


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
        await dora.stop_time()
        await dora.choose("Delete")
        await expect(dora.conversations).to_have_count(0)
        if wanted == "Undo":
            await dora.page.get_by_role("button", name="Undo").click()
            await expect(dora.conversations).to_have_count(1)
            await dora.conversations.first.click()
            await dora.sees("To be forgotten.")
            await dora.choose("Delete")
            await dora.let_time_go_on()
    undo = dora.page.get_by_role("button", name="Undo")
    await expect(undo).to_be_visible()
    await dora.let_pass(_TO_TAKE_BACK)
    await expect(undo).to_have_count(0)
    await dora.page.reload()
    await expect(dora.page.get_by_text("No conversations yet")).to_be_visible()


async def test_a_held_conversation_says_so_and_goes_on_but_cannot_be_deleted(
    open_tab: OpenTab, stack: Stack
) -> None:
    hedda = await open_tab("hedda")
    await hedda.begin()
    named = (str(user_id_of(DEVELOPMENT_ISSUER, "hedda")), hedda.session_id)
    conversation = hedda.page.url
    note = hedda.page.get_by_text("keeps this conversation as it is")
    await expect(note).to_have_count(0)
    held = await asyncio.to_thread(run_command, stack, "sessions", "hold", *named)
    assert held.code == 0
    await expect(note).to_be_visible()
    await hedda.write("It goes on.")
    await hedda.sees("It goes on.")
    await hedda.page.get_by_label("This conversation").first.click()
    await expect(hedda.page.get_by_role("button", name="Complete")).to_be_visible()
    await expect(hedda.page.get_by_role("button", name="Delete")).to_have_count(0)
    await hedda.page.goto("/account")
    await hedda.page.get_by_label("To erase your account, write ERASE").fill("ERASE")
    await hedda.page.get_by_role("button", name="Erase my account").click()
    await expect(hedda.page.get_by_role("alert")).to_contain_text("for a legal reason")
    await hedda.page.goto(conversation)
    await expect(note).to_be_visible()
    released = await asyncio.to_thread(run_command, stack, "sessions", "release", *named)
    assert released.code == 0
    await expect(note).to_have_count(0)
    await hedda.choose("Delete")
    await expect(hedda.conversations).to_have_count(0)
    assert hedda.faults == []


async def test_a_deletion_is_carried_out_before_its_person_signs_out(open_tab: OpenTab) -> None:
    dirk = await open_tab("dirk")
    await dirk.begin()
    await dirk.stop_time()
    await dirk.choose("Delete")
    await expect(dirk.page.get_by_role("button", name="Undo")).to_be_visible()
    await dirk.page.get_by_role("link", name="Account").click()
    await dirk.page.get_by_role("button", name="Sign out").click()
    await expect(dirk.page.get_by_label("Your name")).to_be_visible()
    later = await open_tab("dirk")
    await expect(later.page.get_by_text("No conversations yet")).to_be_visible()


async def test_a_deletion_is_carried_out_when_its_page_is_left(open_tab: OpenTab) -> None:
    # With no request of the tab intercepted: one that outlives its page would be stuck.
    doris = await open_tab("doris", answered=True)
    await doris.begin()
    witness = await open_tab("doris")
    await expect(witness.conversations).to_have_count(1)
    await doris.stop_time()
    await doris.choose("Delete")
    await expect(doris.page.get_by_role("button", name="Undo")).to_be_visible()
    await doris.page.goto("about:blank")
    await expect(witness.conversations).to_have_count(0)


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
    async with frank.page.expect_download() as download:
        await frank.choose("Export")
    request, last = await _read(await download.value, tmp_path)
    assert last == {"end": {"messages": "1"}}
    assert [message["content"] for message in request["messages"]] == ["Keep this."]


async def test_everything_of_a_person_is_exported_as_one_file(
    open_tab: OpenTab, tmp_path: Path
) -> None:
    greta = await open_tab("greta")
    for text in ("In the first.", "In the second."):
        await greta.begin()
        await greta.write(text)
        await greta.sees(text)
    await greta.page.get_by_role("link", name="Account").click()
    async with greta.page.expect_download() as download:
        await greta.page.get_by_role("button", name="Export everything").click()
    frames = await _read(await download.value, tmp_path)
    assert frames[-1]["end"] == {"sessions": "2", "messages": "2"}
    parts = json.dumps(frames)
    assert all(text in parts for text in ("greta@example.com", "In the first.", "In the second."))
    await expect(greta.page.get_by_text("Your file is saved.")).to_be_visible()


async def test_the_account_page_tells_how_much_of_the_room_is_used(open_tab: OpenTab) -> None:
    helene = await open_tab("helene")
    await helene.page.get_by_role("link", name="Account").click()
    await expect(helene.page.get_by_text("You use 0 bytes of 1.1 GB.")).to_be_visible()
    await helene.page.goto("/")
    await helene.begin()
    await helene.write("It has been a long day.")
    await helene.sees("It has been a long day.")
    await helene.page.get_by_role("link", name="Account").click()
    used = re.compile(r"You use [1-9][\d.]* (bytes|kB) of 1\.1 GB\.")
    await expect(helene.page.get_by_text(used)).to_be_visible()
    assert helene.faults == []


async def test_an_account_is_erased_and_leaves_a_receipt(open_tab: OpenTab, tmp_path: Path) -> None:
    gina = await open_tab("gina-who-leaves")
    await gina.begin()
    await gina.write("Nobody shall read this.")
    await gina.sees("Nobody shall read this.")
    await gina.page.get_by_role("link", name="Account").click()
    await gina.page.get_by_label("To erase your account").fill("ERASE")
    await gina.page.get_by_role("button", name="Erase my account").click()
    await expect(gina.page.get_by_role("heading", name="Your account is erased")).to_be_visible()
    await expect(gina.page.locator(".receipt dd").nth(2)).to_have_text("1")
    async with gina.page.expect_download() as download:
        await gina.page.get_by_role("button", name="Save the receipt").click()
    receipt = await _read(await download.value, tmp_path)
    assert receipt["complete"] is True
    assert receipt["userId"] == str(user_id_of(DEVELOPMENT_ISSUER, gina.person))


async def test_what_was_said_on_different_days_is_told_apart(
    open_tab: OpenTab, stack: Stack
) -> None:
    hugo = await open_tab("hugo")
    await hugo.begin()
    times = ("2024-12-31T12", "2025-01-05T12", "2025-03-10T12", "2025-03-11T12", "2025-03-11T13")
    await _import(stack, hugo, times)
    await hugo.page.clock.set_fixed_time("2025-03-11T20:00:00Z")
    await hugo.page.reload()
    await hugo.sees(*times)
    days = ["December 31, 2024", "Sunday, January 5", "Yesterday", "Today"]
    await expect(hugo.page.locator(".day")).to_have_text(days)


async def test_what_is_refused_comes_back_with_the_reason(open_tab: OpenTab) -> None:
    ivan = await open_tab("ivan")
    await ivan.begin()
    await _write_what_is_refused(ivan, "Before the gap, after the gap.")
    await expect(ivan.page.get_by_role("alert")).to_contain_text("This was not sent.")
    await expect(ivan.messages).to_have_count(0)
    await expect(ivan.field).to_have_value("Before the gap\0 after the gap.")


async def test_what_is_refused_is_kept_beside_what_was_written_meanwhile(
    open_tab: OpenTab,
) -> None:
    ilse = await open_tab("ilse")
    await ilse.begin()
    await ilse.page.context.set_offline(True)
    await _write_what_is_refused(ilse, "First, before.")
    await _write_what_is_refused(ilse, "Second, after it.")
    await ilse.page.get_by_role("link", name="Search").click()
    await ilse.conversations.first.click()
    await ilse.field.fill("Third.")
    await ilse.page.context.set_offline(False)
    await expect(ilse.field).to_have_value("First\0 before.\n\nSecond\0 after it.\n\nThird.")
    await expect(ilse.page.get_by_role("alert")).to_contain_text("This was not sent.")
    await expect(ilse.messages).to_have_count(0)


async def test_a_message_that_is_too_long_is_told_before_it_is_sent(open_tab: OpenTab) -> None:
    jana = await open_tab("jana")
    await jana.begin()
    await jana.field.fill("🔥" * 50_000)
    await expect(jana.page.get_by_text("50,000 of 50,000 characters")).to_be_visible()
    await expect(jana.page.get_by_role("button", name="Send")).to_be_enabled()
    await jana.field.fill("🔥" * 50_001)
    await expect(jana.page.get_by_role("button", name="Send")).to_be_disabled()


async def _write_what_is_refused(tab: Tab, text: str) -> None:
    """Writes a text with a character in place of its comma that no message may hold."""
    await tab.field.fill(text)
    await tab.field.evaluate(
        "(field, comma) => { field.setRangeText('\\0', comma, comma + 1);"
        " field.dispatchEvent(new Event('input', { bubbles: true })); }",
        text.index(","),
    )
    await tab.page.get_by_role("button", name="Send").click()


async def _read(download: Download, folder: Path) -> Any:  # noqa: ANN401 - as json.loads
    file = folder / "export.json"
    await download.save_as(file)
    return json.loads(file.read_text())


async def _import(stack: Stack, tab: Tab, times: Sequence[str]) -> None:
    """Says something at each of the times, which is what is said."""
    messages = [
        {
            "sessionId": tab.session_id,
            "messageId": str(uuid4()),
            "role": "ROLE_USER",
            "content": time,
            "createTime": f"{time}:00:00Z",
        }
        for time in times
    ]
    headers = {"authorization": f"Bearer {stack.token(tab.person)}"}
    async with httpx.AsyncClient(base_url=stack.url, headers=headers, trust_env=False) as client:
        answer = await client.post("/v1/messages:import", json=[{"messages": messages}])
    answer.raise_for_status()
