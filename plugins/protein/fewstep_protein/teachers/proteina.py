"""Checkpoints of Proteina (Geffner et al. 2025): published parameter names into our pair network.

Sizes are read from the shapes. Where the two are written differently they are equal as functions:

- tables of fold classes, which a linear map reads, become tables of what that map makes of them; "not told" is their last
  row and our first;
- every layer's scale of the normalized pair description moves into its map to attention biases; its shift is the same for
  all keys and cancels in the softmax;
- sign and unit of the output move into the last layer, the unit of the input into the first.

Residue features lie in two orders in the published configurations (chain break before or after self-conditioning). A
checkpoint does not say which, and both are zero here: distillation tells neither.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fewstep.errors import FewstepError
from fewstep.processes import Gaussian
from fewstep.protocol import Denoiser
from fewstep_protein.networks.pair import APART, BINS, GUESS_BINS, PairNet, PairSize
from fewstep_protein.teachers.conventions import Convention

LEVELS = ("C", "A", "T")
"""Levels of CATH that the fold tables are named after."""
SIGN = "linear_3d_embed.weight"
"""A parameter by which a published checkpoint is known."""
OUTSIDE = ("pair_update_layers.", "pair_head_prediction.", "lora_", "nn_ag.")
"""Parts that our network does not have."""


def is_published(weights: Mapping[str, Tensor]) -> bool:
    """Whether these are the parameters of a Proteina network."""
    return any(name.endswith(SIGN) for name in weights)


@dataclass(frozen=True)
class Folds:
    """Whose numbers fold labels are: ours to theirs.

    Args:
        levels: our codes at each level, such as ("1", "2"), ("1.10", ...); a label is a place in its list, from 1.
        known: their number of a code, by level ("C", "A", "T"); a code that is not there is not told.
    """

    levels: tuple[tuple[str, ...], ...]
    known: Mapping[str, Mapping[str, int]]

    def sorted(self, table: Tensor, level: int) -> Tensor:
        """Rows (codes + 1, C) in our order, from theirs with "not told" at 0."""
        theirs = self.known.get(LEVELS[level], {})
        rows = [0, *(theirs.get(code, -1) + 1 for code in self.levels[level])]
        return table[torch.tensor(rows)]


def read_folds(path: str | None, levels: tuple[tuple[str, ...], ...]) -> Folds:
    """Our codes, and their numbers in a file such as Proteina's ``cath_label_mapping.pt``; without it nothing is told.

    Raises:
        FewstepError: the file is absent, or is not a mapping of levels to numbers of codes.
    """
    if path is None:
        return Folds(levels, {})
    try:
        known = torch.load(path, map_location="cpu", weights_only=True)
        return Folds(levels, {level: {str(c): int(n) for c, n in known[level].items()} for level in LEVELS})
    except (OSError, pickle.UnpicklingError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise FewstepError(
            f"teacher_labels = {path} cannot be read: {str(error).splitlines()[0]}",
            "a mapping of 'C', 'A' and 'T' to mappings of codes to numbers, saved by torch.save",
            "take cath_label_mapping.pt that belongs to the checkpoint, or leave teacher_labels out",
        ) from error


def proteina_teacher(
    weights: Mapping[str, Tensor], convention: Convention, process: Gaussian, folds: Folds | None = None
) -> Denoiser:
    """A teacher from published parameters.

    Raises:
        FewstepError: as :func:`pair_network`.
    """
    net = pair_network(weights, convention, process.sigma_data, folds)
    return Denoiser(net, convention.process(process), convention.prediction)


def pair_network(
    weights: Mapping[str, Tensor], convention: Convention, sigma_data: float, folds: Folds | None = None
) -> PairNet:
    """Our pair network with these weights.

    Args:
        weights: by published name, with or without a prefix such as "nn.".
        convention: what the network says and in which unit; "score" does not fit into its last layer.
        sigma_data: standard deviation of the data in nanometers.
        folds: whose numbers labels are; None = theirs, counted from 1.

    Raises:
        FewstepError: the network has parts that ours lacks, or lacks parts.
    """
    if convention.output == "score":
        raise FewstepError(
            "a Proteina network that predicts a score",
            "one that predicts x1, v or eps; the published ones predict v",
            "set teacher_output=v, or bring the network with teacher.kind=import",
        )
    found = _bare(weights)
    _refuse_others(found)
    try:
        size = size_of(found)
        mine = dict(_translated(found, size, convention, folds))
        labels = tuple(len(mine[f"labels.{level}.weight"]) - 1 for level in range(len(LEVELS)))
        net = PairNet(size, sigma_data, labels=labels)
        net.load_state_dict({**mine, "index.weight": net.index.weight})
    except (KeyError, RuntimeError) as error:
        raise FewstepError(
            f"the checkpoint is not a whole Proteina network: {str(error).splitlines()[0]}",
            "the network of the published configurations without pair updates",
            "bring the network with teacher.kind=import",
        ) from error
    return net


def size_of(found: Mapping[str, Tensor]) -> PairSize:
    """Widths from shapes."""
    registers, tokens = found["registers"].shape
    heads, pairs = found["transformer_layers.0.mhba.mha.to_bias.weight"].shape
    condition, clock = found["pair_repr_builder.cond_factory.linear_out.weight"].shape
    layers = 1 + max(int(name.split(".")[1]) for name in found if name.startswith("transformer_layers."))
    places = found["init_repr_factory.linear_out.weight"].shape[1] - 4
    return PairSize(tokens, layers, heads, pairs, condition, clock, places, registers)


def _bare(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the prefix under which the network was saved."""
    prefix = next(name for name in weights if name.endswith(SIGN)).removesuffix(SIGN)
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def _refuse_others(found: Mapping[str, Tensor]) -> None:
    foreign = sorted({part for part in OUTSIDE for name in found if part in name})
    wide = found["pair_repr_builder.init_repr_factory.linear_out.weight"].shape[1]
    usual = 2 * APART + 1 + GUESS_BINS + BINS
    if foreign or wide != usual:
        what = f"has {', '.join(foreign)}" if foreign else f"reads {wide} pair features instead of {usual}"
        raise FewstepError(
            f"the checkpoint {what}: a Proteina network with pair updates, a motif or adapters",
            "one without: v1.2, v1.3 and v1.6 of the published checkpoints",
            "bring the network itself with teacher.kind=import, teacher_output and teacher_unit",
        )


