"""A denoiser given by a formula."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from fewstep.protocol import Cond, Denoiser, Estimate


class Exact(Denoiser):
    """A denoiser given by a formula instead of a network."""

    process: Any

    def __init__(self, process: Any, prediction: str = "x0") -> None:
        """Bind the process."""
        super().__init__(nn.Identity(), process, prediction)

    def forward(self, xt: Any, t: Tensor, cond: Cond | None = None, **asked: Any) -> Estimate:
        """E[x0 | x_t], projected.

        Raises:
            ValueError: if an optional keyword is given; formulas take none.
        """
        given = sorted(name for name, value in asked.items() if value is not None and value != ())
        if given:
            raise ValueError(f"{type(self).__name__} is a formula and takes no {', '.join(given)}")
        cond = cond or Cond()
        process = self.process.on(cond.mask)
        return Estimate(process.geometry.project(self.believe(xt, t, cond)))

    def believe(self, xt: Any, t: Tensor, cond: Cond) -> Any:
        """The formula."""
        raise NotImplementedError(f"{type(self).__name__} must define believe(xt, t, cond)")
