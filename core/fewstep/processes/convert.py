"""One network seen from another process: same noise-to-signal ratio, other coordinates."""

from __future__ import annotations

from torch import Tensor

from fewstep.processes.gaussian import Gaussian
from fewstep.processes.matching import carried, same_noise
from fewstep.protocol import Cond, Denoiser, Estimate, Tree, View


class Converted(View):
    """A denoiser of one Gaussian process that serves states of another.

    x_t = alpha x0 + sigma eps is, up to its size, a state of any process at the time with the same sigma / alpha, so
    the clean estimate is the same (Kingma et al. 2021 sec. 5.1). So are the predicted noise
    and therefore every jump, up to size: a flow map stays one.

    Args:
        base: the denoiser.
        process: whose states are given.
        prediction: what ``Estimate.raw`` is expressed in.
        strict: refuse times outside of the base's range (cut ``process`` with :func:`within`); else the base is
            asked at its nearest time.
    """

    process: Gaussian

    def __init__(
        self, base: Denoiser, process: Gaussian, prediction: str = "x0", *, strict: bool = True
    ) -> None:
        """Wrap ``base``; the network is its own, under the same parameter names."""
        super().__init__(base, process, prediction)
        self.strict = strict

    def forward(
        self,
        xt: Tree,
        t: Tensor,
        cond: Cond | None = None,
        *,
        to: Tensor | None = None,
        guidance: Tensor | None = None,
        features: tuple[int, ...] = (),
    ) -> Estimate:
        """The base's estimate at the same ratio; ``to`` is a time of this process."""
        cond = cond or Cond()
        there: Gaussian = self.base.process  # type: ignore[assignment]
        x, s = carried(self.process, xt, t, there, strict=self.strict)
        end = None if to is None else same_noise(self.process, to, there, strict=self.strict)
        est = self.base(x, s, cond, to=end, guidance=guidance, features=features)
        x0 = self.process.on(cond.mask).geometry.project(est.x0)
        return Estimate(x0, self.process.raw(x0, xt, t, self.prediction), est.features)
