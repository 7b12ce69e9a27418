"""Pages that scripts write are complete, and the script that breaks the mathematics can tell a noticed mutation."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from fewstep.config.objectives import KINDS

TOP = Path(__file__).parents[2]
DOCS = TOP / "docs"


def script(name: str) -> ModuleType:
    sys.path.insert(0, str(DOCS))
    try:
        return __import__(name)
    finally:
        sys.path.remove(str(DOCS))


def test_every_objective_stands_in_the_table_of_swaps() -> None:
    page = (DOCS / "swapping.md").read_text(encoding="utf-8")
    assert [kind for kind in KINDS if f"[`{kind}`](objectives/{kind}.md)" not in page] == []
    assert [name for name in script("swaps").swappable() if f"`{name}`" not in page] == []


def test_the_table_of_objectives_is_current() -> None:
    page = (DOCS / "objectives" / "index.md").read_text(encoding="utf-8")
    assert script("kinds").filled(page) == page, "run: python docs/kinds.py"


def test_the_pages_of_recipes_are_what_their_kept_runs_say() -> None:
    stale = [
        str(path.relative_to(TOP))
        for path, text in script("proofs").pages().items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]
    assert stale == [], "run: python docs/proofs.py"


def test_every_oracle_that_a_page_or_a_test_names_is_explained() -> None:
    told = (DOCS / "oracles.md").read_text(encoding="utf-8")
    files = [*(TOP / "tests" / "core").rglob("*.py"), *(DOCS / "objectives").glob("*.md")]
    named = {name for file in files for name in re.findall(r"\bO\d{1,2}\b", file.read_text(encoding="utf-8"))}
    assert len(named) == 20
    assert [name for name in named if f"| {name} |" not in told] == []


def test_every_mutation_still_finds_its_place() -> None:
    mutations = script("mutations")
    for mutation in mutations.MUTATIONS:
        text = (TOP / "core" / "fewstep" / mutation.file).read_text(encoding="utf-8")
        assert mutations.mutated(mutation, text) != text


def test_every_mutation_stands_in_its_table_with_the_test_that_noticed() -> None:
    page = (DOCS / "mutations.md").read_text(encoding="utf-8")
    missing = [m.change for m in script("mutations").MUTATIONS if f"| {m.family} | {m.change} |" not in page]
    assert missing == []
    assert "nobody" not in page


@pytest.mark.slow
def test_a_broken_sign_is_noticed_and_a_harmless_change_is_not() -> None:
    mutations = script("mutations")
    wrong = next(m for m in mutations.MUTATIONS if m.change == "fake and teacher change places")
    harmless = mutations.Mutation(
        "none", "nothing", wrong.file, wrong.before, f"{wrong.before}  # same", wrong.tests
    )
    assert not mutations.survives(wrong)[0]
    assert mutations.survives(harmless)[0]
