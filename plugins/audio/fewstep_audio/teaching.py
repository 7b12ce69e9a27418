"""Where a family's teacher comes from, and the stages that follow from it: it is trained first, or it is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from fewstep.config import RecipeConfig, load_teacher
from fewstep.config.objectives import Round, student_stages
from fewstep.errors import FewstepError
from fewstep.protocol import Assembly, Denoiser, Process, Shelf, Stage
from fewstep.samplers import student_times


def given(config: RecipeConfig) -> bool:
    """Whether the teacher is somebody else's, so that no stage has to train it."""
    return config.teacher.kind != "train"


def stages(
    config: Any,
    process: Process,
    teach: Callable[[Shelf], Assembly],
    distill: Callable[[Round, Shelf], Assembly],
    beside: Sequence[str] = (),
) -> tuple[Stage, ...]:
    """The teacher and what is learned beside it, then the rounds of students.

    Where the teacher is given, only what lies beside it is learned first, and the first round keeps the teacher that it
    used.

    Args:
        config: has ``teacher``, ``teacher_updates``, ``objective``, ``steps`` and ``updates``.
        process: of teacher and students.
        teach: shelf -> the teacher's stage; leaves its average and what lies beside.
        distill: (round, shelf) -> a student's stage; leaves its average.
        beside: roles that are learned with the teacher, such as a predictor of durations.
    """
    taught, distilled = {"average": "teacher"}, {"average": "student"}
    if given(config):
        taught, distilled = {}, {**distilled, "teacher": "teacher"}
    taught |= {role: role for role in beside}
    times = student_times(process, config.steps)
    return (
        *((Stage("teacher", teach, config.teacher_updates, taught),) if taught else ()),
        *student_stages(config.objective, process, times, distill, config.updates, distilled),
    )


def teacher_of(
    config: RecipeConfig, make: Callable[[], Denoiser], shelf: Shelf, network: type[nn.Module], does: str
) -> Denoiser:
    """The teacher from the shelf if it was trained, else the given one.

    Args:
        config: says where it comes from.
        make: the family's own, with fresh weights.
        shelf: what was learned before.
        network: the class that its net must have.
        does: what such a network takes and carries, for whoever wraps another.

    Raises:
        FewstepError: it cannot be loaded, or its network is another.
    """
    found = shelf.get("teacher") or load_teacher(config.teacher, make)
    if not isinstance(found, Denoiser) or not isinstance(found.net, network):
        raise FewstepError(
            f"the teacher is {type(getattr(found, 'net', found)).__name__}",
            f"a denoiser whose net is a {network.__module__}.{network.__name__}",
            f"wrap your network so that it {does}",
        )
    return found
