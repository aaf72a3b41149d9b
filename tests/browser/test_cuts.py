"""Cuts of every kind: the web app goes on as if they had not been."""

import asyncio
import base64

from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.code_pb2 import PERMISSION_DENIED
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from playwright.async_api import Route, expect

from local.stack import Stack
from tests.browser.conftest import BeginReply, OpenTab


async def test_both_tabs_converge_after_the_server_died_in_the_middle_of_a_reply(
    open_tab: OpenTab, begin_reply: BeginReply, stack: Stack
) -> None:
    alice = await open_tab("judy")
    await alice.begin()
    other = await alice.second()
    reply = await begin_reply(alice, "Once upon a time")
    for tab in (alice, other):
        await tab.sees("Once upon a time")
    await asyncio.to_thread(stack.kill, "messages")
    await alice.write("Are you there?")
    await expect(alice.page.get_by_text("Waiting to be sent")).to_be_visible()
    await asyncio.to_thread(stack.start_again, "messages")
    reply.vanish()
    for tab in (alice, other):
        await expect(tab.messages).to_have_text(["Once upon a time", "Are you there?"])
        await expect(tab.page.get_by_text("This reply was cut off here")).to_be_visible()


async def test_what_is_said_offline_waits_and_is_sent_once(open_tab: OpenTab) -> None:
    kim = await open_tab("kim")
    await kim.begin()
    other = await kim.second()
    await kim.write("Before the tunnel.")
    await kim.sees("Before the tunnel.")
    far_away = await open_tab("kim")
    await far_away.page.goto(kim.page.url)
    await kim.page.context.set_offline(True)
    await kim.write("In the tunnel.")
    await kim.write("Still in it.")
    await expect(kim.page.get_by_text("You are offline.")).to_be_visible()
    await expect(kim.page.get_by_text("Waiting to be sent")).to_have_count(2)
    await far_away.sees("Before the tunnel.")
    await kim.page.context.set_offline(False)
    for tab in (kim, other, far_away):
        await tab.sees("Before the tunnel.", "In the tunnel.", "Still in it.")
    await expect(kim.page.get_by_text("You are offline.")).to_have_count(0)


async def test_a_reload_in_the_middle_of_a_reply_shows_it_so_far_and_then_the_rest(
    open_tab: OpenTab, begin_reply: BeginReply
) -> None:
    lena = await open_tab("lena")
    await lena.begin()
    reply = await begin_reply(lena, "So far ")
    await lena.sees("So far ")
    await lena.page.reload()
    await lena.sees("So far ")
    reply.say("and the rest.")
    await lena.sees("So far and the rest.")
    await asyncio.to_thread(reply.finish)


async def test_a_token_that_ends_is_not_noticed(open_tab: OpenTab, stack: Stack) -> None:
    asked = []

    async def short_lived(route: Route) -> None:
        asked.append(route.request.url)
        await route.fulfill(json={"token": stack.token("mike", lifetime=2)})

    mike = await open_tab("mike")
    await mike.page.context.route("**/development/token", short_lived)
    await mike.begin()
    await mike.page.reload()
    await mike.note_trouble()
    far_away = await open_tab("mike")
    await far_away.page.goto(mike.page.url)
    said: list[str] = []
    while len(asked) < 2:
        said.append(f"Number {len(said) + 1}")
        await far_away.write(said[-1])
        await far_away.sees(*said)
        await mike.sees(*said)
        await asyncio.sleep(1)
    assert await mike.trouble() is None


async def test_earlier_messages_come_when_they_are_looked_for(open_tab: OpenTab) -> None:
    nina = await open_tab("nina")
    await nina.begin()
    said = [f"Number {number}" for number in range(1, 91)]
    for text in said:
        await nina.write(text)
    await nina.sees(*said)
    await nina.page.reload()
    await expect(nina.messages.last).to_be_in_viewport()
    await expect(nina.messages.first).to_have_text("Number 41")
    await nina.page.get_by_label("Messages", exact=True).hover()
    await nina.page.mouse.wheel(0, -100_000)
    await nina.sees(*said)
    await expect(nina.messages.last).not_to_be_in_viewport()
    await nina.page.get_by_role("button", name="Newest messages").click()
    await expect(nina.messages.last).to_be_in_viewport()


async def test_what_a_proxy_on_the_way_refuses_is_tried_again_by_itself(open_tab: OpenTab) -> None:
    pia = await open_tab("pia")
    await pia.begin()

    async def forbid(route: Route) -> None:
        await route.fulfill(status=403, content_type="text/html", body="<p>Sign in first.</p>")

    await pia.page.route("**/inglenook.*/*", forbid)
    await pia.page.reload()
    await pia.write("From a hotel.")
    await expect(pia.page.get_by_text("The connection is lost.")).to_be_visible()
    await expect(pia.page.get_by_text("Waiting to be sent")).to_be_visible()
    await pia.page.unroute_all()
    await pia.sees("From a hotel.")
    await expect(pia.page.get_by_text("The connection is lost.")).to_have_count(0)


async def test_who_was_refused_for_good_can_try_again(open_tab: OpenTab) -> None:
    pola = await open_tab("pola")
    await pola.begin()
    refusal = Status(code=PERMISSION_DENIED, message="Ask them.", details=[AnyMessage()])
    refusal.details[0].Pack(ErrorInfo(domain="inglenook", reason="PERSON_LOCKED"))
    headers = {
        "content-type": "application/grpc-web+proto",
        "grpc-status": str(refusal.code),
        "grpc-status-details-bin": base64.b64encode(refusal.SerializeToString()).decode(),
    }

    async def lock(route: Route) -> None:
        await route.fulfill(headers=headers)

    await pola.page.route("**/WatchSessions", lock)
    await pola.page.reload()
    again = pola.page.get_by_role("status").get_by_role("button", name="Try again")
    await expect(again).to_be_visible()
    await expect(pola.page.get_by_text("Ask them.")).to_be_visible()
    await pola.page.unroute_all()
    await again.click()
    await expect(pola.conversations).to_have_count(1)
    await expect(again).to_have_count(0)
