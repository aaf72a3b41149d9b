"""A person at a tab: what they do and what they see, in the words of the page."""

from datetime import UTC, datetime, timedelta

from playwright.async_api import Dialog, Locator, Page, expect


class Tab:
    """One tab of a browser in which somebody uses the web app."""

    def __init__(self, page: Page, person: str) -> None:
        self.page = page
        self.person = person
        self.faults: list[str] = []
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", lambda line: self._note(line.type, line.text))

    def _note(self, kind: str, text: str) -> None:
        # That a network is cut is told as well, and is no fault of the page.
        if kind == "error" and "Content Security Policy" in text:
            self.faults.append(text)

    async def second(self) -> "Tab":
        """Another tab of the same person in the same browser, which shows the same."""
        other = Tab(await self.page.context.new_page(), self.person)
        await other.page.goto(self.page.url)
        await expect(other.new_conversation).to_be_visible()
        return other

    async def note_trouble(self) -> None:
        """From now on, `trouble` knows what the page complained of."""
        await self.page.evaluate(
            """() => new MutationObserver(() => {
                const trouble = document.querySelector(".connection, [role=alert]");
                if (trouble) { window.trouble = trouble.textContent; }
            }).observe(document.body, { childList: true, subtree: true })"""
        )

    async def trouble(self) -> str | None:
        """What the page complained of last, if it did."""
        complaint: str | None = await self.page.evaluate("window.trouble")
        return complaint

    @property
    def session_id(self) -> str:
        return self.page.url.rpartition("/")[2]

    async def begin(self) -> None:
        before = self.page.url
        await self.new_conversation.click()
        await self.page.wait_for_url(lambda url: url != before and "/conversations/" in url)
        await expect(self.field).to_be_focused()

    async def stop_time(self) -> None:
        """From now on no time passes in the page but what `let_pass` lets, until it goes on."""
        await self.page.clock.install()
        # The clock must not be there yet, and no stream takes this for a silence.
        await self.page.clock.pause_at(datetime.now(UTC) + timedelta(seconds=20))

    async def let_pass(self, seconds: int) -> None:
        await self.page.clock.run_for(seconds * 1000)

    async def let_time_go_on(self) -> None:
        await self.page.clock.resume()

    async def choose(self, what: str) -> None:
        """Chooses from the menu of the conversation."""
        await self.page.get_by_label("This conversation").first.click()
        await self.page.get_by_role("button", name=what).click()

    async def write(self, text: str) -> None:
        await self.field.fill(text)
        await self.page.get_by_role("button", name="Send").click()

    async def sees(self, *texts: str) -> None:
        """Waits until the messages are these, and all of them stored."""
        await expect(self.messages).to_have_text(list(texts))
        await expect(
            self.page.locator("[data-delivery]:not([data-delivery=stored])")
        ).to_have_count(0)

    @property
    def new_conversation(self) -> Locator:
        return self.page.get_by_role("button", name="New conversation")

    @property
    def field(self) -> Locator:
        return self.page.get_by_label("Your message")

    @property
    def messages(self) -> Locator:
        return self.page.locator(".message .content")

    @property
    def conversations(self) -> Locator:
        return self.page.get_by_role("navigation", name="Conversations").get_by_role("link")


async def asked(tab: Tab, *, accept: bool, by: Locator) -> list[str]:
    """What the browser asks a person when they press a button; they accept it, or do not."""
    questions: list[str] = []

    async def answer(dialog: Dialog) -> None:
        questions.append(dialog.message or dialog.type)
        await (dialog.accept() if accept else dialog.dismiss())

    tab.page.on("dialog", answer)
    await by.click()
    tab.page.remove_listener("dialog", answer)
    return questions
