"""MODEL_CARD.md, written from facts only: settings, measurements, citation. No claim that a run did not make."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fewstep.runs import story
from fewstep.runs.evaluation import Evaluation

if TYPE_CHECKING:
    from fewstep.runs.handle import Run


def write_card(run: Run, evaluation: Evaluation) -> Path:
    """Write the card into the run folder; returns its path."""
    return run.files.write(
        "MODEL_CARD.md", "\n".join([*_head(run, evaluation), *_body(run, evaluation)]) + "\n"
    )


def _head(run: Run, evaluation: Evaluation) -> list[str]:
    spec, facts = run.setup.recipe.spec, run.files.facts
    return [
        f"# {spec.name}: a few-step student",
        "",
        f"{spec.summary}.",
        "",
        story.headline(evaluation, run.product) + " " + story.verdict(evaluation),
        "",
        f"- Recipe `{spec.name}`, profile `{run.setup.profile}`, seed {facts.get('seed')}, "
        f"configuration `{str(facts.get('config_hash'))[:12]}`",
        f"- Teacher: {_teacher(run)}",
        f"- Method: {spec.paper or 'no paper is named by the recipe'}",
        "",
    ]


def _body(run: Run, evaluation: Evaluation) -> list[str]:
    head = story.table_head(run.product)
    rows = [head, ["---"] * len(head), *story.table_rows(evaluation, run.product)]
    gates = [f"- {'passed' if g.passed else 'FAILED'}: {story.gate_sentence(g)}." for g in evaluation.gates]
    return [
        "## Measured",
        "",
        *("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows),
        "",
        f"{run.product.samples} samples, the same noise for all; brackets are 95 % bootstrap intervals.",
        "",
        "## Gates",
        "",
        *(gates or ["This profile has none."]),
        "",
        "## Use",
        "",
        "```python",
        "import fewstep",
        "",
        'student = fewstep.load("PATH OF THIS FOLDER")',
        "student.sample(4)",
        "```",
        "",
        "Weights alone: `export/student.safetensors`, described by `export/student.json`.",
    ]


def _teacher(run: Run) -> str:
    teacher = run.setup.resolved.config.teacher
    if teacher.kind == "train":
        return "trained by the recipe's first stage"
    return f"{teacher.kind} `{teacher.path or teacher.target}`"
