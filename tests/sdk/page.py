"""The blocks of docs/write-a-processor.md."""

from __future__ import annotations

import re

from tests.docs.reading import ROOT

PAGE = ROOT / "docs" / "write-a-processor.md"
_BLOCK = re.compile(r"(?:<!-- file: (\S+) -->\n)?```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks() -> list[tuple[str, str, str]]:
    """The name of the file of each block (or nothing), its language and its text."""
    return _BLOCK.findall(PAGE.read_text(encoding="utf-8"))


def modules() -> dict[str, str]:
    """The processors of the page: the text of each module by the name of its file."""
    named = {name.rpartition("/")[2]: text for name, _, text in blocks()}
    return {name: text for name, text in named.items() if name.startswith("vidqueue_")}
