"""Who else had to do with what is a person's, as the account page tells it."""

import asyncio
import re
from pathlib import Path
from typing import Any

import grpc
from inglenook.messages.v1.messages_pb2 import ListMessagesRequest
from inglenook.messages.v1.messages_pb2_grpc import MessagesServiceStub
from playwright.async_api import Locator, expect

from local.stack import Stack
from services.runtime.identity import user_id_of
from services.runtime.service_tokens import ServiceTokens
from services.runtime.settings import DEVELOPMENT_ISSUER
from tests.browser.conftest import OpenTab
from tests.browser.looks import look
from tests.browser.person import Tab
from tests.integration.commands import run_command
from tests.integration.identity_provider import Provider, stated


def _entries(tab: Tab) -> Locator:
    return tab.page.get_by_role("list", name="Who else has opened your data").get_by_role(
        "listitem"
    )


def _read(stack: Stack, responder: ServiceTokens, tab: Tab, session: str, times: int = 1) -> None:
    """Has the responder read what the person said."""
    token = responder.token(acting_for=user_id_of(DEVELOPMENT_ISSUER, tab.person))
    metadata = (("authorization", f"Bearer {token}"),)
    with grpc.insecure_channel(stack.ports.address("messages")) as channel:
        messages: Any = MessagesServiceStub(channel)
        for _ in range(times):
            asked = ListMessagesRequest(session_id=session)
            messages.ListMessages(asked, metadata=metadata, timeout=30)


async def _begin(tab: Tab, title: str) -> str:
    await tab.begin()
    await tab.write("It has been a long day.")
    await tab.sees("It has been a long day.")
    await tab.choose("Rename")
    await tab.page.get_by_label("Title").fill(title)
    await tab.page.keyboard.press("Enter")
    await expect(tab.page.get_by_role("heading", name=title)).to_be_visible()
    return tab.session_id


async def test_who_is_left_alone_reads_that_nobody_has_opened_their_data(
    open_tab: OpenTab, screenshots: Path
) -> None:
    quentin = await open_tab("quentin")
    await quentin.page.goto("/account")
    await expect(quentin.page.get_by_text("Nobody has.")).to_be_visible()
    await expect(_entries(quentin)).to_have_count(0)
    await look(quentin, "access-log-empty", screenshots)
    assert quentin.faults == []


async def test_who_else_opened_a_persons_data_is_told_in_plain_words(
    open_tab: OpenTab,
    stack: Stack,
    responder: ServiceTokens,
    webhook_secrets: Path,
    screenshots: Path,
) -> None:
    ruth = await open_tab("ruth")
    gone, kept = await _begin(ruth, "Let go"), await _begin(ruth, "Sleep")
    await asyncio.to_thread(_read, stack, responder, ruth, gone)
    told = stated("updated", "ruth", at=1_700_000_001.0)
    await asyncio.to_thread(Provider(stack.url, webhook_secrets).tell, told)
    await asyncio.to_thread(_read, stack, responder, ruth, kept)
    person = str(user_id_of(DEVELOPMENT_ISSUER, "ruth"))
    for command, noted in (("hold", ("--reference", "matter 7")), ("release", ())):
        operator = ("--operator", "olga")
        done = await asyncio.to_thread(
            run_command, stack, "sessions", command, person, kept, *operator, *noted
        )
        assert done.code == 0, done.told
    await ruth.page.evaluate(
        "([path, authorization]) => fetch(path, { method: 'DELETE', headers: { authorization } })",
        [f"/v1/sessions/{gone}", f"Bearer {stack.token('ruth')}"],
    )
    await ruth.page.goto("/account")
    await expect(_entries(ruth)).to_have_text(
        [
            re.compile("The operator olga lifted the legal hold on Sleep[.]$"),
            re.compile("The operator olga put a legal hold on Sleep[.] Noted: matter 7[.]$"),
            re.compile("The service responder read Sleep[.]$"),
            re.compile("Your sign-in provider .* passed on your name and email address again[.]$"),
            re.compile(
                "^(Today|Yesterday), [0-9:]{5}The service responder read a conversation[.]$"
            ),
        ]
    )
    await _entries(ruth).last.scroll_into_view_if_needed()
    await look(ruth, "access-log", screenshots)
    # What is deleted is named, and leads nowhere.
    await expect(_entries(ruth).last.get_by_role("link")).to_have_count(0)
    await _entries(ruth).nth(2).get_by_role("link", name="Sleep").click()
    await expect(ruth.page.get_by_role("heading", name="Sleep")).to_be_visible()
    assert ruth.faults == []


async def test_older_entries_come_when_asked_for(
    open_tab: OpenTab, stack: Stack, responder: ServiceTokens
) -> None:
    sven = await open_tab("sven")
    session = await _begin(sven, "Sleep")
    await asyncio.to_thread(_read, stack, responder, sven, session, 21)
    await sven.page.goto("/account")
    for shown in (10, 20):
        await expect(_entries(sven)).to_have_count(shown)
        await sven.page.get_by_role("button", name="Show older").click()
    await expect(_entries(sven)).to_have_count(21)
    await expect(sven.page.get_by_role("button", name="Show older")).to_have_count(0)
    assert sven.faults == []
