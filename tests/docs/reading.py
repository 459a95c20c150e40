"""Reads the documents the way a person would copy from them."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_SUBSTITUTION = re.compile(r"\$\(([^()]*)\)")


def generator() -> ModuleType:
    """docs/generate.py, which is a script and no package."""
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blocks(document: Path, language: str) -> Iterator[str]:
    """The code blocks of a language."""
    for found, text in _BLOCK.findall(document.read_text(encoding="utf-8")):
        if found == language:
            yield text


def spans(document: Path) -> Iterator[str]:
    """Inline code."""
    yield from _SPAN.findall(_BLOCK.sub("", document.read_text(encoding="utf-8")))


def shell_commands(document: Path) -> Iterator[list[str]]:
    """Each simple command of the shell blocks, as the words that a program gets."""
    for text in blocks(document, "sh"):
        for line in text.splitlines():
            yield from _simple_commands(line)


def commands_of(program: str) -> list[tuple[str, list[str]]]:
    """Every call of a program in any document: the document's name, and the words after the program's."""
    return [
        (document.name, words[1:])
        for document in DOCUMENTS
        for words in shell_commands(document)
        if words[0] == program
    ]


def _simple_commands(line: str) -> Iterator[list[str]]:
    for inner in _SUBSTITUTION.findall(line):
        yield from _simple_commands(inner)
    words: list[str] = []
    lexer = shlex.shlex(_SUBSTITUTION.sub("substituted", line), posix=True, punctuation_chars="|&;")
    lexer.whitespace_split = True
    for word in lexer:
        if set(word) <= set("|&;"):
            yield from filter(None, [words])
            words = []
        elif words or "=" not in word:
            words.append(word)
    yield from filter(None, [words])
