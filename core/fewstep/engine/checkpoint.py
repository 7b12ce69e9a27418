"""Checkpoints: written beside, renamed, then pointed at, so that a kill at any moment leaves the last good one."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch.distributed as dist
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributed.checkpoint import state_dict_loader as loading
from torch.distributed.checkpoint import state_dict_saver as saving
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader

from fewstep.engine.sharding import barrier, ranks
from fewstep.errors import FewstepError


class CheckpointError(FewstepError):
    """A checkpoint could not be written or read."""


@dataclass
class Cursor:
    """Where training stands; the unit is one optimizer update.

    Args:
        stage: name.
        cycle: passes over the phases that are done.
        position: phases of this cycle that are done.
        batches: micro-batches that earlier cycles took.
        updates: updates tried in this stage; ``skipped`` of them were non-finite.
        streaks: phase -> its last updates in a row that were non-finite.
        frozen: role -> fingerprint, one per rank, of what must not change.
    """

    stage: str
    cycle: int = 0
    position: int = 0
    batches: int = 0
    updates: int = 0
    skipped: int = 0
    streaks: dict[str, int] = field(default_factory=dict)
    frozen: dict[str, str] = field(default_factory=dict)


class Store:
    """The folder of a run's checkpoints and finished stages.

    Raises:
        CheckpointError: if it cannot be written to; before anything runs.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        """Make the folders and try them."""
        self.checkpoints, self.stages, self.keep = folder / "checkpoints", folder / "stages", keep
        with _clear(folder, "nothing was run"):
            for path in (self.checkpoints, self.stages):
                path.mkdir(parents=True, exist_ok=True)
            _write(self.checkpoints / f".probe-{ranks()[0]}", "writable").unlink()

    def save(self, state: Mapping[str, Any], cursor: Cursor) -> Path:
        """Write a checkpoint; every rank calls it."""
        name = f"{cursor.stage}-{cursor.updates:08d}"
        target, draft = self.checkpoints / name, self.checkpoints / f".draft-{name}"
        with _clear(target, f"the last good checkpoint, {self.latest() or 'none yet'}, is untouched", draft):
            _fresh(draft)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                saving.save(dict(state), checkpoint_id=draft, no_dist=not dist.is_initialized())
            _write(draft / f"cursor-{ranks()[0]}.json", json.dumps(asdict(cursor)))
            barrier()
            if ranks()[0] == 0:
                shutil.rmtree(target, ignore_errors=True)
                draft.replace(target)
                _write(self.checkpoints / ".latest", name).replace(self.checkpoints / "latest")
                self._prune(name)
            barrier()
        return target

    def latest(self) -> Path | None:
        """The newest good checkpoint: the one pointed at, or, where that was removed, the newest that is left."""
        pointer = self.checkpoints / "latest"
        named = pointer.read_text().strip() if pointer.is_file() else ""
        if named and (self.checkpoints / named).is_dir():
            return self.checkpoints / named
        return max(self._whole(), key=lambda path: path.stat().st_mtime, default=None)

    def _whole(self) -> list[Path]:
        """All checkpoints; a draft gets its name only when every process has written its part."""
        return [p for p in self.checkpoints.iterdir() if p.is_dir() and not p.name.startswith(".")]

    def cursor(self, stage: str) -> tuple[Path, Cursor] | None:
        """The newest checkpoint, if it stands in this stage.

        Raises:
            CheckpointError: if it cannot be read, or was written by another number of processes.
        """
        path = self.latest()
        if path is None:
            return None
        mine = path / f"cursor-{ranks()[0]}.json"
        if not mine.is_file() or len(list(path.glob("cursor-*.json"))) != ranks()[1]:
            raise CheckpointError(
                f"{path} was not written by {ranks()[1]} process(es)", "as many as wrote it"
            )
        try:
            cursor = Cursor(**json.loads(mine.read_text()))
        except (ValueError, TypeError) as error:
            raise CheckpointError(
                f"{mine} is damaged: {error}",
                todo=f"remove {path}; the run then goes on from the one before it",
            ) from error
        return (path, cursor) if cursor.stage == stage else None

    def _prune(self, newest: str) -> None:
        """Forget the oldest; drafts are what a killed save left."""
        found = sorted(self._whole(), key=lambda path: path.stat().st_mtime)
        old = [path for path in found if path.name != newest]
        drafts = self.checkpoints.glob(".draft-*")
        for path in [*old[: max(0, len(old) + 1 - max(1, self.keep))], *drafts]:
            shutil.rmtree(path, ignore_errors=True)

    def finish(self, stage: str, leaves: Mapping[str, Mapping[str, Tensor]]) -> Path:
        """Save what a finished stage leaves, once."""
        target, draft = self.stages / stage, self.stages / f".draft-{stage}"
        with _clear(target, f"the last checkpoint, {self.latest() or 'none'}, is untouched", draft):
            _fresh(draft)
            if ranks()[0] == 0:
                for role, state in leaves.items():
                    save_file(
                        {n: v.detach().cpu().clone().contiguous() for n, v in state.items()},
                        _leaf(draft, role),
                    )
                draft.replace(target)
            barrier()
        return target

    def finished(self, stage: str, role: str) -> dict[str, Tensor]:
        """What a finished stage left of a role.

        Raises:
            CheckpointError: if the file is damaged.
        """
        path = _leaf(self.stages / stage, role)
        try:
            return load_file(path)
        except (OSError, SafetensorError) as error:
            todo = f"remove {path.parent} to train the stage again"
            raise CheckpointError(f"{path} cannot be read: {error}", todo=todo) from error

    def is_finished(self, stage: str) -> bool:
        """Whether the stage has left what it leaves."""
        return (self.stages / stage).is_dir()


