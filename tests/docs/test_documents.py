"""The documents may not disagree with the code: commands, flags, addresses, keys, codes, variables, SQL, links."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import re
import subprocess
import tomllib
from pathlib import Path

import psycopg
import pytest
from pydantic_core import to_jsonable_python

from tests.docs.reading import DOCUMENTS, ROOT, blocks, commands_of, generator, spans
from vidqueue.api.http import openapi
from vidqueue.api.routes import ENDPOINTS
from vidqueue.api.v1.known_files import TakeRequest
from vidqueue.cli.commands import COMMANDS, app
from vidqueue.errors import KINDS
from vidqueue.jobs.members import BatchRequest
from vidqueue.jobs.submit import JobRequest
from vidqueue.jobs.webhooks import Receiver
from vidqueue.ops import failpoints
from vidqueue.processors import registry
from vidqueue.settings.load import FOREIGN_VARIABLES
from vidqueue.settings.schema import keys, variable_of

EXAMPLE = ROOT / "config.example.toml"
SOME_ID = "01890000-0000-7000-8000-000000000000"
# Said of any section and key, not of one.
PATTERN_VARIABLE = "VIDQUEUE_SECTION__KEY"


@pytest.mark.parametrize(("path", "text"), [pytest.param(*one, id=one[0].name) for one in generator().documents()])
def test_what_is_generated_is_up_to_date(path: Path, text: str) -> None:
    assert path.read_text(encoding="utf-8") == text, "run: python docs/generate.py"


@pytest.mark.parametrize(("document", "words"), commands_of("vidqueue"))
def test_every_vidqueue_command_line_is_one_the_program_understands(document: str, words: list[str]) -> None:
    app.parse_args(words, exit_on_error=False, print_error=False)


def test_the_check_of_command_lines_would_notice_a_wrong_one() -> None:
    for words in (["lst"], ["list", "--sate", "queued"], ["submit", "transcode", "a", "--quality", "best"], ["status"]):
        with pytest.raises(Exception, match=r"Unknown|Invalid|requires"):
            app.parse_args(words, exit_on_error=False, print_error=False)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_and_flags_that_are_spoken_of_exist(document: Path) -> None:
    known_flags = {"--help", "--version"} | {flag for name in COMMANDS for flag in _flags_of(name)}
    for span in spans(document):
        words = span.split()
        if words[0] == "vidqueue" and len(words) > 1:
            assert words[1] in COMMANDS, span
        if words[0] == "make" and len(words) > 1:
            assert words[1] in _make_targets(), span
        if words[0].startswith("--"):
            assert words[0] in known_flags, span


@pytest.mark.parametrize(("document", "words"), commands_of("make"))
def test_every_make_target_exists(document: str, words: list[str]) -> None:
    assert words[0] in _make_targets()


@pytest.mark.parametrize(("document", "words"), commands_of("curl"))
def test_every_curl_calls_an_address_that_exists_with_a_body_it_takes(document: str, words: list[str]) -> None:
    (url,) = [word for word in words if word.startswith("http://")]
    path = re.sub(r"\?.*", "", url.removeprefix("http://127.0.0.1:8765")).replace("<id>", SOME_ID)
    document_paths = openapi.document(ENDPOINTS, registry.catalogue())["paths"]
    matching = [one for one in document_paths if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", one), path)]
    assert matching, f"no address {path}"
    posts = "--json" in words or "POST" in words
    assert ("post" if posts else "get") in document_paths[matching[0]]
    if "--json" in words:
        body = words[words.index("--json") + 1].replace("<id>", SOME_ID)
        sent = json.loads(body)
        if path == "/v1/webhooks":
            Receiver.model_validate(sent)
            return
        if path == "/v1/files/from-hash":
            TakeRequest.model_validate(sent)
            return
        for request in BatchRequest.model_validate(sent).jobs if "jobs" in sent else [JobRequest.model_validate(sent)]:
            registry.parse(registry.find(request.processor), request.input)


def test_the_documents_have_commands_to_check() -> None:
    assert len(commands_of("vidqueue")) >= 20
    assert len(commands_of("curl")) >= 6
    assert {words[0] for _, words in commands_of("make")} >= {"demo", "test"}


def test_the_example_names_every_key_in_order_and_uncommented_gives_the_defaults() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    uncommented = re.sub(r"^#(\w+ = )", r"\1", text, flags=re.MULTILINE)
    contents = tomllib.loads(uncommented)
    named = [
        f"{name}.{key}" if isinstance(value, dict) else name
        for name, value in contents.items()
        for key in (value if isinstance(value, dict) else [name])
    ]
    assert named == [key for key, _ in keys(generator().MODEL)]
    unfixed = generator().ELSEWHERE
    fixed = {
        key: info.get_default(call_default_factory=False) for key, info in keys(generator().MODEL) if key not in unfixed
    }
    assert {key: _value(contents, key) for key in fixed} == to_jsonable_python(fixed)
    assert generator().MODEL(**{**contents, "database": {}}), "the samples of the other keys are valid too"


def test_the_example_as_it_is_changes_nothing() -> None:
    contents = tomllib.loads(EXAMPLE.read_text(encoding="utf-8"))
    model = generator().MODEL
    assert model(**contents) == model()


@pytest.mark.parametrize("document", [*DOCUMENTS, EXAMPLE], ids=lambda path: path.name)
def test_every_variable_that_is_named_exists(document: Path) -> None:
    named = set(re.findall(r"\bVIDQUEUE_[A-Z_]*[A-Z]", document.read_text(encoding="utf-8")))
    known = {variable_of(key) for key, _ in keys(generator().MODEL)} | FOREIGN_VARIABLES | {PATTERN_VARIABLE}
    assert named <= known | {"VIDQUEUE_TEST"}, named - known


def test_every_error_code_is_documented() -> None:
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    assert [code for code in KINDS if f"| `{code}` |" not in text] == []


def test_the_statements_of_the_documents_run(database_url: str) -> None:
    statements = [text for document in DOCUMENTS for text in blocks(document, "sql")]
    assert len(statements) >= 4
    with psycopg.connect(database_url) as connection:
        # A daemon writes its catalogue at start.
        connection.execute(
            "INSERT INTO vidqueue.processors (name, device, description) VALUES ('transcode', 'cpu', '')"
        )
        for text in statements:
            connection.execute(text.encode())
        connection.rollback()


def test_every_view_is_documented(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        found = connection.execute("SELECT viewname FROM pg_views WHERE schemaname = 'vidqueue_report'").fetchall()
    text = (ROOT / "docs" / "sql.md").read_text(encoding="utf-8")
    assert [name for (name,) in found if f"`vidqueue_report.{name}`" not in text] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_inside_the_repository_leads_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\((?!https?://)([^)#]+)", document.read_text(encoding="utf-8"))
    assert [target for target in targets if not (document.parent / target).exists()] == []


def test_the_fault_matrix_has_every_fault_and_names_tests_that_exist() -> None:
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    numbers = re.findall(r"^\| (F\d+) \|", text, re.MULTILINE)
    assert numbers == [f"F{number}" for number in range(1, max(31, len(numbers) + 1))]
    named = set(re.findall(r"`(tests/[\w/]+\.py)(?:::(test_\w+))?`", text))
    assert len(named) > 40
    texts = {path: (ROOT / path).read_text(encoding="utf-8") for path, _ in named}
    assert [name for path, name in named if name and f"def {name}(" not in texts[path]] == []


def test_every_failpoint_is_documented() -> None:
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    assert [point for point in failpoints.POINTS if f"`{point}`" not in text] == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


# Each document asks for all of them, and each help text takes the program tens of milliseconds.
@functools.cache
def _flags_of(command: str) -> set[str]:
    shown = io.StringIO()
    words = [[command], *([command, name] for name in app[command] if not name.startswith("-"))]
    with contextlib.redirect_stdout(shown):
        for one in words:
            app([*one, "--help"], exit_on_error=False, result_action="return_value")
    return set(re.findall(r"--[a-z][a-z-]+", shown.getvalue()))


def test_make_setup_ends_with_what_is_next() -> None:
    command = ["make", "--no-print-directory", "-n", "setup"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    last = said.splitlines()[-1]
    assert f"{ROOT}/.venv/bin" in last
    assert all(command in last for command in ("vidqueue doctor", "vidqueue serve")), last


@functools.cache
def _make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def _value(contents: dict[str, object], key: str) -> object:
    section, _, name = key.partition(".")
    value = contents[section]
    return value[name] if name and isinstance(value, dict) else value
