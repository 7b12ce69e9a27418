"""A pipeline's folder, through diffusers' own loader: from this disk, safetensors only, no code of its own."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fewstep.errors import FewstepError


def pipeline_class(folder: Path) -> str:
    """The name of the class of the pipeline in a folder.

    Raises:
        FewstepError: there is no pipeline.
    """
    index = folder / "model_index.json"
    try:
        return str(json.loads(index.read_text())["_class_name"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FewstepError(
            f"{folder} is no pipeline: {index.name} is missing or damaged",
            "a local folder that a pipeline of diffusers wrote with save_pretrained",
            "correct teacher.path; a pipeline on the hub has to be downloaded first",
        ) from error


def load_pipeline(folder: Path) -> Any:
    """The whole pipeline, frozen and in evaluation mode.

    Raises:
        FewstepError: a library is missing, or a part of the pipeline cannot be read.
    """
    name = pipeline_class(folder)
    try:
        import diffusers
        import transformers  # noqa: F401 - text encoders and vocoders are its classes
    except ImportError as error:
        raise FewstepError(
            f"a {name} needs diffusers and transformers, and {error.name} is not installed",
            "",
            'pip install "fewstep[pipelines]"',
        ) from error
    try:
        with quiet():
            stand_in = _scheduler(folder)
            left_out = {} if stand_in is None else {"scheduler": None}
            found = getattr(diffusers, name).from_pretrained(
                folder, local_files_only=True, use_safetensors=True, **left_out
            )
            if stand_in is not None:
                found.register_modules(scheduler=stand_in)
    except (OSError, ValueError, RuntimeError, AttributeError, ImportError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise FewstepError(
            f"diffusers cannot load the {name} in {folder}: {first}",
            "a whole pipeline with safetensors weights",
            "save it again with save_pretrained(folder, safe_serialization=True)",
        ) from error
    found.set_progress_bar_config(disable=True)
    for part in parts(found).values():
        part.requires_grad_(False).eval()
    return found


def _scheduler(folder: Path) -> Any | None:
    """A stand-in with the same settings for a scheduler whose class needs torchsde, which is no part of this project.

    Only the settings of a scheduler are read here; its own steps are not taken.
    """
    file = folder / "scheduler" / "scheduler_config.json"
    told = json.loads(file.read_text()) if file.is_file() else {}
    if told.get("_class_name") != "CosineDPMSolverMultistepScheduler":
        return None
    from diffusers import EDMDPMSolverMultistepScheduler

    return EDMDPMSolverMultistepScheduler.from_config(told)


def parts(pipeline: Any) -> dict[str, Any]:
    """The modules of a pipeline by name."""
    from torch import nn

    return {name: part for name, part in pipeline.components.items() if isinstance(part, nn.Module)}


@contextmanager
def quiet() -> Iterator[None]:
    """Without the bars and hints of both libraries, which say nothing about the pipeline at hand."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    levels = diffusers_logging.get_verbosity(), transformers_logging.get_verbosity()
    diffusers_logging.set_verbosity_error()
    transformers_logging.set_verbosity_error()
    for bars in (diffusers_logging, transformers_logging):
        bars.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*weight_norm.* is deprecated", category=FutureWarning)
            yield
    finally:
        diffusers_logging.set_verbosity(levels[0])
        transformers_logging.set_verbosity(levels[1])
