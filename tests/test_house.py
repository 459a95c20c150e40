"""The house rules that no linter knows: sizes, words, and where a broad except may stand."""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

from tests.conftest import LONGEST

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src" / "vidqueue").rglob("*.py"))
FORBIDDEN_NAMES = {"utils", "helpers", "common", "misc", "tools", "base_utils"}


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def functions() -> Iterator[tuple[str, int]]:
    for path in SOURCES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", node.end_lineno - node.lineno + 1


def test_files_and_functions_keep_to_the_budget() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in SOURCES}
    assert {name: lines for name, lines in lengths.items() if lines > 300} == {}
    assert statistics.median(lengths.values()) <= 150
    sizes = dict(functions())
    assert {name: lines for name, lines in sizes.items() if lines > 60} == {}
    assert statistics.median(sizes.values()) <= 10


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Also none that a function or a type checker imports: import-linter looks at packages, and this at modules."""
    graph = grimp.build_graph("vidqueue", cache_dir=None)
    TopologicalSorter({one: graph.find_modules_directly_imported_by(one) for one in graph.modules}).prepare()


def test_the_files_that_begin_first_are_there() -> None:
    assert [name for name in LONGEST if not (ROOT / "tests" / f"{name}.py").is_file()] == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_opens_with_what_lives_there(path: Path) -> None:
    assert ast.get_docstring(tree(path)), "no module docstring"
    assert path.stem not in FORBIDDEN_NAMES


def test_a_broad_except_stands_only_where_architecture_says() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    section = text[text.index("**Where `except Exception` is allowed.**") :].split("\n\n")[0]
    allowed = set(re.findall(r"`([\w.]+)`", section))
    found = set()
    for path in SOURCES:
        module = ".".join(path.relative_to(ROOT / "src" / "vidqueue").with_suffix("").parts).removesuffix(".__init__")
        for function in (
            node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ):
            handlers = [node for node in ast.walk(function) if isinstance(node, ast.ExceptHandler)]
            calls = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
            if any(_is_broad(handler) for handler in handlers) or any(_suppresses_all(call) for call in calls):
                found.add(f"{module}.{function.name}")
    assert {name for name in found if name not in allowed} == set()


def _is_broad(handler: ast.ExceptHandler) -> bool:
    broad = handler.type is None or _is_any_error(handler.type)
    # A handler that always raises again hides nothing.
    return broad and not isinstance(handler.body[-1], ast.Raise)


def _suppresses_all(call: ast.Call) -> bool:
    return ast.unparse(call.func).endswith("suppress") and any(map(_is_any_error, call.args))


def _is_any_error(kind: ast.expr) -> bool:
    return isinstance(kind, ast.Name) and kind.id in ("Exception", "BaseException")


def test_architecture_lists_every_package_and_nothing_else() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    table = text[text.index("| package |") : text.index("`doctor/` is below")]
    first = "\n".join(row.split("|")[1] for row in table.splitlines() if row.count("|") >= 3)
    named = {name.rstrip("/").removesuffix(".py") for name in re.findall(r"`([a-z_]+(?:/|\.py))`", first)}
    package = ROOT / "src" / "vidqueue"
    there = {path.stem for path in package.glob("*.py")} | {
        path.name for path in package.iterdir() if path.is_dir() and any(path.glob("*.py"))
    }
    assert named == there - {"__init__", "__main__"}


@pytest.mark.parametrize("module", ["vidqueue.api.app", "vidqueue.daemon", "vidqueue.cli", "vidqueue.jobs.submit"])
def test_the_daemon_and_its_doors_load_neither_torch_nor_cv2(module: str) -> None:
    code = f"import sys, {module}; from vidqueue.processors import registry; registry.catalogue();"
    code += "print({'torch', 'cv2'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_no_model_is_ever_loaded_in_a_way_that_runs_its_code() -> None:
    forbidden = re.compile(r"weights_only\s*=\s*False|torch\.jit\.load|\bpickle\b|yaml\.load\(|VideoCapture")
    found = [f"{path.name}: {match[0]}" for path in SOURCES for match in forbidden.finditer(path.read_text())]
    assert found == []
