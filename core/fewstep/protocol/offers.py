"""What a product may offer beside single samples.

Graphs that run without this library, samples that never end, and thousands of samples in one folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, nn

from fewstep.protocol.key import Key
from fewstep.protocol.tree import Tree, rows
from fewstep.protocol.values import Batch

if TYPE_CHECKING:
    from fewstep.protocol.plan import Drawn

Example: TypeAlias = tuple[Sequence[Tensor], Sequence[Tensor]]
"""Inputs of a graph, and what the student itself makes of them."""


@dataclass(frozen=True)
class Graph:
    """A computation on tensors that is exported as ``<name>.pt2`` and ``<name>.onnx``.

    Args:
        name: of its files.
        module: called with the inputs in order; returns the outputs in order, as a tensor or a tuple.
        inputs: name -> one sentence on what it is, with its shape.
        outputs: the same.
        examples: at least two. An axis whose length differs between them may have any length; every other axis is
            fixed. A file counts as written only if it gives each example's outputs.
    """

    name: str
    module: nn.Module
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    examples: Sequence[Example]


@dataclass(frozen=True)
class Portable:
    """All that is needed to draw without this library.

    Args:
        graphs: what is computed.
        files: file name -> content of what lies beside them: tables as JSON, a program that uses them.
    """

    graphs: Sequence[Graph]
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Piece:
    """A part of a stream.

    Args:
        content: bytes; all pieces one after the other are one file.
        about: one short line for progress.
    """

    content: bytes
    about: str = ""


@dataclass(frozen=True)
class Stream:
    """Samples without end, one piece after the other, in memory that does not grow.

    Args:
        mime: such as "audio/wav"; a browser plays what is "audio" or "video" and shows what is "text".
        suffix: of a file that holds it, such as ".wav".
        options: as ``Product.options``; a stream may allow more, such as a longer text.
        pieces: (options, draw, key) -> pieces; ``draw(batch, key)`` lets a contender answer one batch.
        finish: called with the finished file, which may then be told its length.
    """

    mime: str
    suffix: str
    options: type
    pieces: Callable[[Any, Callable[[Batch, Key], Tree], Key], Iterator[Piece]]
    finish: Callable[[Path], None] | None = None


def _whole(batch: Batch, device: str) -> list[tuple[Tensor, Batch]]:
    return [(torch.arange(rows(batch.like)), batch)]


@dataclass(frozen=True)
class Campaign:
    """Many samples in one folder that grows portion by portion, and goes on where it was cut short.

    Args:
        portion: (options, first) -> how many samples from number ``first`` on are recorded together; depends on nothing
            else, so that a campaign that goes on, or grows, draws what it would have drawn. The last is drawn whole,
            so those of a small campaign should be small.
        write: (options, drawn, folder, numbers, about) -> a record (JSON) for each sample. Files are written into
            ``folder``, from where they are moved beside the others; ``numbers`` are those of the samples in the
            campaign, ``about`` where they are from: run, recipe, contender, calls, seed, options, cautions, version,
            device. Where a record lists its "files", plain names in the folder itself, and one of them is gone later,
            its portion is drawn again.
        finish: (options, folder, records of all samples) -> tables and pages that sum the campaign up.
        parts: (batch of a portion, device) -> (rows, batch) of what is drawn at once; all of it by default. Every row
            lies in one part.
        reasons: record -> why it does not pass, as words that are counted; None = nobody judges.
        unit: what one of the samples is called.
    """

    portion: Callable[[Any, int], int]
    write: Callable[[Any, Drawn, Path, Sequence[int], Mapping[str, Any]], Sequence[Mapping[str, Any]]]
    finish: Callable[[Any, Path, Sequence[Mapping[str, Any]]], Sequence[Path]]
    parts: Callable[[Batch, str], Iterable[tuple[Tensor, Batch]]] = _whole
    reasons: Callable[[Mapping[str, Any]], Sequence[str]] | None = None
    unit: str = "sample"
