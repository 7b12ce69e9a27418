"""The size of the house: small files, short functions, annotated and documented names, no core beyond its budget."""

from __future__ import annotations

import ast
import io
import statistics
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = sorted((ROOT / "core" / "fewstep").rglob("*.py"))
PLUGINS = sorted((ROOT / "plugins").rglob("*.py"))
BUDGET = 14_250
"""Lines of code in core, without blank lines, comments and docstrings. Raise it in the change that needs it."""

SILENT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


def lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def code_lines(path: Path) -> int:
    """Lines that hold a token which is neither comment nor docstring."""
    text = path.read_text()
    told = {
        line
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    held = {line for t in tokens if t.type not in SILENT for line in range(t.start[0], t.end[0] + 1)}
    return len(held - told)


def functions(path: Path) -> Iterator[ast.FunctionDef]:
    return (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef))


def length(node: ast.FunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def test_the_core_keeps_its_budget() -> None:
    assert sum(map(code_lines, CORE)) <= BUDGET


@pytest.mark.parametrize("files", [CORE, PLUGINS], ids=["core", "plugins"])
def test_files_are_short(files: list[Path]) -> None:
    assert statistics.median(map(lines, files)) <= 140
    assert not [str(path.relative_to(ROOT)) for path in files if lines(path) > 500]


@pytest.mark.parametrize("files", [CORE, PLUGINS], ids=["core", "plugins"])
def test_functions_are_short(files: list[Path]) -> None:
    found = sorted(length(node) for path in files for node in functions(path))
    assert statistics.median(found) <= 10
    assert found[int(0.9 * len(found))] <= 35


@pytest.mark.parametrize("files", [CORE, PLUGINS], ids=["core", "plugins"])
def test_every_function_says_what_it_returns(files: list[Path]) -> None:
    bare = [f"{path.name}:{node.name}" for path in files for node in functions(path) if node.returns is None]
    assert not bare


def test_no_modality_word_is_in_the_core() -> None:
    """Words of a modality in names of the core's code; sentences in docstrings may give examples."""
    words = {
        "mel",
        "wav",
        "phoneme",
        "vocoder",
        "clip_length",
        "pixel",
        "protein",
        "residue",
        "token_text",
        "mesh",
    }
    named = {
        (path.name, node.id if isinstance(node, ast.Name) else node.arg)
        for path in CORE
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Name | ast.arg)
    }
    assert not {(file, name) for file, name in named if name.lower() in words}
