"""Tables in the documentation that commands write: files of ``docs/figures``, included by README and pages.

A block of a page between ``<!-- include: docs/figures/NAME.md -->`` and ``<!-- end -->`` is that file's content; the
path is relative to the page. ``refresh`` writes all blocks again; a test compares them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FIGURES = ROOT / "docs" / "figures"
BLOCK = re.compile(r"(<!-- include: (\S+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def pages() -> Iterator[Path]:
    """README, CONTRIBUTING and everything below ``docs``, but for what is included."""
    yield from (ROOT / "README.md", ROOT / "CONTRIBUTING.md")
    yield from (page for page in sorted((ROOT / "docs").rglob("*.md")) if page.parent != FIGURES)


def included(page: Path, text: str) -> str:
    """The text of a page with its blocks as the files have them; of a file that is not there yet, as they are."""

    def block(found: re.Match[str]) -> str:
        source = page.parent / found[2]
        return f"{found[1]}{source.read_text() if source.exists() else found[3]}{found[4]}"

    return BLOCK.sub(block, text)


def refresh() -> None:
    """Write every page whose blocks have changed."""
    for page in pages():
        text = page.read_text()
        if (written := included(page, text)) != text:
            page.write_text(written)


def write(name: str, text: str, folder: Path = FIGURES) -> None:
    """A file of figures; the pages that include it follow."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(text)
    if folder.resolve() == FIGURES:
        refresh()
