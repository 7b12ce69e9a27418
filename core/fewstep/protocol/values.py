"""The values that flow: what a batch, an estimate and a sample carry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, TypeVar

from torch import Tensor

from fewstep.protocol.key import Key
from fewstep.protocol.tree import Tree, rows, tree_map

T = TypeVar("T")


@dataclass(frozen=True)
class Step:
    """Where training stands: which cycle, of how many, and the key of this micro-batch.

    ``index`` counts cycles (one pass over the objective's phases). Inference passes ``index == total``.
    """

    index: int
    total: int
    key: Key
    cycle_key: Key | None = None
    cache: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def once(self, name: str, fn: Callable[[Key], T]) -> T:
        """Compute ``fn`` once per cycle and reuse it in later phases (one rollout for critic and student).

        ``fn`` gets a key of the cycle, not of the phase, so that a run resumed between two phases recomputes
        exactly what it had.
        """
        if name not in self.cache:
            self.cache[name] = fn((self.cycle_key or self.key).at("once", name))
        value: T = self.cache[name]
        return value

    @staticmethod
    def inference(key: Key) -> Step:
        """The step of a finished student: every ramp has reached its end."""
        return Step(index=1, total=1, key=key)


@dataclass(frozen=True)
class Cond:
    """All that a network sees beside (x_t, t).

    Args:
        data: opaque to core; a tree of tensors (B, ...) such as tokens, cameras, labels; None if unconditional.
        mask: broadcastable to a state, True = real. Says where the process acts; padding is False.
        index: (B,) int64, which step of the student made a sample. A fake may read it; a teacher ignores it.
    """

    data: Tree = None
    mask: Tree = None
    index: Tensor | None = None


@dataclass(frozen=True)
class Batch:
    """One batch of the source.

    Args:
        like: a clean state's shape, dtype and device (an expanded zero when the source is data-free).
        x: clean states in the space of the process, or None. Projected and masked already.
        cond: what the networks see.
        extra: named tensors that one objective or student asks for ("noise", "target", "path", ...).
    """

    like: Tree
    x: Tree = None
    cond: Cond = field(default_factory=Cond)
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def mask(self) -> Tree:
        """Where the process acts; None = everywhere."""
        return self.cond.mask

    def take(self, which: Tensor) -> Batch:
        """The rows ``which`` (int64 indices); tensors without a row for each sample are shared and stay."""
        count = rows(self.like)

        def pick(leaf: Any) -> Any:
            own = isinstance(leaf, Tensor) and leaf.ndim > 0 and leaf.shape[0] == count
            return leaf[which.to(leaf.device)] if own else leaf

        cond = Cond(*(tree_map(pick, part) for part in (self.cond.data, self.cond.mask, self.cond.index)))
        return Batch(
            tree_map(pick, self.like), tree_map(pick, self.x), cond, tree_map(pick, dict(self.extra))
        )


@dataclass(frozen=True)
class Estimate:
    """What a network believes.

    Args:
        x0: E[x0 | x_t]; for categorical states logits of p(x0 | x_t), last dimension = vocabulary.
            With ``to=s`` given to the network: the x0 for which ``jump(x_t, x0, t, s)`` is the flow map.
        raw: the network's own output, for objectives that regress it without dividing by a vanishing sigma.
        features: activations, only when asked for.
    """

    x0: Tree
    raw: Tree = None
    features: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class State:
    """A point on a trajectory: x at time t, with the estimate that was made there, if any."""

    x: Tree
    t: Tensor
    est: Estimate | None = None


@dataclass(frozen=True)
class Sample:
    """What a student puts forward.

    Args:
        x: samples in the space of the teacher's process.
        cond: what the judges must know (view, prompt, mask, index of the step that made x).
        est: the differentiable last estimate; categorical students receive pathwise gradients through it.
        path: visited states, oldest first.
        logp: (B, K) log-probability of each random step, if x was *sampled* rather than mapped.
        penalties: (B,) terms that the student wants added; the objective owns their weights.
        until: (B,) the time to which the step that made x leads along the flow; None where steps do not follow one.
    """

    x: Tree
    cond: Cond = field(default_factory=Cond)
    est: Estimate | None = None
    path: tuple[State, ...] = ()
    logp: Tensor | None = None
    penalties: Mapping[str, Tensor] = field(default_factory=dict)
    until: Tensor | None = None

    @property
    def mask(self) -> Tree:
        """Where the process acts; None = everywhere."""
        return self.cond.mask

    def as_batch(self) -> Batch:
        """The sample seen as clean data: what a fake is trained on."""
        return Batch(like=self.x, x=self.x, cond=self.cond)


Ramp: TypeAlias = Callable[[Step], float]
"""Every scheduled scalar: weights, learning rates, guidance, the largest time."""


@dataclass(frozen=True)
class Linear:
    """From ``start`` to ``end`` over the fraction ``until`` of the run, then flat."""

    start: float
    end: float
    until: float = 1.0

    def __call__(self, step: Step) -> float:
        """The value at this step."""
        share = min(1.0, step.index / max(1.0, self.until * step.total))
        return self.start + (self.end - self.start) * share


def at_step(value: Ramp | float, step: Step) -> float:
    """A scheduled scalar's value now; plain numbers are constants."""
    return value(step) if callable(value) else value


def with_index(cond: Cond, index: Tensor) -> Cond:
    """The condition that also names the step which made a sample."""
    return replace(cond, index=index)
