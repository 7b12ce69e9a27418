"""From a plan to a shelf: stages one after another, each resumed where it stood."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fewstep.engine.assembly import check, surgery_problems
from fewstep.engine.checkpoint import CheckpointError, Cursor, Store, load, metadata
from fewstep.engine.settings import Settings, Stopped, Watch
from fewstep.engine.sharding import ranks
from fewstep.engine.team import Team, fill
from fewstep.engine.trainer import Desk, Trainer, seeded
from fewstep.protocol import Assembly, Cautious, Key, Plan, Site, Stage, Step, to


def execute(
    plan: Plan,
    site: Site,
    folder: Path | None = None,
    *,
    watch: Watch | None = None,
    settings: Settings | None = None,
) -> dict[str, Any]:
    """Run every stage of a plan and return the shelf: name -> module (frozen, in evaluation mode) or task result.

    With a folder the run can be killed at any moment: run again with the same plan, site and folder it goes on from
    the newest checkpoint, bit-equal to a run that was never killed. Ctrl-C (and SIGTERM) finish the update, save,
    and raise ``Stopped``; a second Ctrl-C interrupts at once. Under torchrun every rank calls this.

    Args:
        plan: the stages.
        site: key and device.
        folder: where checkpoints and finished stages lie; None = nothing is saved.
        watch: who is told.
        settings: how it runs.

    Raises:
        AssemblyError: if a stage's parts do not fit, with all problems.
        CheckpointError: if the folder cannot be written, or holds what does not fit this plan.
        NonFiniteError: if gradients stay non-finite.
        Stopped: if it was asked to stop.
        FrozenError: if a role that must not change did.
    """
    settings = settings or Settings()
    store = Store(folder, settings.keep) if folder is not None else None
    run = _Run(site, store, settings, watch if watch is not None and ranks()[0] == 0 else Watch())
    shelf: dict[str, Any] = {}
    with _stoppable(store is not None) as asked:
        for stage in plan.stages:
            shelf |= run.stage(stage, shelf, asked)
    return shelf


class FrozenError(CheckpointError):
    """A frozen role has other weights than when its stage began."""


class _Run:
    """One call of execute."""

    def __init__(self, site: Site, store: Store | None, settings: Settings, watch: Watch) -> None:
        self.site, self.store, self.settings, self.watch = site, store, settings, watch
        self.shard = settings.shard and ranks()[1] > 1

    def stage(self, stage: Stage, shelf: Mapping[str, Any], asked: Callable[[], bool]) -> dict[str, Any]:
        """Run or restore one stage; returns what it leaves."""
        key = self.site.key.at(stage.name)
        with seeded(key):
            built = stage.build(shelf)
            if not isinstance(built, Assembly):
                self.watch.stage_started(stage.name, 0, 0)
                left = dict(built.run(shelf, key))
                self.watch.finished(stage.name)
                return left
            # Surgery that is out of order is left for the check to refuse, together with all else.
            assembly = built if surgery_problems(built) else _operated(built, self.site.device)
            if self.store is not None and self.store.is_finished(stage.name):
                return self._restored(stage, assembly, self.store)
            check(stage, assembly, key)
            return self._trained(stage, assembly, replace(key, shard=ranks()), asked)

    def _restored(self, stage: Stage, assembly: Assembly, store: Store) -> dict[str, Any]:
        for role in stage.leaves:
            fill(role, assembly.roles[role], store.finished(stage.name, role))
        return _left(stage, assembly)

    def _trained(
        self, stage: Stage, assembly: Assembly, key: Key, asked: Callable[[], bool]
    ) -> dict[str, Any]:
        found = self.store.cursor(stage.name) if self.store else None
        stored = metadata(found[0]) if found else {}
        shapes = {
            k.removeprefix("roles/"): m.size
            for k, m in stored.items()
            if k.startswith("roles/") and hasattr(m, "size")
        }
        team = Team(assembly, self.shard, shapes)
        cursor = found[1] if found else Cursor(stage.name)
        prints = team.fingerprints()
        if found:
            _unchanged(cursor.frozen, prints, "this run was begun with")
            team.restore(stored, lambda state: load(found[0], state))
        cursor.frozen = prints
        self.watch.stage_started(stage.name, stage.steps, cursor.cycle)
        if not found:
            for caution in _cautions(team, stage.steps, key, self.site.device):
                self.watch.cautioned(stage.name, caution)
        desk = Desk(self.site.device, self.settings, self.watch, self._saver(team, cursor), asked)
        Trainer(team, stage, key, cursor, desk).run()
        return self._finished(stage, team, prints)

    def _finished(self, stage: Stage, team: Team, prints: Mapping[str, str]) -> dict[str, Any]:
        team.activate(None)
        _unchanged(prints, team.fingerprints(), "this stage began with")
        leaves = {role: team.leaf(role) for role in stage.leaves}
        if self.store is not None:
            self.watch.saved(self.store.finish(stage.name, leaves))
        if self.shard:
            for role, state in leaves.items():
                fill(role, team.assembly.roles[role], state)
        self.watch.finished(stage.name)
        return _left(stage, team.assembly)

    def _saver(self, team: Team, cursor: Cursor) -> Callable[[bool], None]:
        def save(stop: bool) -> None:
            if self.store is None or not (stop or cursor.updates % self.settings.save_every == 0):
                return
            self.watch.saved(self.store.save(team.state(), cursor))
            if stop:
                raise Stopped(self.store.checkpoints.parent, cursor.stage, cursor.cycle, cursor.updates)

        return save


def _cautions(team: Team, steps: int, key: Key, device: str) -> list[str]:
    """What the objective warns of, seen on the first batch."""
    if not isinstance(team.assembly.objective, Cautious):
        return []
    asked = key.at("cautions")
    with torch.no_grad(), seeded(asked):
        batch = to(team.assembly.source.batch(0, asked), device)
        return list(team.assembly.objective.cautions(team.roles, batch, Step(0, steps, asked)))


def _operated(assembly: Assembly, device: str) -> Assembly:
    """The assembly with its surgery applied, by rank, and its roles on the device."""
    roles: dict[str, nn.Module] = dict(assembly.roles)
    for name, changes in assembly.surgery.items():
        for change in changes:
            roles[name] = change.apply(roles[name])
    return replace(assembly, roles={name: role.to(device) for name, role in roles.items()})


def _left(stage: Stage, assembly: Assembly) -> dict[str, Any]:
    """What a stage puts on the shelf: finalized in reverse order of surgery, frozen, in evaluation mode."""
    left = {}
    for role, name in stage.leaves.items():
        module = assembly.roles[role]
        for change in reversed(assembly.surgery.get(role, ())):
            module = change.finalize(module)
        left[name] = module.requires_grad_(False).eval()
    return left


def _unchanged(before: Mapping[str, str], now: Mapping[str, str], since: str) -> None:
    changed = sorted(name for name in before if now.get(name) != before[name])
    if changed:
        raise FrozenError(
            f"frozen role(s) {', '.join(changed)} differ from what {since}",
            "frozen roles never change: no in-place edits, no running statistics, no parameters shared with a trained role",
        )


@contextmanager
def _stoppable(on: bool) -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C or SIGTERM into a wish that training reads after its update; the second interrupts."""
    wishes: list[int] = []
    if not on or threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return

    def wish(number: int, frame: Any) -> None:
        wishes.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, wish) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(wishes)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
