"""A few-step student as a policy: what it draws between its steps has a probability."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fewstep.processes import Gaussian
from fewstep.protocol import (
    Batch,
    Estimate,
    Objective,
    Role,
    Sample,
    State,
    Step,
    Stochastic,
    Tree,
    detach,
    with_index,
)
from fewstep.samplers.student import FewStep, Rule, rule_for


class FewStepPolicy(FewStep):
    """A few-step student whose K - 1 moves between steps are Gaussian draws; its last step is a map.

    With rule "renoise" x_{k+1} ~ N(alpha_{k+1} D(x_k), sigma_{k+1}^2); with "posterior" it is q(x_{k+1} | x_k, D).
    Drawn states carry no gradient; ``Sample.logp`` (B, K - 1) does. It is the mean or the sum over real elements, as
    the geometry reduces: a sum is the log-probability, a mean keeps it of one size for every event.

    Args:
        net: as in :class:`FewStep`.
        process: a Gaussian process.
        prediction: as in :class:`FewStep`.
        times: at least two.
        rule: "renoise" or "posterior".

    Raises:
        ValueError: if there is no random step.
    """

    def __init__(
        self,
        net: nn.Module,
        process: Gaussian,
        prediction: str,
        times: Sequence[float],
        rule: Literal["renoise", "posterior"] = "renoise",
    ) -> None:
        """Bind the schedule."""
        super().__init__(net, process, prediction, times, rule)
        if not isinstance(process, Gaussian):
            raise ValueError(
                f"the draws of a policy have a probability on a Gaussian process; this is a {type(process).__name__}"
            )
        if len(self.times) < 2 or rule not in ("renoise", "posterior"):
            raise ValueError(
                f"a student with {len(self.times)} time(s) and rule {rule!r} draws nothing on its way, so it has no "
                "probability; give it at least two times and rule 'renoise' or 'posterior'"
            )

    def generate(
        self, batch: Batch, step: Step, *, noise: Tree | None = None, steps: int | None = None
    ) -> Sample:
        """The whole roll as data, with the log-probability of each draw; one network call per step.

        The last step, which is no draw, carries no graph.

        Raises:
            ValueError: for a single step, which draws nothing.
        """
        times = self.schedule(steps)
        last = len(times) - 1
        if last == 0:
            raise ValueError(
                "a roll of one step draws nothing, so it has no probability; ask for two or more"
            )
        head = self._roll(batch, step, noise, times[:last], graph_from=0)
        here, process = head.path[-1], self.process.on(batch.mask)
        then = torch.full_like(here.t, times[last])
        x = self._next(process, batch, here.x, here.est, here.t, then, step.key.at("roll", last - 1))
        with torch.no_grad():
            tail = self._walk(batch, step, x, times, last, graph_from=last)
        sample = replace(tail, path=head.path + tail.path)
        return replace(sample, logp=self._columns(sample, batch, [state.est for state in head.path]))

    def logp(self, sample: Sample, batch: Batch) -> Tensor:
        """(B, K - 1) of the sample's path under these weights; the last step, which is no draw, is not called."""
        first = torch.zeros(len(sample.x), dtype=torch.int64, device=sample.x.device)
        estimates = [
            self(state.x, state.t, with_index(batch.cond, first + i), **self._told(state.t))
            for i, state in enumerate(sample.path[:-1])
        ]
        return self._columns(sample, batch, estimates)

    def _columns(self, sample: Sample, batch: Batch, estimates: Sequence[Any]) -> Tensor:
        process: Any = self.process.on(batch.mask)
        moves = zip(itertools.pairwise(sample.path), estimates, strict=True)
        return torch.stack([self._density(process, here, est, there) for (here, there), est in moves], 1)

    def _density(self, process: Gaussian, here: State, est: Estimate, there: State) -> Tensor:
        """(B,) log N(there; mean, width^2), reduced by the geometry."""
        mean, width = self._moments(process, here, est, there.t)
        apart = process.geometry.distance(Estimate(there.x), Estimate(mean))
        ones = torch.ones_like(there.x)
        constant = process.geometry.inner(ones, ones) * (width.log() + 0.5 * math.log(2 * math.pi))
        return -apart / (2 * width.square()) - constant

    def _moments(self, process: Gaussian, here: State, est: Estimate, s: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (B, ...) and standard deviation (B,) of the draw at time s."""
        silence = torch.zeros_like(here.x)
        if self.rule == "renoise":
            return process.corrupt(est.x0, silence, s), process.sigma(s).to(here.x.dtype)
        zero, one = torch.zeros_like(here.t), torch.ones_like(here.t)
        width = process.posterior(zero, Estimate(zero), here.t, s, one).to(here.x.dtype)
        return process.posterior(here.x, est, here.t, s, silence), width

    def _next(self, *given: Any, **named: Any) -> Tree:
        """A draw is data: the gradient goes through its probability."""
        return detach(super()._next(*given, **named))


def student_for(
    objective: Objective,
    net: nn.Module,
    process: Any,
    prediction: str,
    times: Sequence[float],
    rule: Rule = "renoise",
    pick: Literal["last", "random"] = "last",
    student: str = "student",
) -> FewStep:
    """The few-step student that an objective needs: it walks as it must, and draws where its samples need a probability.

    Args:
        objective: whose role says what its student must be like.
        net: as in :class:`FewStep`; must take ``to`` where ``is_flow_map(objective)``.
        process: as in :class:`FewStep`.
        prediction: as in :class:`FewStep`.
        times: as in :class:`FewStep`.
        rule: for objectives that leave it open.
        pick: as in :class:`FewStep`.
        student: its role.
    """
    walk: Any = rule_for(objective, rule, student)
    if objective.roles.get(student, Role()).kind is Stochastic:
        return FewStepPolicy(net, process, prediction, times, walk)
    return FewStep(net, process, prediction, times, walk, pick)
