"""Sequences for many backbones, and their predictions: written down one after the other, so that a killed one goes on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import fewstep
from fewstep.engine import Watch
from fewstep.errors import FewstepError
from fewstep.protocol import Key
from fewstep.runs.folder import RunFolder, writing
from fewstep_protein.folding.consistency import Consistency, compared
from fewstep_protein.folding.folder import CommandFolder, Folded, Folder
from fewstep_protein.folding.mpnn import InverseFolder, groups
from fewstep_protein.folding.reading import Backbone
from fewstep_protein.structures.files import Model, save


@dataclass(frozen=True)
class Asked:
    """What is wanted.

    Args:
        per: sequences for each backbone.
        temperature: of their choice.
        omit: letters that are never chosen.
        seed: another one gives other sequences.
        weights: name of the inverse folder's.
    """

    per: int
    temperature: float
    omit: str
    seed: int
    weights: str

    def __post_init__(self) -> None:
        """Refuse what no sequence answers."""
        if self.per < 1 or not 0 <= self.temperature <= 10:
            raise FewstepError(
                f"{self.per} sequences at temperature {self.temperature:g}",
                "at least one, at a temperature from 0 to 10",
                "--per 8 --temperature 0.1",
            )

    @property
    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {**vars(self), "version": fewstep.__version__}


@dataclass(frozen=True)
class Place:
    """Where a campaign writes: ``designs.fasta`` and its tables, and a hidden folder with what is done so far."""

    out: Path

    @property
    def state(self) -> RunFolder:
        """The hidden folder."""
        return RunFolder(self.out.with_name(f".{self.out.stem}"))

    @property
    def folded(self) -> Path:
        """The folder with predictions."""
        return self.out.with_name(f"{self.out.stem}-folded")

    def open(self, asked: Asked) -> None:
        """Make the hidden folder, or go on in it.

        Raises:
            FewstepError: it holds answers to another question.
        """
        state, told = self.state, asked.facts
        if not (state.path / "asked.json").is_file():
            with writing(state.path):
                state.path.mkdir(parents=True, exist_ok=True)
            state.write_json("asked.json", told)
            return
        before = state.read_json("asked.json")
        differing = [
            f"{name}: {before.get(name)!r} there, {value!r} asked"
            for name, value in told.items()
            if before.get(name) != value
        ]
        if differing:
            raise FewstepError(
                "\n".join([f"{self.out} holds other sequences", *differing]),
                "the same question, to go on with it",
                "give another --out, or ask what was asked before",
            )

    def done(self, file: str, **same: Any) -> dict[tuple[str, str], dict[str, Any]]:
        """(name, digest) -> what was written down of a backbone, where ``same`` holds."""
        lines = self.state.lines(file)
        return {
            (line["name"], line["digest"]): line
            for line in lines
            if all(line.get(name) == value for name, value in same.items())
        }


def design(
    backbones: Sequence[Backbone], inverse: InverseFolder, asked: Asked, place: Place, watch: Watch
) -> list[list[dict[str, Any]]]:
    """``sequence`` and ``nll`` of every design of every backbone; what was made before is read."""
    done = place.done("sequences.jsonl")
    todo = [one for one in backbones if (one.name, one.digest) not in done]
    key, count = Key(asked.seed).at("sequences"), len(backbones)
    watch.stage_started("sequences", count, count - len(todo))
    for number, rows in enumerate(groups([one.chain for one in todo])):
        batch = [todo[i] for i in rows]
        made = inverse.sample(
            [one.chain for one in batch],
            asked.per,
            asked.temperature,
            key,
            names=[one.name for one in batch],
            omit=asked.omit,
        )
        for one, designs in zip(batch, made, strict=True):
            line = {"name": one.name, "digest": one.digest, "designs": [vars(each) for each in designs]}
            place.state.append("sequences.jsonl", line)
            done[one.name, one.digest] = line
        left = sum((one.name, one.digest) not in done for one in backbones)
        watch.logged("sequences", count - left, number, {})
    watch.finished("sequences")
    return [done[one.name, one.digest]["designs"] for one in backbones]


def fold(
    backbones: Sequence[Backbone],
    designs: Sequence[Sequence[Mapping[str, Any]]],
    folder: Folder,
    name: str,
    place: Place,
    watch: Watch,
) -> Consistency:
    """What the predictions of every design are like; what was folded before by the same folder is read."""
    done = place.done("folded.jsonl", folder=name)
    todo = [i for i, one in enumerate(backbones) if (one.name, one.digest) not in done]
    count = len(backbones)
    watch.stage_started("folding", count, count - len(todo))
    for number, (i, predictions) in enumerate(_predictions(folder, designs, todo), 1):
        one = backbones[i]
        if not isinstance(folder, CommandFolder):
            _keep(one, designs[i], predictions, name, place.folded)
        columns = [column.tolist() for column in compared(one.chain, predictions)]
        line = {"name": one.name, "digest": one.digest, "folder": name, "columns": columns}
        place.state.append("folded.jsonl", line)
        done[one.name, one.digest] = line
        watch.logged("folding", count - len(todo) + number, number, {})
    watch.finished("folding")
    rows = [done[one.name, one.digest]["columns"] for one in backbones]
    return Consistency(*torch.tensor(rows, dtype=torch.float64).unbind(1))


def _predictions(
    folder: Folder, designs: Sequence[Sequence[Mapping[str, Any]]], todo: Sequence[int]
) -> Iterator[tuple[int, Sequence[Folded]]]:
    """A command folds all that is left in one call, because it reads its weights anew in each; a function one by one."""
    sequences = {i: [str(each["sequence"]) for each in designs[i]] for i in todo}
    if isinstance(folder, CommandFolder) and todo:
        folder.fold_missing([one for i in todo for one in sequences[i]])
    for i in todo:
        yield i, folder(sequences[i])


def _keep(
    backbone: Backbone,
    designs: Sequence[Mapping[str, Any]],
    predictions: Sequence[Folded],
    name: str,
    place: Path,
) -> None:
    """PDB files of the predictions, with pLDDT as B-factor."""
    with writing(place):
        place.mkdir(parents=True, exist_ok=True)
        for number, (each, one) in enumerate(zip(designs, predictions, strict=True)):
            stem = f"{backbone.name.replace('/', '_')}_{number}"
            about = {"folder": name, "nll": f"{each['nll']:.4f}"}
            save(
                Model(one.coordinates, stem, str(each["sequence"]), one.plddt, about), place / stem, ("pdb",)
            )
