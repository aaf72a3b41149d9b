"""What the pages name is there: files, folders, headings, and the tests that prove what is said."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.folders import ROOT


def _listed(*arguments: str) -> list[str]:
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return listing.stdout.splitlines()


PAGES = _listed("*.md")
FOLDERS = {name.partition("/")[0] for name in _listed() if "/" in name}
_CODE = re.compile(r"^```.*?^```|^(?: {4}|\t).*?$", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_DEFINITION = re.compile(r'^\[([^\]]+)\]: (\S+)(?: "(\w+)")?$', re.MULTILINE)
_USE = re.compile(r"\[[^\]]+\]\[([^\]]+)\]")
_NAME = re.compile(r"`([\w.-]+/[\w./-]*)(?:::(\w+))?`")


def _text(page: Path) -> str:
    """A page without what is code in it."""
    return _CODE.sub("", page.read_text())


def _anchors(page: Path) -> set[str]:
    """What a page's headings are called in links."""
    headings = re.findall(r"^#+ (.*)$", _text(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in headings}


def _links(page: Path) -> Iterator[tuple[str, str]]:
    """Where a page's relative links lead to, and the test that each names, if it names one."""
    text = _text(page)
    found = [(target, "") for target in _INLINE.findall(text)]
    found += [(target, test) for _, target, test in _DEFINITION.findall(text)]
    return ((target, test) for target, test in found if "://" not in target)


def _is_made(name: str) -> bool:
    """Whether a path is one of those that the project makes and git leaves out."""
    # As a folder, too: one that was not made yet looks like a file.
    command = ["git", "check-ignore", name, f"{name.rstrip('/')}/"]
    return bool(subprocess.run(command, cwd=ROOT, capture_output=True, check=False).stdout)


def _has_test(file: Path, test: str) -> bool:
    return bool(re.search(rf"def {test}\(", file.read_text()))


@pytest.mark.parametrize("name", PAGES)
def test_every_relative_link_leads_somewhere(name: str) -> None:
    page = ROOT / name
    for target, test in _links(page):
        path, _, anchor = target.partition("#")
        led_to = (page.parent / path) if path else page
        assert led_to.exists(), target
        assert not anchor or anchor in _anchors(led_to), target
        assert not test or _has_test(led_to, test), f"{target} {test}"


@pytest.mark.parametrize("name", PAGES)
def test_every_label_of_a_link_is_defined_once_and_used(name: str) -> None:
    text = _text(ROOT / name)
    defined = [label for label, _, _ in _DEFINITION.findall(text)]
    assert sorted(defined) == sorted(set(_USE.findall(text)))


@pytest.mark.parametrize("name", PAGES)
def test_every_file_and_test_that_is_named_is_there(name: str) -> None:
    for path, test in _NAME.findall(_text(ROOT / name)):
        if path.partition("/")[0] not in FOLDERS:
            continue  # Not of this project: a media type, an image, a package.
        assert (ROOT / path).exists() or _is_made(path), path
        assert not test or _has_test(ROOT / path, test), f"{path}::{test}"


def test_each_recipe_for_operators_names_what_carries_it_out() -> None:
    assert len([test for _, test in _NAME.findall(_text(ROOT / "docs/operations.md")) if test]) > 5
