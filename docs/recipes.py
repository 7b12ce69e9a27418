"""Write the tables of recipes and gates into README.md, from what is installed.

Type ``python docs/recipes.py`` after a recipe or a gate has changed; a test says when that is due.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fewstep.plugins.discovery import OWN
from fewstep.plugins.loader import registry
from fewstep.plugins.registry import Recipe
from fewstep.plugins.specs import Gate

README = Path(__file__).resolve().parents[1] / "README.md"


def own_recipes() -> list[Recipe]:
    """Recipes of this distribution, ready or not."""
    return [recipe for recipe in registry().recipes if recipe.plugin.distribution == OWN]


def recipe_table() -> str:
    """Name, purpose, install line, method."""
    rows = [
        (f"`{one.name}`", one.spec.summary, f'`pip install "fewstep[{one.spec.extra}]"`', one.spec.paper)
        for one in own_recipes()
    ]
    return table(("recipe", "what it does", "install", "method"), rows)


def gate_table() -> str:
    """What the student must meet and its control must miss, with the recipes' default settings."""
    rows = [row for one in own_recipes() for row in gate_rows(one)]
    return table(("recipe", "measured", "the student must be", "and this control must not"), rows)


def gate_rows(recipe: Recipe) -> Iterator[tuple[str, ...]]:
    """One row per metric and bound, its controls together."""
    controls: dict[tuple[str, str], list[str]] = {}
    for gate in recipe.spec.gates_of("default"):
        controls.setdefault((gate.metric, bound(gate)), []).append(f"`{gate.control}`")
    for (metric, limit), names in controls.items():
        yield f"`{recipe.name}`", metric.replace("_", " "), limit, ", ".join(names)


def bound(gate: Gate) -> str:
    """The bound in words."""
    return f"at most {gate.at_most:g}" if gate.at_most is not None else f"at least {gate.at_least:g}"


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def filled(text: str) -> str:
    """The README's text with both tables as they are now.

    Raises:
        ValueError: a marker is missing.
    """
    for name, content in (("recipes", recipe_table()), ("gates", gate_table())):
        begin, end = f"<!-- {name}: python docs/recipes.py -->", f"<!-- end of {name} -->"
        if begin not in text or end not in text:
            raise ValueError(f"README.md lacks the markers {begin} and {end}")
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}\n\n{content}\n\n{end}{rest.partition(end)[2]}"
    return text


if __name__ == "__main__":
    README.write_text(filled(README.read_text(encoding="utf-8")), encoding="utf-8")
