"""Rounds: one objective setting that stands for several stages, each student the next one's teacher.

    stages = student_stages(config.objective, process, times, partial(_distill, config), config.updates, leaves)

Importing this module does not import torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fewstep.protocol import Assembly, Objective, Process, Shelf, Stage


@dataclass(frozen=True)
class Round:
    """One training stage of a student.

    Args:
        name: of the stage and of its student on the shelf; the last is "student".
        objective: what is minimized.
        times: start times of this round's student.
        before: shelf name of the student before it, from whose weights it starts and which is its frozen teacher;
            None = the recipe's own teacher.
    """

    name: str
    objective: Objective
    times: tuple[float, ...]
    before: str | None = None


def rounds(objective: Any, process: Process, times: Sequence[float], **fixed: Any) -> tuple[Round, ...]:
    """What a setting stands for: its own ``rounds`` where its kind has some, else one, named "student".

    Args:
        objective: the recipe's ``objective`` setting.
        process: of teacher and student.
        times: start times of the last student.
        **fixed: settings that belong to the recipe, given to ``build``.
    """
    several = getattr(objective, "rounds", None)
    if several is not None:
        found: tuple[Round, ...] = several(process, times, **fixed)
        return found
    return (Round("student", objective.build(process, **fixed), tuple(times)),)


def student_stages(
    objective: Any,
    process: Process,
    times: Sequence[float],
    build: Callable[[Round, Shelf], Assembly],
    steps: int,
    leaves: Mapping[str, str],
    **fixed: Any,
) -> tuple[Stage, ...]:
    """The stages of all rounds.

    Args:
        objective: the recipe's ``objective`` setting.
        process: of teacher and student.
        times: start times of the last student.
        build: (round, shelf) -> assembly.
        steps: training cycles of each round.
        leaves: of the last round, as of a stage; rounds before it leave their student under their own name.
        **fixed: settings that belong to the recipe.
    """
    from fewstep.protocol import Stage

    return tuple(
        Stage(each.name, partial(build, each), steps, _leaves(each, leaves))
        for each in rounds(objective, process, times, **fixed)
    )


def _leaves(each: Round, leaves: Mapping[str, str]) -> dict[str, str]:
    """All roles but the student stand in their meaning in the first round only: later its teacher is a student."""
    renamed = {role: each.name if name == "student" else name for role, name in leaves.items()}
    return {role: name for role, name in renamed.items() if each.before is None or leaves[role] == "student"}
