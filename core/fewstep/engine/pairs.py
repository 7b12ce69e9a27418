"""Pairs on disk: a task solves the teacher's ODE once, a source hands its noises and their ends to a student.

A store is a folder named after what its pairs depend on, so that another teacher, grid or solver makes another store:
``pairs.json`` says what they are, ``00000.safetensors``, ... hold one batch each.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.utils import _pytree

from fewstep.engine.ownership import fingerprint, state_of
from fewstep.engine.sharding import barrier, ranks
from fewstep.objectives import ODE
from fewstep.objectives.guidance import Scale, drawn_scale
from fewstep.protocol import Batch, Cond, Flow, Key, Process, Shelf, Source, Step, Tree, to


@dataclass(frozen=True)
class PairFacts:
    """What recorded pairs depend on.

    Args:
        process: of the teacher, as text.
        times: step times of the student that they are for.
        guidance: the teacher's scale g, or its law as text; None = as it is.
        grid: times of the solver, the student's among them.
        solver: its name.
        teacher: fingerprint of its weights.
        source: fingerprint of the first batch that was asked for.
        seed: of the noises.
        batches: how many there are; a student trains on all of a store, so a larger one is another one.
    """

    process: str
    times: tuple[float, ...]
    guidance: float | str | None
    grid: tuple[float, ...]
    solver: str
    teacher: str
    source: str
    seed: int
    batches: int

    @property
    def name(self) -> str:
        """The folder of such pairs."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


@dataclass(frozen=True)
class MakePairs:
    """A task that records pairs; what a killed run has finished is kept. The ranks share the batches.

    Args:
        source: conditions and shapes; batch i of the store answers batch i of the source.
        batches: how many.
        ode: how the teacher is solved.
        times: step times of the student.
        folder: where stores lie.
        teacher: shelf name, or the teacher itself.
        leaves: shelf name of the store's folder.
        device: where the teacher works.
        progress: told (done, of) after every batch of this rank.
    """

    source: Source
    batches: int
    ode: ODE
    times: tuple[float, ...]
    folder: Path
    teacher: Any = "teacher"
    leaves: str = "pairs"
    device: str = "cpu"
    progress: Callable[[int, int], None] | None = None

    def run(self, shelf: Shelf, key: Key) -> Shelf:
        """The folder of the pairs.

        Raises:
            ValueError: if the teacher's process has no ODE.
        """
        found = shelf[self.teacher] if isinstance(self.teacher, str) else self.teacher
        teacher = found.to(self.device).eval()
        if not isinstance(teacher.process, Flow):
            raise ValueError(
                f"pairs need a teacher with an ODE, and {type(teacher.process).__name__} has none; "
                "use an objective that draws"
            )
        key = key.whole()
        facts = self._facts(teacher, key)
        store = self.folder / facts.name
        store.mkdir(parents=True, exist_ok=True)
        rank, world = ranks()
        mine = range(rank, self.batches, world)
        for done, index in enumerate(mine, start=1):
            shard = _shard(store, index)
            if not shard.is_file():
                _write(shard, self._solved(teacher, index, key))
            if self.progress is not None:
                self.progress(done, len(mine))
        if rank == 0:
            _replaced(store / "pairs.json", lambda path: path.write_text(json.dumps(asdict(facts), indent=1)))
        barrier()
        return {self.leaves: store}

    def _facts(self, teacher: Any, key: Key) -> PairFacts:
        process = teacher.process
        first = self.source.batch(0, key.at("data"))
        asked = {str(i): leaf for i, leaf in enumerate(_tensors(_request(first))[0])}
        solver, grid = self.ode.solver, self.ode.grid(process, self.times).tolist()
        return PairFacts(
            repr(process),
            self.times,
            _written(self.ode.guidance),
            tuple(grid),
            f"{solver.__module__}.{getattr(solver, '__qualname__', repr(solver))}",
            fingerprint(state_of(teacher)),
            fingerprint(asked),
            key.seed64(),
            self.batches,
        )

    @torch.no_grad()
    def _solved(self, teacher: Any, index: int, key: Key) -> Tree:
        """Request, noise, target and path of one batch."""
        batch = to(self.source.batch(index, key.at("data")), self.device)
        noise = teacher.process.on(batch.mask).noise(batch, key.at("noise", index))
        made: dict[str, Tree] = {}
        if callable(self.ode.guidance):
            drawn_at = key.at("guidance", index)
            made["guidance"] = drawn_scale(self.ode.guidance, noise, Step.inference(key), drawn_at)
        target, path = self.ode(teacher, noise, batch.cond, self.times, made.get("guidance"))
        return _request(batch) | made | {"noise": noise, "target": target, "path": path}


