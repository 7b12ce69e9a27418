"""The documentation is run: Python blocks as programs, commands against the program that is installed."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
import typer

from fewstep.plugins.loader import registry

TOP = Path(__file__).parents[2]
PAGES = sorted([*(TOP / "docs").rglob("*.md"), TOP / "README.md", TOP / "CONTRIBUTING.md"])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[tuple[int, str]]:
    """(first line, text) of the page's fenced blocks of one language."""
    text = page.read_text(encoding="utf-8")
    return [
        (text.count("\n", 0, found.start()) + 2, found[2])
        for found in FENCE.finditer(text)
        if found[1] == language
    ]


def commands(page: Path) -> list[list[str]]:
    """Every use of the program in the page's shell blocks, as words without its comment."""
    lines = [line.strip() for _, block in blocks(page, "bash") for line in block.splitlines()]
    bare = [re.sub(r"^torchrun .* -m fewstep\.cli ", "fewstep ", line) for line in lines]
    return [shlex.split(line, comments=True) for line in bare if line.startswith("fewstep ")]


def name(page: Path) -> str:
    return str(page.relative_to(TOP))


@pytest.fixture(scope="module")
def program():
    from fewstep.cli import application

    return typer.main.get_command(application())


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=name)
def test_the_examples_of_a_page_run_as_one_program(page, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    # Dataclasses and pydantic look a class' module up by its name, so the page needs one.
    module = ModuleType("docs_example")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for line, code in blocks(page, "python"):
            exec(compile("\n" * (line - 1) + code, str(page), "exec", dont_inherit=True), vars(module))


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=name)
def test_every_command_of_a_page_exists_with_its_options(page, program):
    context = typer.Context(program)
    for words in commands(page):
        command = program.get_command(context, words[1])
        assert command is not None, f"{' '.join(words)}: there is no command {words[1]!r}"
        known = {
            flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)
        }
        open_ended = command.context_settings.get("ignore_unknown_options", False)
        if words[1] in ("run", "prove", "show", "schema") and words[2].count("/") == 1:
            assert registry().recipe(words[2]), f"{' '.join(words)}: there is no such recipe"
        for word in words[2:]:
            flag = word.partition("=")[0]
            if flag.startswith("-") and not open_ended:
                assert flag in known, f"{' '.join(words)}: {words[1]} has no option {flag}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_target_of_make_that_a_page_names_exists(page):
    targets = set(re.findall(r"^([a-z-]+):", (TOP / "Makefile").read_text(), re.MULTILINE))
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"`make ([a-z-]+)`", text)) | set(
        re.findall(r"^ {4}make ([a-z-]+)", text, re.MULTILINE)
    )
    named |= {
        word
        for _, block in blocks(page, "bash")
        for word in re.findall(r"^make ([a-z-]+)", block, re.MULTILINE)
    }
    assert named <= targets, f"no such targets: {sorted(named - targets)}"
