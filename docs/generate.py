"""Writes what the documents repeat from the code, so that it is never wrong for long: `python docs/generate.py`.

A document marks the place with `<!-- generated: NAME -->` and `<!-- end -->`; config.example.toml is written whole.
The test suite fails while a document differs from what this would write.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from vidqueue.api.routes import ENDPOINTS
from vidqueue.cli.commands import COMMANDS
from vidqueue.cli.exits import MEANINGS
from vidqueue.cli.system import type_text
from vidqueue.db import migrate
from vidqueue.doctor import invariants
from vidqueue.errors import KINDS
from vidqueue.processors import registry
from vidqueue.settings.schema import keys, variable_of, with_sections

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "config.example.toml"
# What comes with vidqueue; other packages document the sections of their processors themselves.
MODEL = with_sections(registry.sections(of_package="vidqueue."))
# Defaults that differ from machine to machine, in words.
ELSEWHERE = {
    "data_dir": "$STATE_DIRECTORY, else ~/.local/state/vidqueue",
    "models_dir": "models in data_dir",
    "host_name": "the machine's own name",
    "database.url": "not set",
    "database.url_file": "not set",
    "webhooks.secret_file": "webhook_secret in data_dir",
    "comfyui.workflows": "not set",
    "facefusion.home": "not set",
    "facefusion.python": "not set",
    "compose.script_key_file": "not set",
}
# What the example shows where there is no fixed default.
SAMPLES = {
    "data_dir": "/var/lib/vidqueue",
    "models_dir": "/srv/models",
    "host_name": "workstation",
    "database.url": "postgresql://vidqueue@db.example/vidqueue",
    "database.url_file": "/etc/vidqueue/database_url",
    "webhooks.secret_file": "/etc/vidqueue/webhook_secret",
    "comfyui.workflows": "/etc/vidqueue/workflows",
    "facefusion.home": "/opt/facefusion",
    "facefusion.python": "/opt/facefusion/.venv/bin/python",
    "compose.script_key_file": "/etc/vidqueue/script_key",
}
_MARK = re.compile(r"<!-- generated: ([\w-]+) -->\n.*?<!-- end -->", re.DOTALL)


def main() -> int:
    """Write everything and name what changed."""
    for path, text in documents():
        if path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            sys.stdout.write(f"{path.relative_to(ROOT)}\n")
    return 0


def documents() -> Iterator[tuple[Path, str]]:
    """Every document with the text it should have."""
    yield EXAMPLE, config_example()
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        yield path, _MARK.sub(_fill, path.read_text(encoding="utf-8"))


def config_example() -> str:
    """Every key with its description and its default, commented out."""
    parts = [
        "# Every key of vidqueue with its default. Copy it to ./vidqueue.toml or /etc/vidqueue/vidqueue.toml and\n"
        "# uncomment what you change; `vidqueue config check` tells what is wrong, all at once. Flags and environment\n"
        "# variables (VIDQUEUE_SECTION__KEY) go before this file."
    ]
    section = ""
    for key, info in keys(MODEL):
        name = key.rpartition(".")[2]
        if (this := key.rpartition(".")[0]) != section:
            section = this
            parts.append(f"\n[{section}]")
        words = textwrap.wrap(info.description or "", 110, initial_indent="# ", subsequent_indent="# ")
        parts.append("\n".join([*words, f"#{name} = {_toml(key, info)}"]))
    return "\n".join(parts) + "\n"


def configuration_table() -> str:
    """Every key, its default and its variable."""
    rows = [
        (f"`{key}`", f"`{_default(info)}`" if key not in ELSEWHERE else ELSEWHERE[key], info.description,
         f"`{variable_of(key)}`")
        for key, info in keys(MODEL)
    ]  # fmt: skip
    return _table(("key", "default", "meaning", "environment"), rows)


def error_table() -> str:
    """Every stable code."""
    rows = [(f"`{code}`", kind.status, "yes" if kind.retryable else "no", kind.hint) for code, kind in KINDS.items()]
    return _table(("code", "HTTP status", "tried again", "what to do"), rows)


def parameter_tables() -> str:
    """The parameters of each processor that comes with vidqueue."""
    ours = [name for name, one in registry.catalogue().items() if type(one).__module__.startswith("vidqueue.")]
    return "\n\n".join(map(_parameters, ours))


def endpoint_table() -> str:
    """Every address."""
    rows = [(f"`{one.method} {re.sub(r':[a-z]+}', '}', one.path)}`", _summary(one.handler)) for one in ENDPOINTS]
    return _table(("call", "does"), rows)


def command_table() -> str:
    """Every command."""
    return _table(("command", "does"), [(f"`vidqueue {name}`", text) for name, (_, _, text) in COMMANDS.items()])


def exit_table() -> str:
    """What exit codes mean."""
    return _table(("code", "meaning"), [(str(int(code)), meaning) for code, meaning in MEANINGS.items()])


def invariant_table() -> str:
    """Every invariant: those of the view, as the newest migration has them, and those that the program looks after."""
    view = next(step.text for step in reversed(migrate.known()) if "VIEW vidqueue_report.invariants" in step.text)
    listed = re.findall(r"^    \('(I\d+)',\s+'(.*?)'\)[,;]$", view, re.MULTILINE)
    rows = sorted([*listed, *invariants.LOOKED_AFTER.items()], key=lambda row: int(row[0][1:]))
    return _table(("", "what must hold"), rows)


GENERATORS: dict[str, Callable[[], str]] = {
    "configuration": configuration_table,
    "errors": error_table,
    "parameters": parameter_tables,
    "endpoints": endpoint_table,
    "commands": command_table,
    "exit-codes": exit_table,
    "invariants": invariant_table,
}


def _fill(mark: re.Match[str]) -> str:
    return f"<!-- generated: {mark[1]} -->\n{GENERATORS[mark[1]]()}\n<!-- end -->"


def _parameters(name: str) -> str:
    processor = registry.find(name)
    schema = processor.Params.model_json_schema()
    required = schema.get("required", [])
    rows = []
    for field, about in schema["properties"].items():
        default = "required" if field in required else f"`{json.dumps(about.get('default'))}`"
        rows.append((f"`{field}`", type_text(about, schema), default, about.get("description", "")))
    about_it = " ".join((type(processor).__doc__ or "").split())
    return f"## {name}\n\n{about_it}\n\n{_table(('parameter', 'type', 'default', 'meaning'), rows)}"


def _summary(handler: Any) -> str:
    return str((handler.__doc__ or "").strip().split("\n", 1)[0])


def _table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _default(info: Any) -> str:
    return json.dumps(info.get_default(call_default_factory=False))


def _toml(key: str, info: Any) -> str:
    if key in ELSEWHERE:
        return f'"{SAMPLES[key]}"  # default: {ELSEWHERE[key]}'
    return _default(info)


if __name__ == "__main__":
    sys.exit(main())