@dataclass(frozen=True)
class PairSource:
    """Recorded pairs as a source: one store batch after another, in an order of its own in every epoch.

    Args:
        folder: of the store, as ``MakePairs`` leaves it.
        times: step times of the student that will learn from them.
        process: its process.
        guidance: the scale that its samples are compared at, or the law that it was drawn from.

    Raises:
        ValueError: if the pairs were recorded for other times, another process or another scale.
    """

    folder: Path
    times: tuple[float, ...]
    process: Process
    guidance: Scale = None

    def __post_init__(self) -> None:
        """Refuse pairs that are not this student's."""
        facts = json.loads((self.folder / "pairs.json").read_text())
        wanted = {
            "times": list(self.times),
            "process": repr(self.process),
            "guidance": _written(self.guidance),
        }
        strange = [
            f"  {name}: recorded {facts[name]}, student {value}"
            for name, value in wanted.items()
            if facts[name] != value
        ]
        if strange:
            raise ValueError(
                f"the pairs in {self.folder} are not this student's:\n"
                + "\n".join(strange)
                + "\nmake new pairs"
            )

    @cached_property
    def count(self) -> int:
        """Batches in the store; looked up once, since a store that trains a student does not grow."""
        return len(list(self.folder.glob("*.safetensors")))

    def batch(self, index: int, key: Key) -> Batch:
        """This rank's rows of the ``index``-th batch."""
        epoch, place = divmod(index, self.count)
        order = key.whole().at("pairs", epoch).permutation(self.count)
        held = _read(_shard(self.folder, int(order[place])))
        rank, world = key.shard
        mine: dict[str, Any] = _rows(held, rank, world)
        named = ("noise", "target", "path", "guidance")
        pairs: dict[str, Any] = {name: mine.pop(name) for name in named if name in mine}
        cond = Cond(mine.get("data"), mine.get("mask"))
        return Batch(like=pairs["noise"], cond=cond, extra=pairs)


def _written(scale: Scale) -> float | str | None:
    return repr(scale) if callable(scale) else scale


def _request(batch: Batch) -> dict[str, Tree]:
    """What a batch asks for; only what is there."""
    named = {"data": batch.cond.data, "mask": batch.mask}
    return {name: value for name, value in named.items() if value is not None}


def _tensors(tree: Tree) -> tuple[list[Tensor], str]:
    """Leaves and the structure as text.

    Raises:
        ValueError: if a leaf is no tensor.
    """
    leaves, structure = _pytree.tree_flatten(tree)
    strange = sorted({type(leaf).__name__ for leaf in leaves if not isinstance(leaf, Tensor)})
    if strange:
        raise ValueError(
            f"a condition that is recorded with its pair must be a tree of tensors, it holds {strange}"
        )
    return leaves, _pytree.treespec_dumps(structure)


def _rows(tree: Tree, rank: int, world: int) -> Any:
    def cut(leaf: Tensor) -> Tensor:
        share = Key(0, shard=(rank, world)).share(len(leaf))
        return leaf[rank * share : (rank + 1) * share]

    return _pytree.tree_map(cut, tree)


def _shard(store: Path, index: int) -> Path:
    return store / f"{index:05d}.safetensors"


def _write(path: Path, tree: Tree) -> None:
    leaves, structure = _tensors(tree)
    held = {str(i): leaf.detach().cpu().clone().contiguous() for i, leaf in enumerate(leaves)}
    _replaced(path, lambda draft: save_file(held, draft, {"structure": structure}))


def _read(path: Path) -> Any:
    with safe_open(path, framework="pt") as file:
        leaves: Sequence[Tensor] = [file.get_tensor(str(i)) for i in range(len(file.keys()))]
        structure = _pytree.treespec_loads(file.metadata()["structure"])
    return _pytree.tree_unflatten(list(leaves), structure)


def _replaced(path: Path, write: Callable[[Path], Any]) -> None:
    """Written beside and renamed, so that a kill leaves the old file or the new one."""
    draft = path.with_name(f"{path.name}.draft")
    write(draft)
    draft.replace(path)
