"""``fewstep audio to-diffusers RUN --out FOLDER``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def to_diffusers(
    run: Annotated[str, typer.Argument(help="A run of audio/pipeline, or its recipe's name for the newest.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write; must be new.")],
    guidance: Annotated[
        float | None,
        typer.Option("--guidance", help="Scale that goes into the weights; the run's by default."),
    ] = None,
    seconds: Annotated[float | None, typer.Option("--seconds", help="Length in the printed call.")] = None,
    runs: Annotated[Path, typer.Option("--runs", help="Where runs are kept.")] = Path("runs"),
) -> None:
    """Write the student as a pipeline folder that diffusers loads and runs without fewstep.

    Example: fewstep audio to-diffusers audio/pipeline --guidance 4 --out few-step-stable-audio
    """
    from fewstep.errors import FewstepError
    from fewstep.runs.folder import find_run
    from fewstep.runs.runner import load
    from fewstep_audio.pipelines.folder import write_pipeline
    from fewstep_audio.pipelines.product import check_scale
    from fewstep_audio.pipelines.recipe import field_of
    from fewstep_audio.pipelines.teachers import PipelineTeacher

    opened = load(find_run(run, runs).path)
    if opened.setup.recipe.name != "audio/pipeline":
        raise FewstepError(
            f"{opened.name} is a run of {opened.setup.recipe.name}",
            "a run of audio/pipeline",
            "name another run",
        )
    config: Any = opened.setup.resolved.config
    scale = config.guidance if guidance is None else guidance
    check_scale(config, scale)
    teacher = field_of(config, opened.setup.site)
    if not isinstance(teacher, PipelineTeacher):
        raise FewstepError(
            "this run's teacher is no pipeline of diffusers", "a run with teacher.kind train or diffusers", ""
        )
    length = min(config.seconds if seconds is None else seconds, teacher.longest)
    told = write_pipeline(opened.shelf["student"], teacher, out, scale, length)
    call = ", ".join(["prompt", *(f"{name}={value!r}" for name, value in told.items())])
    typer.echo(f"{out}: guidance {scale:g} is in the weights")
    typer.echo(f"  {type(teacher.pipeline).__name__}.from_pretrained({str(out)!r})({call})")
