"""What a model believed on its way: the predicted end at every step of a trajectory."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from fewstep.protocol import State, Tree, tree_map


def prediction_stack(states: Iterable[State]) -> Tree:
    """(steps, B, ...) clean estimates D(x_t, t) along a trajectory (DT-visualization, Gandikota & Bau 2025).

    No network is called: a solver, a contender or ``Sample.path`` already made the estimates.

    Args:
        states: as yielded by a solver or kept in ``Sample.path``; those without an estimate are left out.

    Raises:
        ValueError: if no state has an estimate.
    """
    beliefs = [state.est.x0 for state in states if state.est is not None]
    if not beliefs:
        raise ValueError(
            "no state of this trajectory carries an estimate; give the states that a solver yields, or Sample.path"
        )
    return tree_map(lambda *leaves: torch.stack(leaves), *beliefs)
