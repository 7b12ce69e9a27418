"""Which adapter fits which class of pipeline; each is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fewstep.errors import FewstepError
from fewstep.plugins.specs import resolve
from fewstep_audio.pipelines.loading import load_pipeline, pipeline_class
from fewstep_audio.pipelines.teachers import PipelineTeacher

ADAPTERS: Mapping[str, str] = {
    "StableAudioPipeline": "fewstep_audio.pipelines.stable_audio:StableAudio",
    "AudioLDM2Pipeline": "fewstep_audio.pipelines.latent_diffusion:AudioLDM2",
    "MusicLDMPipeline": "fewstep_audio.pipelines.latent_diffusion:MusicLDM",
    "AceStepPipeline": "fewstep_audio.pipelines.ace_step:AceStep",
}


def load_teacher_pipeline(folder: Path) -> PipelineTeacher:
    """The teacher in a pipeline's folder.

    Raises:
        FewstepError: it cannot be loaded, or nobody has written an adapter for its class.
    """
    name = pipeline_class(folder)
    if name not in ADAPTERS:
        raise FewstepError(
            f"{folder} holds a {name}, for which there is no adapter",
            f"one of {', '.join(ADAPTERS)}",
            "write the members of fewstep_audio.pipelines.teachers.AudioTeacher and name your factory with "
            "-s teacher.kind=import -s teacher.target=module:factory",
        )
    return adapted(load_pipeline(folder), name)


def adapted(pipeline: Any, name: str) -> PipelineTeacher:
    """A pipeline of the class ``name`` as a teacher."""
    made: PipelineTeacher = resolve(ADAPTERS[name])(pipeline)
    return made
