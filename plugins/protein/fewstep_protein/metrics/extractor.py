"""A user's own view of chains in place of the built-in descriptor: ``module:callable``.

It is called with a list of (n, 3) float32 arrays in nanometers, and returns

- an array (B, d) of features, or
- a mapping with ``features`` and, for each name in its attribute ``heads``, class probabilities (B, classes).

Its attribute ``name`` (else its own name) is what distances are called after.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from fewstep.config.teacher import attribute
from fewstep.errors import FewstepError
from fewstep_protein.metrics.ensemble import Ensemble


@dataclass(frozen=True)
class Extractor:
    """What chains look like to somebody else.

    Args:
        name: after which distances are called.
        fn: (list of (n, 3) arrays in nanometers) -> (B, d), or a mapping.
        heads: names of class probabilities that it gives beside features.
    """

    name: str
    fn: Callable[[list[Any]], Any]
    heads: tuple[str, ...] = ()
    _known: WeakKeyDictionary[Ensemble, dict[str, Tensor]] = field(
        default_factory=WeakKeyDictionary, compare=False
    )

    def features(self, ensemble: Ensemble) -> Tensor:
        """(B, d)."""
        return self.all(ensemble)["features"]

    def head(self, name: str) -> Callable[[Ensemble], Tensor]:
        """The function that gives class probabilities (B, classes)."""
        return lambda ensemble: self.all(ensemble)[name]

    def all(self, ensemble: Ensemble) -> dict[str, Tensor]:
        """Everything that it gives for these chains, asked once.

        Raises:
            FewstepError: it gives something else than it should.
        """
        if ensemble not in self._known:
            given = self.fn([chain.numpy() for chain in ensemble.chains])
            self._known[ensemble] = self._checked(given, len(ensemble.chains))
        return self._known[ensemble]

    def _checked(self, given: Any, count: int) -> dict[str, Tensor]:
        parts = given if isinstance(given, Mapping) else {"features": given}
        wanted = ("features", *self.heads)
        found = {
            name: torch.as_tensor(parts[name]).detach().cpu().double() for name in wanted if name in parts
        }
        wrong = [f"no {name}" for name in wanted if name not in found]
        wrong += [
            f"{name} of shape {tuple(rows.shape)}"
            for name, rows in found.items()
            if rows.ndim != 2 or len(rows) != count
        ]
        wrong += [f"{name} not finite" for name, rows in found.items() if not bool(rows.isfinite().all())]
        wrong += [
            f"{name} that do not sum to one"
            for name in self.heads
            if name in found
            and not torch.allclose(found[name].sum(-1), torch.ones(count).double(), atol=1e-3)
        ]
        if wrong:
            raise FewstepError(
                f"the extractor {self.name} gave {', '.join(wrong)}",
                f"rows for {count} chains: {', '.join(wanted)}",
                "correct what it returns",
            )
        return found


def load_extractor(target: str) -> Extractor:
    """The extractor that ``module:callable`` names.

    Raises:
        FewstepError: it cannot be imported, or not called.
    """
    fn: Any = attribute(target, "extractor")
    name = getattr(fn, "name", None) or getattr(fn, "__name__", target.partition(":")[2])
    return Extractor(str(name), fn, tuple(getattr(fn, "heads", ())))
