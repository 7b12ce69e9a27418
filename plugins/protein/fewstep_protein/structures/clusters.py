"""Which segments are alike in sequence or in fold, and which may be held out.

Sequences are compared by their 5-mers, folds by TM-align (Zhang and Skolnick 2005). Everything is a function of the
segments alone: no random draw, any number of processes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fewstep.errors import FewstepError
from fewstep_protein.structures.ledger import remembered

if TYPE_CHECKING:
    from fewstep.engine import Watch

WORD = 5
"""Letters of a word of a sequence."""
REDUNDANT = 0.4
"""Share of 5-mers above which the shorter of two segments is dropped."""
FAMILY = 0.05
"""Share of 5-mers of the shorter segment above which two are of one family."""
SAME_FOLD = 0.5
"""TM-score above which two structures have one fold (Xu and Zhang 2010), here normalized by the shorter one."""
CONTENT = 0.75
"""Share of the shorter chain's residues for which the longer one has a residue in the same secondary structure; pairs
below it are not aligned. Of 2,500 random pairs of 50 to 128 residues, all 38 of one fold lay above, 41 % of all below."""
COARSE = 0.25
"""TM-score of every second CA below which a pair is not aligned in full. Of the same 38 pairs, 37 scored above 0.274 and
one 0.248, while four of five of all pairs fell below."""
RULE = f"over the shorter chain {SAME_FOLD} {CONTENT} {COARSE}"
"""By which folds are compared: what was found by another rule is not remembered."""


def words(sequence: str) -> frozenset[str]:
    """The 5-mers."""
    return frozenset(sequence[i : i + WORD] for i in range(len(sequence) - WORD + 1))


def without_repeats(sequences: Sequence[str]) -> list[int]:
    """Which sequences to keep, longest first (ties: first come): none shares REDUNDANT of its 5-mers with a kept one."""
    kept: list[int] = []
    holders: dict[str, list[int]] = defaultdict(list)
    for number in sorted(range(len(sequences)), key=lambda i: -len(sequences[i])):
        mine = words(sequences[number])
        shared = Counter(other for word in mine for other in holders.get(word, ()))
        if max(shared.values(), default=0) <= REDUNDANT * len(mine):
            kept.append(number)
            for word in mine:
                holders[word].append(number)
    return kept


def families(sequences: Sequence[str]) -> list[int]:
    """Single-linkage families by shared 5-mers, numbered by first appearance."""
    every = [words(sequence) for sequence in sequences]
    shared: Counter[tuple[int, int]] = Counter()
    holders: dict[str, list[int]] = defaultdict(list)
    for number, mine in enumerate(every):
        for word in mine:
            shared.update((other, number) for other in holders[word])
            holders[word].append(number)
    alike = ((i, j) for (i, j), n in shared.items() if n > FAMILY * min(len(every[i]), len(every[j])))
    return joined(len(sequences), alike)


def joined(count: int, links: Iterable[tuple[int, int]]) -> list[int]:
    """Connected components of ``count`` things under some links, numbered by first appearance."""
    parent = list(range(count))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for i, j in links:
        low, high = sorted((root(i), root(j)))
        parent[high] = low
    numbers: dict[int, int] = {}
    return [numbers.setdefault(root(i), len(numbers)) for i in range(count)]


@dataclass(frozen=True)
class Fold:
    """A chain as folds are compared: CA (N, 3) in angstrom, and how many residues are helix, strand and coil."""

    trace: np.ndarray
    content: np.ndarray


def tm_score(first: np.ndarray, second: np.ndarray) -> float:
    """TM-score of the best alignment of two chains (N, 3) in angstrom, over the length of the shorter one.

    Raises:
        FewstepError: tmtools is not there.
    """
    try:
        from tmtools import tm_align
    except ImportError as error:
        raise FewstepError(
            "a TM-score needs the package tmtools", "", 'pip install "fewstep[protein]"'
        ) from error
    found = tm_align(first, second, "A" * len(first), "A" * len(second))
    return float(found.tm_norm_chain1 if len(first) <= len(second) else found.tm_norm_chain2)


def same_fold(first: Fold, second: Fold) -> bool:
    """Whether two chains have one fold; nine of ten pairs are told apart without a whole alignment."""
    shorter = min(len(first.trace), len(second.trace))
    if np.minimum(first.content, second.content).sum() < CONTENT * shorter:
        return False
    thin = [np.ascontiguousarray(fold.trace[::2]) for fold in (first, second)]
    return tm_score(*thin) >= COARSE and tm_score(first.trace, second.trace) > SAME_FOLD


@dataclass(frozen=True)
class Comparing:
    """How folds are compared: the folds, where results are kept, by how many processes, and who is told."""

    folds: Mapping[str, Fold]
    folder: Path
    workers: int = 1
    watch: Watch | None = None

    @cached_property
    def marks(self) -> dict[str, str]:
        """Names with a hash of their coordinates: a file of the same name may hold another structure now."""
        return {
            name: f"{name} {sha256(fold.trace.tobytes()).hexdigest()}" for name, fold in self.folds.items()
        }

    def first_neighbors(self, stage: str, asked: Mapping[str, Sequence[str]]) -> dict[str, str | None]:
        """For each asked name, the first of its listed names that has its fold, or None."""
        tasks = {
            f"{name} {_digest(self.marks[each] for each in (name, *others))}": (name, list(others))
            for name, others in asked.items()
        }
        shared = (_share, (dict(self.folds),))
        ledger = self.folder / f"{stage}.jsonl"
        found = remembered(tasks, _first_neighbor, ledger, self.workers, self.watch, shared)
        return dict(zip(asked, found.values(), strict=True))


_FOLDS: dict[str, Fold] = {}
"""What this process compares."""


def _share(folds: dict[str, Fold]) -> None:
    """Let this process know the folds once, not with every task."""
    _FOLDS.clear()
    _FOLDS.update(folds)


def _first_neighbor(name: str, others: Sequence[str]) -> str | None:
    return next((other for other in others if same_fold(_FOLDS[name], _FOLDS[other])), None)


def _digest(marks: Iterable[str]) -> str:
    """Everything that a comparison depends on: the chains, their order and the rule."""
    return sha256(f"{RULE} {' '.join(marks)}".encode()).hexdigest()[:16]


def shuffled(names: Iterable[str]) -> list[str]:
    """The names in an order that has nothing to do with them, the same everywhere."""
    return sorted(names, key=lambda name: sha256(name.encode()).digest())


def held_out(candidates: Sequence[str], training: Sequence[str], comparing: Comparing) -> list[str]:
    """The candidates that have the fold of no training segment.

    Folds overlap: a training set of a thousand domains has neighbors with TM-score above 0.5 of most other domains, and
    linking all neighbors makes one cluster of most of the data. So the sides are not balanced by moving clusters about:
    training is a fair sample, common folds included, and what is held out are folds that it does not know.
    """
    small_first = sorted(training, key=lambda name: len(comparing.folds[name].trace))
    near = comparing.first_neighbors("held_out", dict.fromkeys(candidates, small_first))
    return [name for name, neighbor in near.items() if neighbor is None]


def clusters(
    names: Iterable[str], family: Mapping[str, int], comparing: Comparing, block: int = 64
) -> dict[str, int]:
    """Greedy clusters, longest first: each chain joins the first leader of its fold; a family stays in one cluster.

    Chains are compared in blocks, so that processes share the work; the outcome is that of one chain after another.
    """
    folds = comparing.folds
    order = sorted(shuffled(names), key=lambda name: -len(folds[name].trace))
    leaders: list[str] = []
    leader: dict[str, str] = {}
    for at in range(0, len(order), block):
        fresh: list[str] = []
        for name, old in comparing.first_neighbors(
            "clusters", {each: list(leaders) for each in order[at : at + block]}
        ).items():
            near = old or next((n for n in fresh if same_fold(folds[name], folds[n])), None)
            leader[name] = near or name
            fresh += [] if near else [name]
        leaders += fresh
    place = {name: i for i, name in enumerate(order)}
    first: dict[int, str] = {}
    links = [(place[name], place[leader[name]]) for name in order]
    links += [(place[name], place[first.setdefault(family[name], name)]) for name in order]
    return dict(zip(order, joined(len(order), links), strict=True))
