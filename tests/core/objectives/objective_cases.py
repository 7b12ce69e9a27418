"""Every registered objective with small roles, for the invariances.

A new objective gets them by a line in the ``CASES`` of its family's ``cases_<family>.py``; those files are found here.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fewstep.processes import Karras, Masked, Uniform, edm
from fewstep.protocol import Batch, Cond, Denoiser, Key
from fewstep.samplers import FewStep, FewStepTokens

ROWS, LENGTH, REAL, VOCABULARY = 4, 6, 4, 3
PROCESS = edm(sigma_max=10.0)
TOKENS = Masked(VOCABULARY)
TIMES = (10.0, 1.0)


class Pointwise(nn.Module):
    """(B, L, 2) -> (B, L, 2), every position on its own, with all that a network may be told."""

    accepts = frozenset({"to", "guidance", "features"})

    def __init__(self, seed: int, width: int = 2) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(6, 8).double(), nn.Linear(8, width).double()
        fill(self, seed)

    def forward(
        self,
        x: Tensor,
        time: Tensor,
        cond: Cond,
        to: Tensor | None = None,
        guidance: Tensor | None = None,
        features: tuple[int, ...] = (),
    ) -> Any:
        """Feature 0 is the hidden layer (B, L, 8)."""
        index = torch.zeros_like(time) if cond.index is None else cond.index
        scale = torch.ones_like(time) if guidance is None else guidance
        told = (time, index, time if to is None else to, scale)
        beside = torch.stack([value.to(time.dtype) for value in told], 1)[:, None].expand(-1, x.shape[1], -1)
        hidden = torch.tanh(self.inner(torch.cat([x, beside], -1)))
        out: Tensor = self.outer(hidden)
        return (out, (hidden,)) if features else out


class TokenNet(nn.Module):
    """(B, L) ids -> (B, L, n), every position on its own."""

    def __init__(self, seed: int, width: int = VOCABULARY) -> None:
        super().__init__()
        self.table = nn.Embedding(VOCABULARY + 1, 5).double()
        self.outer = nn.Linear(6, width).double()
        fill(self, seed)

    def forward(self, x: Tensor, time: Tensor, cond: Cond) -> Tensor:
        beside = time.double()[:, None, None].expand(-1, x.shape[1], 1)
        found: Tensor = self.outer(torch.cat([self.table(x), beside], -1))
        return found


class Judge(nn.Module):
    """One logit for each position."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, xt: Tensor, t: Tensor, cond: Cond) -> Tensor:
        found: Tensor = self.net(xt, t, Cond())
        return found.squeeze(-1)


def fill(module: nn.Module, seed: int) -> None:
    """Parameters from a key, so that no test depends on the global generator."""
    for i, parameter in enumerate(module.parameters()):
        parameter.data.copy_(0.5 * Key(seed).at(i).normal(parameter.data))


@dataclass(frozen=True)
class Case:
    """An objective, the roles it needs and a batch.

    Args:
        objective: made once.
        roles: fresh modules at every call.
        batch: real and padded positions, masked.
        through_judges: phases whose gradient runs into networks that they do not update, by design; the engine keeps
            those parameters out of it.
        coupled: phases that divide by a mean over the batch, by design: their micro-batches do not add up to the whole.
    """

    objective: Any
    roles: Callable[[], dict[str, nn.Module]]
    batch: Callable[[], Batch]
    through_judges: frozenset[str] = field(default_factory=frozenset)
    coupled: frozenset[str] = field(default_factory=frozenset)


def points(
    objective: Any,
    through_judges: tuple[str, ...] = (),
    extra: Mapping[str, Callable[[], nn.Module]] | None = None,
    fields: Callable[[Tensor], dict[str, Any]] = lambda x: {},
    coupled: tuple[str, ...] = (),
    **of_student: Any,
) -> Case:
    """Points in the plane.

    Args:
        objective: made once.
        through_judges: see :class:`Case`.
        extra: roles of its own, or in place of the usual ones.
        fields: clean states -> ``batch.extra``.
        coupled: see :class:`Case`.
        **of_student: of :class:`FewStep`, in place of the usual ones.
    """

    def roles() -> dict[str, nn.Module]:
        settings = {"times": TIMES, "rule": "ddim", "pick": "random", **of_student}
        student = FewStep(Pointwise(2), PROCESS, "edm", **settings)
        everyone = {
            "teacher": Denoiser(Pointwise(1), PROCESS, "edm"),
            "student": student,
            "fake": Denoiser(Pointwise(3), PROCESS, "edm"),
            "target": copy.deepcopy(student),
            "disc": Judge(Pointwise(4, 1)),
        }
        everyone |= {name: make() for name, make in (extra or {}).items()}
        return {name: everyone[name] for name in objective.roles}

    def batch() -> Batch:
        mask = mask_of(ROWS).unsqueeze(-1)
        x = Key(11).normal(torch.zeros(ROWS, LENGTH, 2, dtype=torch.float64)) * mask
        return Batch(like=x, x=x, cond=Cond(mask=mask), extra=fields(x))

    return Case(objective, roles, batch, frozenset(through_judges), frozenset(coupled))


def tokens(objective: Any, steps: int = 2) -> Case:
    def roles() -> dict[str, nn.Module]:
        everyone = {
            "teacher": Denoiser(TokenNet(1), TOKENS, "logits"),
            "student": FewStepTokens(TokenNet(2), TOKENS, "logits", steps),
            "disc": Judge(TokenNet(4, 1)),
            "fake": Denoiser(TokenNet(3), TOKENS, "logits"),
        }
        return {name: everyone[name] for name in objective.roles}

    def batch() -> Batch:
        x = Key(12).integers((ROWS, LENGTH), VOCABULARY) * mask_of(ROWS)
        return Batch(like=x, x=x, cond=Cond(mask=mask_of(ROWS)))

    return Case(objective, roles, batch)


def mask_of(count: int) -> Tensor:
    """(B, L) True for the real beginning of each row."""
    return (torch.arange(LENGTH) < REAL).expand(count, LENGTH)


NATURAL = Karras(PROCESS.t_min, PROCESS.t_max, PROCESS.rho)
UNIFORM = Uniform(0.05, 0.95)


def every_case() -> dict[str, Case]:
    """The cases of all families, by name."""
    found: dict[str, Case] = {}
    for file in sorted(Path(__file__).parent.glob("cases_*.py")):
        found |= importlib.import_module(file.stem).CASES
    return found
