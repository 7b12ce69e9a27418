"""A student back in its pipeline: a folder that diffusers loads and runs, without fewstep.

The network is replaced, the scheduler becomes one that takes the student's own steps, and everything else stays as it is.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fewstep.errors import FewstepError
from fewstep.samplers import FewStep
from fewstep_audio.pipelines.loading import quiet
from fewstep_audio.pipelines.network import PipelineNetwork
from fewstep_audio.pipelines.teachers import PipelineTeacher

HOW = "fewstep.json"
"""How the pipeline in the folder is called."""


def write_pipeline(
    student: FewStep, teacher: PipelineTeacher, folder: Path, guidance: float, seconds: float
) -> Mapping[str, Any]:
    """Write the folder; it appears whole or not at all.

    Args:
        student: of ``audio/pipeline``.
        teacher: whose encoders, decoders and settings it keeps.
        folder: must not exist.
        guidance: the scale that is settled in the weights, if the student was told one.
        seconds: length that the call mentions.

    Returns:
        Arguments for the pipeline, beside the prompt; ``fewstep.json`` in the folder holds them too.

    Raises:
        FewstepError: the folder is there, or no scheduler of diffusers takes this student's steps.
    """
    steps = len(student.times)
    _check(student, teacher, folder)
    net: Any = student.net
    network = teacher.clocked(net.settled(guidance if net.accepts else None))
    scheduler = teacher.scheduler(steps)
    pipeline = teacher.pipeline
    made = type(pipeline)(
        **{**pipeline.components, teacher.network: network.to(pipeline.device), "scheduler": scheduler}
    )
    told = dict(teacher.call(seconds, steps))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".pipeline-", dir=folder.parent) as room, quiet():
        draft = Path(room) / folder.name
        made.save_pretrained(draft, safe_serialization=True)
        facts = {"pipeline": type(pipeline).__name__, "call": told, "guidance_in_the_weights": guidance}
        (draft / HOW).write_text(json.dumps(facts, indent=1))
        draft.rename(folder)
    return told


def _check(student: FewStep, teacher: PipelineTeacher, folder: Path) -> None:
    steps = len(student.times)
    problems = []
    if folder.exists():
        problems.append(f"{folder} is there already")
    if not isinstance(student.net, PipelineNetwork):
        problems.append(f"the student's network is a {type(student.net).__name__}, not a pipeline's")
    wanted = teacher.times(steps)
    if any(abs(a - b) > 1e-6 * max(abs(b), 1) for a, b in zip(student.times, wanted, strict=True)):
        problems.append(
            f"its steps begin at {_listed(student.times)}, the scheduler's begin at {_listed(wanted)}"
        )
    if steps > 1 and student.rule != "renoise":
        problems.append(
            f"between its {steps} steps it follows the rule {student.rule!r}, the scheduler draws fresh noise"
        )
    if student.prediction != teacher.prediction:
        problems.append(f"its network predicts {student.prediction!r}, the pipeline's {teacher.prediction!r}")
    if problems:
        raise FewstepError(
            "the student cannot be written as a pipeline: " + "; ".join(problems),
            "a student of audio/pipeline with the recipe's own times and the rule 'renoise', and a new folder",
            "take an objective whose student renoises (lcm, consistency, dmd, ode-pairs with one step), or another --out",
        )


def _listed(times: tuple[float, ...]) -> str:
    return ", ".join(f"{time:.4g}" for time in times)
