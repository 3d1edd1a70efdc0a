"""The project's documents as tests see them: their fenced blocks and their links."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_BLOCK = re.compile(
    r"^(?:<!-- (?P<mark>\w+) -->\n\n?)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    page: Path
    number: int
    language: str
    mark: str
    """The word in an HTML comment right before it, as ``first``."""
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT).as_posix()}-{self.number}-{self.language}"


def pages() -> list[Path]:
    """Return all pages for users and developers."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("sdk/*.md"), ROOT / "sdk/python/README.md"]
    return sorted([*found, *(ROOT / part / "README.md" for part in ("router", "sinks", "integrations"))])


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    return [
        Block(page, number, found["language"], found["mark"] or "", found["text"])
        for number, found in enumerate(_BLOCK.finditer(page.read_text("utf-8")), 1)
    ]
