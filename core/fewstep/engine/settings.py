"""How the engine runs, who watches it, and how it ends early."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fewstep.errors import FewstepError


@dataclass(frozen=True)
class Settings:
    """What an operator may choose without changing what is learned (precision aside).

    Args:
        precision: dtype of the loss' autocast; parameters, averages, schedules and losses stay float32 or float64.
        save_every: optimizer updates between checkpoints.
        keep: newest checkpoints that stay.
        log_every: cycles between logged metrics; reading a metric is the only thing that waits for the device.
        patience: non-finite updates in a row of one phase that are skipped before the run fails.
        shard: whether roles are sharded over the ranks of a process group; otherwise they are replicated.
    """

    precision: Literal["float32", "bfloat16"] = "float32"
    save_every: int = 1000
    keep: int = 2
    log_every: int = 50
    patience: int = 20
    shard: bool = True


class Watch:
    """Who is told about a run; override what you want to hear. Only the first rank tells."""

    def stage_started(self, stage: str, steps: int, at: int) -> None:
        """A stage of ``steps`` cycles (0 for a task) begins, or goes on, at cycle ``at``."""

    def cautioned(self, stage: str, caution: str) -> None:
        """The objective warns, before the stage trains, of a setting under which it goes wrong."""

    def logged(self, stage: str, cycle: int, updates: int, metrics: Mapping[str, float]) -> None:
        """Metrics named ``<phase>/<what>``; ``<phase>/seconds`` is the mean time of one update."""

    def saved(self, path: Path) -> None:
        """A checkpoint or a finished stage lies there."""

    def finished(self, stage: str) -> None:
        """The stage has left what it leaves."""


class Stopped(Exception):  # noqa: N818 - an outcome, not an error
    """The run was asked to stop, finished its update and saved; running it again in its folder goes on."""

    def __init__(self, folder: Path, stage: str, cycle: int, updates: int) -> None:
        """Keep where it stopped."""
        self.folder, self.stage, self.cycle, self.updates = folder, stage, cycle, updates
        super().__init__(
            f"stopped in stage {stage!r}, cycle {cycle}, after {updates} updates; everything is saved in {folder}. "
            "Run the same plan with the same folder to go on from here."
        )


class NonFiniteError(FewstepError):
    """Too many updates in a row had a gradient that was not a number."""


class AssemblyError(FewstepError):
    """The parts of a stage do not fit; lists every problem."""

    def __init__(self, problems: list[str], where: str) -> None:
        """Keep the list."""
        self.problems = problems
        super().__init__(
            "\n".join([f"{where} cannot be trained:", *(f"  - {line}" for line in problems)]),
            "parts that fit each other",
            "choose another objective, or change in the recipe what each line names",
        )