def metadata(path: Path) -> Mapping[str, Any]:
    """Key -> stored size and dtype."""
    with _readable(path):
        found: Mapping[str, Any] = FileSystemReader(path).read_metadata().state_dict_metadata
        return found


def load(path: Path, state: dict[str, Any]) -> dict[str, Any]:
    """Fill the tensors of ``state`` in place, and its other values by key."""
    with _readable(path), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        loading.load(state, checkpoint_id=path, no_dist=not dist.is_initialized())
    return state


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, CheckpointException, RuntimeError, ValueError, EOFError) as error:
        todo = (
            "resume with the plan that wrote it; if the file is damaged, remove the checkpoint: "
            "the run then goes on from the one before it"
        )
        raise CheckpointError(
            f"checkpoint {path} cannot be read: {_reason(error)}", "the same roles", todo
        ) from error


def _reason(error: BaseException) -> str:
    """What failed, in one line: torch's own text for a checkpoint is the traces of all ranks."""
    if isinstance(error, CheckpointException) and error.failures:
        rank, (cause, _) = next(iter(error.failures.items()))
        return f"process {rank}: {type(cause).__name__} {cause}".rstrip()
    return str(error) or type(error).__name__


@contextmanager
def _clear(target: Path, state: str, draft: Path | None = None) -> Iterator[None]:
    """Turn a full disk or a read-only folder into an error for people, and remove what was half written."""
    try:
        yield
    except (OSError, CheckpointException, SafetensorError, RuntimeError) as error:
        if draft is not None:
            shutil.rmtree(draft, ignore_errors=True)
        todo = "free some space or choose a writable folder, then run it again: it goes on from there"
        raise CheckpointError(f"cannot write {target}: {_reason(error)}\n  {state}", todo=todo) from error


def _fresh(folder: Path) -> None:
    if ranks()[0] == 0:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    barrier()


def _write(path: Path, text: str) -> Path:
    with path.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return path


def _leaf(folder: Path, role: str) -> Path:
    return folder / f"{role.replace('/', '-')}.safetensors"
