"""Signing in at the development issuer, and what a browser and other people are told of it."""

from playwright.async_api import Browser, expect

from local.stack import Stack
from tests.browser.conftest import OpenTab
from tests.browser.person import Tab


async def test_people_sign_in_by_their_name_until_they_sign_out(
    browser: Browser, stack: Stack
) -> None:
    context = await browser.new_context(base_url=stack.url)
    tab = Tab(await context.new_page(), "kaya")
    name = tab.page.get_by_label("Your name")
    await tab.page.goto("/account")
    await name.fill("not a name")
    await name.press("Enter")
    await expect(tab.page.get_by_role("alert")).to_contain_text("Name a person")
    await name.fill("Kaya")
    await name.press("Enter")
    await expect(tab.page.get_by_text("Signed in with kaya@example.com")).to_be_visible()
    await tab.page.reload()
    await expect(tab.page.get_by_text("Signed in with kaya@example.com")).to_be_visible()
    await tab.page.get_by_role("button", name="Sign out").click()
    await expect(name).to_be_visible()
    await tab.page.reload()
    await expect(name).to_be_visible()
    assert tab.faults == []
    await context.close()


async def test_a_second_person_sees_nothing_of_the_first(open_tab: OpenTab, stack: Stack) -> None:
    alice, mallory = await open_tab("harriet"), await open_tab("mallory")
    await alice.begin()
    await alice.write("For nobody else.")
    await alice.sees("For nobody else.")
    await mallory.page.goto(alice.page.url.replace(stack.url, ""))
    await expect(mallory.page.get_by_text("This conversation is not there.")).to_be_visible()
    await expect(mallory.page.get_by_role("link", name="Go to your conversations")).to_be_visible()
    await expect(mallory.conversations).to_have_count(0)
    assert "For nobody else." not in await mallory.page.content()


async def test_nothing_is_kept_in_the_browser_but_who_is_signed_in(open_tab: OpenTab) -> None:
    ida = await open_tab("ida")
    await ida.begin()
    await ida.write("Only in memory.")
    await ida.sees("Only in memory.")
    await ida.field.fill("Not even sent.")
    kept = await ida.page.evaluate(
        "[Object.keys(localStorage), Object.entries(sessionStorage), document.cookie]"
    )
    assert kept == [[], [["inglenook.person", "ida"]], ""]
    assert await ida.page.evaluate("indexedDB.databases()") == []
