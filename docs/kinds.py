"""Write the table of all objectives into docs/objectives/index.md, from their settings.

Type ``python docs/kinds.py`` after an objective was added or its description changed; a test says when that is due.
"""

from __future__ import annotations

from pathlib import Path

from fewstep.config.objectives import KINDS
from fewstep.processes import edm
from recipes import table

PAGE = Path(__file__).with_name("objectives") / "index.md"
BEGIN, END = "<!-- kinds: python docs/kinds.py -->", "<!-- end of kinds -->"


NEEDED = {"sfd": {"forget": 0, "override": 1}}
"""Settings without a default."""


def kind_table() -> str:
    """Name, what it minimizes, who takes part, whose method it is; in the order of the settings."""
    return table(("kind", "in one line", "roles", "source"), [row(kind) for kind in KINDS])


def row(kind: str) -> tuple[str, ...]:
    """One objective."""
    told = KINDS[kind].model_fields["kind"]
    extra = told.json_schema_extra
    paper = str(extra.get("paper", "")) if isinstance(extra, dict) else ""
    return f"[`{kind}`]({kind}.md)", told.description or "", roles(kind), paper


def roles(kind: str) -> str:
    """Who takes part with the default settings; which roles there are does not depend on the process."""
    return ", ".join(KINDS[kind](**NEEDED.get(kind, {})).build(edm()).roles)


def filled(text: str) -> str:
    """The page with the table as it is now.

    Raises:
        ValueError: a marker is missing.
    """
    if BEGIN not in text or END not in text:
        raise ValueError(f"{PAGE.name} lacks the markers {BEGIN} and {END}")
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{kind_table()}\n\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
