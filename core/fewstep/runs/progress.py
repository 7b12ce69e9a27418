"""How training looks while it runs: a live line on a terminal, a few plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from fewstep.engine import Watch
from fewstep.runs.story import many

QUIET_SECONDS = 10.0
"""Plain lines come at most this often."""


class Teller(Watch):
    """Passes everything on to several watchers."""

    def __init__(self, *watchers: Watch) -> None:
        self.watchers = watchers

    def stage_started(self, stage: str, steps: int, at: int) -> None:
        """A stage begins."""
        for watcher in self.watchers:
            watcher.stage_started(stage, steps, at)

    def cautioned(self, stage: str, caution: str) -> None:
        """The objective warns."""
        for watcher in self.watchers:
            watcher.cautioned(stage, caution)

    def logged(self, stage: str, cycle: int, updates: int, metrics: Mapping[str, float]) -> None:
        """Metrics came."""
        for watcher in self.watchers:
            watcher.logged(stage, cycle, updates, metrics)

    def saved(self, path: Path) -> None:
        """A checkpoint lies there."""
        for watcher in self.watchers:
            watcher.saved(path)

    def finished(self, stage: str) -> None:
        """The stage ended."""
        for watcher in self.watchers:
            watcher.finished(stage)


class PlainProgress(Watch):
    """One line per stage and one every few seconds, with the time that is left.

    Args:
        tell: prints a line.
        clock: seconds that only grow.
        unit: what a stage counts.
    """

    def __init__(
        self, tell: Callable[[str], None], clock: Callable[[], float] = time.monotonic, unit: str = "cycle"
    ) -> None:
        self._tell, self._clock, self._unit = tell, clock, unit
        self._steps, self._first, self._begun, self._told = 0, 0, 0.0, 0.0

    def stage_started(self, stage: str, steps: int, at: int) -> None:
        """Say what begins, or goes on."""
        self._steps, self._first = steps, at
        self._begun = self._told = self._clock()
        begun = f"going on at {self._unit} {at} of {steps}" if at else many(steps, self._unit)
        self._tell(f"{stage}: {begun if steps else 'task'}")

    def cautioned(self, stage: str, caution: str) -> None:
        """Say it."""
        self._tell(f"{stage}: caution: {caution}")

    def logged(self, stage: str, cycle: int, updates: int, metrics: Mapping[str, float]) -> None:
        """Say where it stands, now and then."""
        now = self._clock()
        if now - self._told < QUIET_SECONDS:
            return
        self._told = now
        left = remaining(cycle - self._first, self._steps - self._first, now - self._begun)
        self._tell(f"{stage}: {cycle}/{self._steps}, {clock_time(left)} left, {brief(metrics)}")

    def finished(self, stage: str) -> None:
        """Say how long it took."""
        self._tell(f"{stage}: done in {clock_time(self._clock() - self._begun)}")


class LiveProgress(Watch):
    """A bar per stage with elapsed time, time left and the newest losses.

    Args:
        console: a terminal.
        unit: what a stage counts.
    """

    def __init__(self, console: Console, unit: str = "cycle") -> None:
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:.0f}/{task.fields[whole]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", style="dim"),
            console=console,
        )
        self._task: TaskID | None = None
        self._unit, self._first, self._begun, self._steps = unit, 0, 0.0, 1

    def stage_started(self, stage: str, steps: int, at: int) -> None:
        """A new bar."""
        self._bars.start()
        self._first, self._begun, self._steps = at, time.monotonic(), max(1, steps)
        whole = many(steps, self._unit) if steps else "1 task"
        self._task = self._bars.add_task(stage, total=self._steps, completed=at, whole=whole, note="")

    def cautioned(self, stage: str, caution: str) -> None:
        """Say it above the bars."""
        self._bars.console.print(f"[yellow]caution[/yellow] ({escape(stage)}): {escape(caution)}")

    def logged(self, stage: str, cycle: int, updates: int, metrics: Mapping[str, float]) -> None:
        """Move the bar."""
        left = remaining(cycle - self._first, self._steps - self._first, time.monotonic() - self._begun)
        if self._task is not None:
            self._bars.update(self._task, completed=cycle, note=f"{clock_time(left)} left  {brief(metrics)}")

    def finished(self, stage: str) -> None:
        """Fill the bar."""
        if self._task is not None:
            self._bars.update(self._task, completed=self._steps, note="")

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._bars.stop()


def remaining(done: int, total: int, seconds: float) -> float:
    """Seconds that are left at the mean pace so far."""
    return seconds / max(1, done) * max(0, total - done)


def clock_time(seconds: float) -> str:
    """``42 s`` or ``3:07``."""
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60}:{whole % 60:02d}"


def brief(metrics: Mapping[str, float]) -> str:
    """The losses of the phases, what comes per second, and what share of it is good, short."""
    told = {n: value for n, value in metrics.items() if n.endswith(("/loss", "/s", "/share"))}
    return "  ".join(
        f"{n.removesuffix('/loss').removesuffix('/share')} {value:.3g}" for n, value in told.items()
    )


@contextmanager
def shown(quiet: bool, unit: str = "cycle") -> Iterator[tuple[Watch, Callable[[str], None]]]:
    """A watcher that suits standard error and names what it counts, and a function that prints a line beside it."""
    console = Console(stderr=True)
    if quiet:
        yield Watch(), lambda _: None
    elif console.is_terminal:
        live = LiveProgress(console, unit)
        try:
            yield live, console.print
        finally:
            live.close()
    else:
        lines = PlainProgress(lambda line: console.print(line, highlight=False, soft_wrap=True), unit=unit)
        yield lines, console.print
