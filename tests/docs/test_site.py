"""The rendered documentation: complete, offline, and without links that lead nowhere."""

from __future__ import annotations

import re
import sys
from importlib import util
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def builder():
    spec = util.spec_from_file_location("docs_build", TOP / "docs" / "build.py")
    module = util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_every_page_is_rendered_and_reaches_nothing_outside(builder, tmp_path):
    made = builder.build(TOP / "docs", tmp_path / "site")
    assert {page.stem for page in made} == {page.stem for page in (TOP / "docs").rglob("*.md")}
    for page in made:
        assert not re.search(r'(?:src|href)="https?:', page.read_text(encoding="utf-8")), page.name


def test_every_page_is_in_the_reading_order_or_in_a_list_of_decisions_or_objectives(builder):
    pages = {
        page.relative_to(TOP / "docs").with_suffix("").as_posix() for page in (TOP / "docs").rglob("*.md")
    }
    listed = "".join(page.read_text(encoding="utf-8") for page in (TOP / "docs").glob("*/index.md"))
    assert set(builder.READING_ORDER) <= pages
    assert [
        page for page in pages - set(builder.READING_ORDER) if f"({page.partition('/')[2]}.md)" not in listed
    ] == []


def test_a_link_that_leads_nowhere_is_refused(builder, tmp_path, monkeypatch):
    monkeypatch.setattr(builder, "TOP", tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("# One\n\n[a](gone.md) [b](#two) [c](#one)\n")
    with pytest.raises(SystemExit) as told:
        builder.build(tmp_path / "docs", tmp_path / "site")
    assert "gone.md does not exist" in str(told.value)
    assert "#two has no such heading" in str(told.value)
    assert "#one" not in str(told.value)


def test_the_tables_of_the_readme_are_current():
    spec = util.spec_from_file_location("docs_recipes", TOP / "docs" / "recipes.py")
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = (TOP / "README.md").read_text(encoding="utf-8")
    assert module.filled(text) == text, "run: python docs/recipes.py"
