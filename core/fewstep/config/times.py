"""Time laws as settings. Importing this module does not import torch; ``build`` does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import model_validator

from fewstep.config.model import Settings, setting

if TYPE_CHECKING:
    from fewstep.processes import TimeLaw
    from fewstep.protocol import Process


class TimesConfig(Settings):
    """At which times a process is visited. ``times=lognormal`` is short for ``times.kind=lognormal``."""

    kind: Literal["natural", "lognormal", "log-student-t", "logit-normal", "listed"] = setting(
        "natural",
        "natural: uniform in the spacing of the process' own grid; lognormal, log-student-t: of the noise-to-signal "
        "ratio (of t where a process has none), cut to the process' range; logit-normal: over the process' range; "
        "listed: one of `values`",
    )
    low: float = setting(
        0.0, "natural: where the law begins, as a share of the grid from its clean end", ge=0, lt=1
    )
    high: float = setting(1.0, "natural: where the law ends, as a share of the grid", gt=0, le=1)
    mean: float = setting(
        -1.2,
        "mean of the normal or t variable (lognormal, log-student-t, logit-normal)",
        paper="Karras et al. 2022",
    )
    std: float = setting(1.2, "its standard deviation", gt=0, paper="Karras et al. 2022 table 1")
    freedom: float = setting(0.01, "degrees of freedom (log-student-t)", gt=0, paper="Lee et al. 2025")
    shift: float = setting(
        1.0, "the noise-to-signal ratio of every time is this much larger", gt=0, paper="Esser et al. 2024"
    )
    values: tuple[float, ...] = setting((), "times to choose from (listed)", unit="process time")

    @model_validator(mode="before")
    @classmethod
    def _shorthand(cls, given: Any) -> Any:
        return {"kind": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"a time law needs low < high, got {self.low} and {self.high}")
        if (self.kind == "listed") != bool(self.values):
            raise ValueError("`values` and kind 'listed' belong together: give both or neither")
        return self

    def build(self, process: Process) -> TimeLaw:
        """The law on this process; on a chain it has whole times only.

        Raises:
            ValueError: for a shift on a process without a noise-to-signal ratio.
        """
        from fewstep.processes import Whole

        law = self._shifted(process)
        return Whole(law) if getattr(process, "whole", False) else law

    def _shifted(self, process: Process) -> TimeLaw:
        from fewstep.processes import Gaussian, Shifted

        law = self._unshifted(process)
        if self.shift == 1.0:
            return law
        if not isinstance(process, Gaussian):
            raise ValueError(
                f"times.shift needs a Gaussian process, not {type(process).__name__}; leave it at 1"
            )
        return Shifted(law, self.shift, process.law, process.t_min, process.t_max)

    def _unshifted(self, process: Process) -> TimeLaw:
        from fewstep.processes import Grid, Karras, LogitNormal

        if self.kind == "listed":
            return Grid(self.values)
        if self.kind in ("lognormal", "log-student-t"):
            return self._of_ratio(process)
        if self.kind == "logit-normal":
            return LogitNormal(self.mean, self.std, process.t_min, process.t_max)
        rho = float(getattr(process, "rho", 1.0))
        return Karras(process.t_min, process.t_max, rho, begin=1 - self.high, end=1 - self.low)

    def _of_ratio(self, process: Process) -> TimeLaw:
        from fewstep.processes import Gaussian, LogNormal, LogStudent, OfRatio

        low, high = process.ratios() if isinstance(process, Gaussian) else (process.t_min, process.t_max)
        found: TimeLaw = (
            LogNormal(self.mean, self.std, low, high)
            if self.kind == "lognormal"
            else LogStudent(self.mean, self.std, low, high, self.freedom)
        )
        return OfRatio(found, process.law) if isinstance(process, Gaussian) else found