def _table(found: Mapping[str, Tensor], level: str) -> str:
    """The name of a fold table; which number its feature has depends on the configuration."""
    return next(name for name in found if name.endswith(f"embedding_{level}.weight"))


def _translated(
    found: Mapping[str, Tensor], size: PairSize, convention: Convention, folds: Folds | None
) -> Iterator[tuple[str, Tensor]]:
    """Our names and values."""
    yield from _ends(found, convention)
    yield from _context(found, size, folds)
    yield from _pairs(found, size)
    for number in range(size.layers):
        yield from _layer(found, number)


def _ends(found: Mapping[str, Tensor], convention: Convention) -> Iterator[tuple[str, Tensor]]:
    yield "registers", found["registers"]
    yield "see.weight", convention.scale * found["linear_3d_embed.weight"]
    yield "read.weight", found["init_repr_factory.linear_out.weight"]
    yield from _both(found, "coors_3d_decoder.0", "norm")
    one = torch.ones(1, 1, 1)
    yield "place.weight", convention.raw(one, one[:, 0, 0])[0] * found["coors_3d_decoder.1.weight"]


def _context(
    found: Mapping[str, Tensor], size: PairSize, folds: Folds | None
) -> Iterator[tuple[str, Tensor]]:
    read = found["cond_factory.linear_out.weight"]
    tables = [found[_table(found, level)] for level in LEVELS]
    clock, *maps = read.split([size.clock, *(table.shape[1] for table in tables)], 1)
    yield "clock.weight", clock
    for level, (table, read_by) in enumerate(zip(tables, maps, strict=True)):
        told = (table @ read_by.T).roll(1, 0)
        yield f"labels.{level}.weight", told if folds is None else folds.sorted(told, level)
    for number in (1, 2):
        yield from _feed(found, f"transition_c_{number}", f"settle.{number - 1}")


def _pairs(found: Mapping[str, Tensor], size: PairSize) -> Iterator[tuple[str, Tensor]]:
    base = "pair_repr_builder"
    features = found[f"{base}.init_repr_factory.linear_out.weight"].T
    for name, table in zip(
        ("apart", "guessed", "near"), features.split([2 * APART + 1, GUESS_BINS, BINS]), strict=True
    ):
        yield f"pairs.{name}.weight", table
    yield from _both(found, f"{base}.init_repr_factory.ln_out", "pairs.norm")
    yield "pairs.clock.weight", found[f"{base}.cond_factory.linear_out.weight"]
    yield from _both(found, f"{base}.cond_factory.ln_out", "pairs.clock_norm")
    yield from _scale(found, f"{base}.adaln", "pairs.scale")
    maps = []
    for number in range(size.layers):
        inside = f"transformer_layers.{number}.mhba.mha"
        maps.append(found[f"{inside}.to_bias.weight"] * found[f"{inside}.pair_norm.weight"])
    yield "pairs.bias.weight", torch.cat(maps)


def _layer(found: Mapping[str, Tensor], number: int) -> Iterator[tuple[str, Tensor]]:
    theirs, ours = f"transformer_layers.{number}", f"layers.{number}"
    inside = f"{theirs}.mhba.mha"
    names = {
        "node_norm": "norm",
        "to_qkv": "qkv",
        "q_layer_norm": "query_norm",
        "k_layer_norm": "key_norm",
        "to_g": "gate",
        "to_out_node": "out",
    }
    for name, mine in names.items():
        yield from _both(found, f"{inside}.{name}", f"{ours}.{mine}")
    yield from _scale(found, f"{theirs}.mhba.adaln", f"{ours}.scale")
    yield from _both(found, f"{theirs}.mhba.scale_output.to_adaln_zero_gamma.0", f"{ours}.out_scale")
    yield from _scale(found, f"{theirs}.transition.adaln", f"{ours}.feed_scale")
    yield from _feed(found, f"{theirs}.transition.transition", f"{ours}.feed")
    yield from _both(
        found, f"{theirs}.transition.scale_output.to_adaln_zero_gamma.0", f"{ours}.feed_out_scale"
    )


def _both(found: Mapping[str, Tensor], theirs: str, ours: str) -> Iterator[tuple[str, Tensor]]:
    for part in ("weight", "bias"):
        yield f"{ours}.{part}", found[f"{theirs}.{part}"]


def _scale(found: Mapping[str, Tensor], theirs: str, ours: str) -> Iterator[tuple[str, Tensor]]:
    yield from _both(found, f"{theirs}.norm_cond", f"{ours}.norm")
    yield from _both(found, f"{theirs}.to_gamma.0", f"{ours}.gamma")
    yield f"{ours}.beta.weight", found[f"{theirs}.to_beta.weight"]


def _feed(found: Mapping[str, Tensor], theirs: str, ours: str) -> Iterator[tuple[str, Tensor]]:
    yield f"{ours}.rise.weight", found[f"{theirs}.swish_linear.0.weight"]
    yield f"{ours}.fall.weight", found[f"{theirs}.linear_out.weight"]
