"""The shell blocks of the documentation, and which of them tests run.

A block is run (`test_docs_run.py`, slow) unless the line before it says why it is not:

    <!-- not run: needs ImageNet -->
"""

import dataclasses
import pathlib
import re

PAGES = [pathlib.Path("README.md"), pathlib.Path("CONTRIBUTING.md")]
PAGES += sorted(pathlib.Path("docs").rglob("*.md"))
_BLOCK = re.compile(r"(?:<!-- not run: (.*?) -->\n)?```bash\n(.*?)```", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Block:
    """Of a page.

    Attributes:
        text: Shell commands.
        not_run: Why tests do not run it; empty: they do.
    """

    text: str
    not_run: str


def blocks(page: pathlib.Path) -> list[Block]:
    """The shell blocks of a page in their order."""
    found = _BLOCK.findall(page.read_text())
    return [Block(text, why or "") for why, text in found]


def run_blocks(page: pathlib.Path) -> list[Block]:
    """Those that tests run: what is not excused and calls a script."""
    return [
        block for block in blocks(page) if not block.not_run and "python -m" in block.text
    ]
