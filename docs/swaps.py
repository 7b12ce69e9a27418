"""Write the table of objectives by recipes into docs/swapping.md, by running one cycle of every stage of every pair.

Type ``python docs/swaps.py`` after an objective or a recipe has changed (minutes); ``--recipe`` and ``--kind`` narrow it
down and print instead of writing. A pair either runs or is refused, before anything is trained, with the reason.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from fewstep.config.objectives import KINDS
from fewstep.engine import AssemblyError, execute
from fewstep.errors import FewstepError
from fewstep.plugins.loader import registry
from fewstep.protocol import Plan
from fewstep.runs.setup import prepare, rehearse
from recipes import own_recipes, table

PAGE = Path(__file__).with_name("swapping.md")
BEGIN, END = "<!-- swaps: python docs/swaps.py -->", "<!-- end of swaps -->"


@dataclass(frozen=True)
class Swap:
    """One objective in one recipe: the reasons why it is refused, none if it runs."""

    recipe: str
    kind: str
    reasons: tuple[str, ...] = ()


def swapped(recipe: str, kind: str) -> Swap:
    """One cycle of every stage of the smoke profile, or why not.

    Only what is refused while the stages are put together is a refusal; anything that training itself raises is a defect
    and is not caught.
    """
    try:
        setup = prepare(recipe, profile="smoke", sets=settings(recipe, kind), device="cpu")
        plan = setup.plan()
        rehearse(plan, setup.site)
        execute(short(plan), setup.site)
    except AssemblyError as refusal:
        return Swap(recipe, kind, tuple(refusal.problems))
    except FewstepError as refusal:
        return Swap(recipe, kind, (refusal.what.strip().splitlines()[-1].strip(),))
    return Swap(recipe, kind)


def settings(recipe: str, kind: str) -> list[str]:
    """The objective; a head start of critics is left out, so that the student's phase runs in the first cycle."""
    waits = "head_start" in registry().recipe(recipe).config_class().model_fields
    return [f"objective={kind}", *(["head_start=0"] if waits else [])]


def short(plan: Plan) -> Plan:
    """The same stages with one cycle each."""
    return replace(plan, stages=tuple(replace(stage, steps=min(stage.steps, 1)) for stage in plan.stages))


def swappable() -> list[str]:
    """Recipes of this distribution that leave the choice of their objective."""
    return [one.name for one in own_recipes() if "objective" in one.require().config_class().model_fields]


def swaps(recipes: Sequence[str], kinds: Sequence[str]) -> Iterator[Swap]:
    """Every pair, told as it is done."""
    for recipe in recipes:
        for kind in kinds:
            begun = time.monotonic()
            found = swapped(recipe, kind)
            spent = time.monotonic() - begun
            print(
                f"{recipe:<22}{kind:<16}{spent:5.1f} s  {'; '.join(found.reasons) or 'runs'}", file=sys.stderr
            )
            yield found


def written(found: Sequence[Swap]) -> str:
    """A table of who runs where, and the reasons by number below it."""
    recipes = list(dict.fromkeys(swap.recipe for swap in found))
    reasons = list(dict.fromkeys(reason for swap in found for reason in swap.reasons))
    cells = {
        (swap.kind, swap.recipe): ", ".join(str(reasons.index(reason) + 1) for reason in swap.reasons)
        or "runs"
        for swap in found
    }
    rows = [
        (f"[`{kind}`](objectives/{kind}.md)", *(cells[kind, recipe] for recipe in recipes))
        for kind in dict.fromkeys(swap.kind for swap in found)
    ]
    grid = table(("objective", *(f"`{recipe}`" for recipe in recipes)), rows)
    notes = "\n".join(f"{number}. {reason}" for number, reason in enumerate(reasons, 1))
    return f"{grid}\n\n{notes}"


def filled(text: str, content: str) -> str:
    """The page with the table between its markers.

    Raises:
        ValueError: a marker is missing.
    """
    if BEGIN not in text or END not in text:
        raise ValueError(f"{PAGE.name} lacks the markers {BEGIN} and {END}")
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{content}\n\n{END}{rest.partition(END)[2]}"


def main() -> None:
    """The whole table into the page, or a part of it on the screen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", action="append", help="only this recipe (may be repeated)")
    parser.add_argument(
        "--kind", action="append", choices=list(KINDS), help="only this objective (may be repeated)"
    )
    asked = parser.parse_args()
    torch.set_num_threads(1)
    found = list(swaps(asked.recipe or swappable(), asked.kind or list(KINDS)))
    if asked.recipe or asked.kind:
        print(written(found))
    else:
        PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), written(found)), encoding="utf-8")


if __name__ == "__main__":
    main()
