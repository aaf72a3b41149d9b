"""Pictures of the web app to be looked at, light and dark, wide and small; and what axe finds."""

from pathlib import Path
from typing import Any, Literal

from playwright.async_api import ViewportSize

from contract.folders import ROOT
from tests.browser.person import Tab

_AXE = ROOT / "node_modules/axe-core/axe.min.js"
_WIDE = ViewportSize(width=1200, height=800)
_SMALL = ViewportSize(width=390, height=780)
_LOOKS: tuple[tuple[str, ViewportSize, Literal["light", "dark"]], ...] = (
    ("light", _WIDE, "light"),
    ("dark", _WIDE, "dark"),
    ("small-dark", _SMALL, "dark"),
    ("small-light", _SMALL, "light"),
)


async def look(tab: Tab, screen: str, screenshots: Path) -> None:
    """Keeps a picture of what the tab shows in each look, and finds it accessible."""
    for name, size, scheme in _LOOKS:
        await tab.page.set_viewport_size(size)
        await tab.page.emulate_media(color_scheme=scheme)
        await tab.page.screenshot(path=screenshots / f"{screen}-{name}.png")
        assert (screen, name, await _faults(tab)) == (screen, name, [])
    await tab.page.set_viewport_size(_WIDE)


async def _faults(tab: Tab) -> list[object]:
    # Through the debugger's door: the page's own policy lets no other script in.
    if not await tab.page.evaluate("'axe' in window"):
        await tab.page.evaluate(_AXE.read_text() + ";0")
    result: dict[str, Any] = await tab.page.evaluate("axe.run()")
    return [
        (fault["id"], fault["nodes"][0]["html"])
        for fault in result["violations"]
        if fault["impact"] in {"serious", "critical"}
    ]
