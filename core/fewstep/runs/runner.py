"""The straight way: settings, plan, training, evaluation, files, report. Everything else hangs on these lines."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from fewstep.config.layers import flat
from fewstep.engine import Settings, Stopped, Watch, execute
from fewstep.errors import FewstepError
from fewstep.plugins.lifecycle import RunHooks
from fewstep.plugins.loader import registry
from fewstep.runs.environment import environment
from fewstep.runs.export import export
from fewstep.runs.folder import RunFolder, claimed
from fewstep.runs.group import agreed, joined, leads
from fewstep.runs.handle import SHOWN, Run
from fewstep.runs.progress import Teller, shown
from fewstep.runs.setup import DEFAULT, Setup, prepare, rehearse, reopen


class InterruptedRunError(FewstepError):
    """The run was stopped by its user; everything is saved, and the message says how to go on."""

    def __init__(self, run: Run) -> None:
        """Keep the run."""
        self.run = run
        go_on = f"fewstep run {run.setup.recipe.name} --resume {shlex.quote(str(run.folder))}"
        super().__init__(
            f"stopped; what was learned is saved in {run.folder}", "", f"{go_on}   # goes on from there"
        )


def run(
    recipe: str,
    *,
    profile: str = "",
    config: Path | str | None = None,
    settings: Sequence[str] = (),
    resume: Path | str | None = None,
    out: Path | str = "runs",
    device: str = "",
    quiet: bool = False,
    **arguments: Any,
) -> Run:
    """Train a student and leave a run folder with its report.

    Args:
        recipe: such as "audio/comospeech".
        profile: a preset of the recipe, such as "smoke".
        config: YAML settings.
        settings: ``a.b=value`` entries.
        resume: folder of a run of this recipe to go on with; settings may be left out then, but not changed.
        out: where run folders are made.
        device: where it runs.
        quiet: no progress.
        **arguments: settings by name: ``steps=2000``, ``seed=1``, ``objective="sid"``, ``teacher={"kind": "train"}``.

    Raises:
        FewstepError: anything that its user can mend.
        InterruptedRunError: stopped by Ctrl-C; resumable.
    """
    asked: dict[str, Any] = {
        "profile": profile,
        "file": Path(config) if config else None,
        "sets": settings,
        "arguments": arguments,
        "device": device,
    }
    with joined():
        if resume is not None:
            return carry_out(_reopened(Path(resume), recipe, asked), quiet=quiet)
        return carry_out(_begun(Path(out), prepare(recipe, **asked)), quiet=quiet)


def load(folder: Path | str, device: str = "") -> Run:
    """A finished run from its folder, ready to sample.

    Args:
        folder: the run folder.
        device: where its networks go.

    Raises:
        FewstepError: it is not a run folder, or not finished.
    """
    files = RunFolder(Path(folder))
    setup = reopen(files, device)
    return Run(files, setup, setup.plan()).restore()


def carry_out(work: Run, *, quiet: bool = False) -> Run:
    """Train, evaluate and write everything into the run's folder, telling plugins and the user how it goes.

    Of several processes all train, and the first one does the rest.
    """
    begun, folder = time.monotonic(), work.files
    if not leads():
        work.shelf = execute(work.plan, work.setup.site, folder.path, settings=_pace(work))
        return work
    hooks = RunHooks(registry().plugins, strict=registry().strict)
    with claimed(folder.path):
        _carried_out(work, hooks, quiet, begun)
    hooks.run_finished(work, "done")
    return work


def _carried_out(work: Run, hooks: RunHooks, quiet: bool, begun: float) -> None:
    folder = work.files
    folder.note(status="running")
    hooks.run_started(work)
    with _told(work, hooks), shown(quiet) as (watch, say):
        recorder = _Recorder(work, hooks)
        work.shelf = execute(
            work.plan, work.setup.site, folder.path, watch=Teller(recorder, watch), settings=_pace(work)
        )
        folder.note(trained=True)
        say("measuring student, teacher and controls")
        work.evaluate()
        _files(work)
        work.report()
        folder.note(status="done", finished=_now(), seconds=round(time.monotonic() - begun, 1))


class _Recorder(Watch):
    """Writes metrics and finished stages into the run folder and tells plugins."""

    def __init__(self, run: Run, hooks: RunHooks) -> None:
        self._run, self._hooks = run, hooks
        told = run.files.lines("metrics.jsonl")
        self._begun = time.monotonic() - (told[-1]["t"] if told else 0.0)

    def cautioned(self, stage: str, caution: str) -> None:
        """Kept with the run, where its report finds it; once, though a killed run warns again when it begins anew."""
        known = self._run.files.facts.get("cautions", [])
        self._run.files.note(cautions=list(dict.fromkeys([*known, f"{stage}: {caution}"])))

    def logged(self, stage: str, cycle: int, updates: int, metrics: Mapping[str, float]) -> None:
        """One line of metrics.jsonl; its ``t`` grows over the whole run, however often that was cut short."""
        seconds = round(time.monotonic() - self._begun, 3)
        line = {"stage": stage, "cycle": cycle, "updates": updates, "t": seconds, "metrics": dict(metrics)}
        self._run.files.append("metrics.jsonl", line)
        self._hooks.step_logged(
            self._run, cycle, {f"{stage}/{name}": value for name, value in metrics.items()}
        )

    def saved(self, path: Path) -> None:
        """A checkpoint, or what a finished stage left."""
        if path.parent.name == "stages":
            done = self._run.files.facts.get("stages", [])
            self._run.files.note(stages=list(dict.fromkeys([*done, path.name])))
        self._hooks.checkpoint_saved(self._run, path)


@contextmanager
def _told(run: Run, hooks: RunHooks) -> Iterator[None]:
    """Whatever ends the run early is written down, told to plugins, and passed on."""
    try:
        yield
    except (Stopped, KeyboardInterrupt) as stop:
        run.files.note(status="stopped")
        hooks.run_finished(run, "stopped")
        raise InterruptedRunError(run) from stop
    except BaseException as error:
        hooks.run_finished(run, "failed")
        _note_failure(run, error)
        raise


def _note_failure(run: Run, error: BaseException) -> None:
    try:
        run.files.note(status="failed", error=f"{type(error).__name__}: {error}")
    except FewstepError:
        # The disk may be what failed; the first error is the one to hear about.
        return


def _pace(run: Run) -> Settings:
    """Log some fifty points of the shortest stage, and save often enough that a kill costs little."""
    shortest = min((stage.steps for stage in run.plan.stages if stage.steps), default=1)
    return Settings(log_every=max(1, min(50, shortest // 50)), save_every=500)


def _opened(root: Path, setup: Setup) -> RunFolder:
    folder = RunFolder.create(root, setup.recipe.name, setup.resolved.hash)
    spec = setup.recipe.spec
    folder.write_yaml("config.yaml", setup.resolved.values)
    folder.write_json("config.origin.json", dict(setup.resolved.origins))
    folder.write_json(
        "environment.json", environment(setup.recipe.plugin.distribution, spec.extra, setup.device)
    )
    folder.note(
        recipe=setup.recipe.name,
        profile=setup.profile,
        status="new",
        created=_now(),
        seed=setup.resolved.config.seed,
        config_hash=setup.resolved.hash,
        parents=[setup.resolved.config.teacher.path] if setup.resolved.config.teacher.path else [],
        again=again(setup),
        draw=f"fewstep sample {shlex.quote(str(folder.path))}",
        stages=[],
    )
    return folder


def again(setup: Setup) -> str:
    """The command that makes the same run: the profile, and every setting that was given beside it."""
    words = ["fewstep", "run", setup.recipe.name]
    words += ["--profile", setup.profile] if setup.profile != DEFAULT else []
    for name, value in flat(setup.resolved.values).items():
        origin = setup.resolved.origins.get(name, "default")
        if origin != "default" and not origin.startswith("preset "):
            words += ["-s", f"{name}={json.dumps(value)}"]
    return shlex.join(words)


def _begun(root: Path, setup: Setup) -> Run:
    """A new run; its folder is made last, so that what cannot be run leaves nothing behind."""
    plan = setup.plan()
    rehearse(plan, setup.site)
    return Run(RunFolder(agreed(lambda: _opened(root, setup).path)), setup, plan)


def _reopened(path: Path, recipe: str, asked: Mapping[str, Any]) -> Run:
    """A run to go on with, unless it is another recipe's or other settings are asked for."""
    folder = RunFolder(path)
    made = folder.facts.get("recipe")
    registry().recipe(recipe)
    if made != recipe:
        raise FewstepError(
            f"{path} is a run of {made!r}, not of {recipe!r}",
            "a run of the same recipe",
            f"fewstep run {made} --resume {shlex.quote(str(path))}",
        )
    found = reopen(folder, asked["device"])
    if any(asked[name] for name in ("profile", "file", "sets", "arguments")):
        _same(found, prepare(recipe, **{**asked, "profile": asked["profile"] or found.profile}), folder)
    plan = found.plan()
    rehearse(plan, found.site, folder.facts.get("stages", []))
    return Run(folder, found, plan)


def _same(found: Setup, asked: Setup, folder: RunFolder) -> None:
    if found.resolved.hash == asked.resolved.hash:
        return
    old, new = flat(found.resolved.values), flat(asked.resolved.values)
    changed = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    lines = [f"  {name}: {old.get(name)!r} there, {new.get(name)!r} now" for name in changed]
    raise FewstepError(
        f"the run in {folder.path} was begun with other settings:\n" + "\n".join(lines),
        "the same settings, so that the run means one thing",
        f"fewstep run {found.recipe.name} --resume {shlex.quote(str(folder.path))}   # keeps its settings; "
        "leave --resume out to begin anew",
    )


def _files(run: Run) -> None:
    """Weights for elsewhere, and a few native files of student and teacher to look at."""
    export(run.files, run.shelf, run.product.student)
    for contender in ("student", "teacher"):
        if contender in run.product.contenders:
            run.sample(SHOWN, contender=contender, out=run.folder / "samples" / contender)


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
