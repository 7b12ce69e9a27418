"""Weights of vocoders as others publish them: one file in a folder, with weight normalization folded into the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from fewstep.errors import FewstepError

PAIRS = (("weight_g", "weight_v"), ("parametrizations.weight.original0", "parametrizations.weight.original1"))
"""How weight normalization (Salimans & Kingma 2016) is named in files, before and since torch 2."""


def state_of(folder: Path, inside: str = "generator") -> dict[str, Tensor]:
    """The tensors of the one file of weights in a folder, weight normalization folded.

    Args:
        folder: holds it beside a config.
        inside: the entry that a checkpoint keeps them in, if it keeps others too.

    Raises:
        FewstepError: there is no such file, there are several, or it cannot be read without running code.
    """
    found = sorted(file for file in folder.iterdir() if is_weights(file)) if folder.is_dir() else []
    if len(found) != 1:
        raise FewstepError(
            f"{folder} has {', '.join(file.name for file in found) or 'no file'} as weights",
            "one .safetensors, .pt, .pth or .bin file, or one called generator_* or g_*",
            "put one generator's weights beside its config",
        )
    return folded(_read(found[0], inside))


def is_weights(file: Path) -> bool:
    """Whether it is named like a generator's weights; discriminators (do_*) are not."""
    named = file.suffix in (".safetensors", ".pt", ".pth", ".bin", ".ckpt") and not file.name.startswith(
        "do_"
    )
    return file.is_file() and (named or file.name.startswith(("generator_", "g_")))


def _read(file: Path, inside: str) -> Mapping[str, Tensor]:
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file)
        found = torch.load(file, map_location="cpu", weights_only=True)
        state: Mapping[str, Tensor] = found.get(inside, found)
        return state
    except Exception as error:  # both libraries raise what they like on a bad file
        raise FewstepError(
            f"{file} cannot be read as weights: {(str(error).splitlines() or [type(error).__name__])[0]}",
            "tensors in a safetensors file, or a torch file of tensors alone",
            "save its state_dict again",
        ) from error


def folded(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same state with every direction and length joined to a weight, g v / |v|."""
    plain = dict(state)
    for name, length, direction in list(_normalized(state)):
        plain[f"{name}.weight"] = torch._weight_norm(
            plain.pop(direction).float(), plain.pop(length).float(), 0
        )
    return plain


def _normalized(state: Mapping[str, Tensor]) -> Iterator[tuple[str, str, str]]:
    for length, direction in PAIRS:
        for key in state:
            if key.endswith("." + length):
                name = key.removesuffix("." + length)
                yield name, key, f"{name}.{direction}"


def filled(net: nn.Module, state: Mapping[str, Tensor], folder: Path) -> nn.Module:
    """The network with the weights, at rest.

    Raises:
        FewstepError: names or shapes differ; the first few are told.
    """
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:4]]
        raise FewstepError(
            f"the weights in {folder} do not fit its config: {' '.join(lines)}",
            "weights and config of one network",
            "take both from the same place",
        ) from error
    return net.eval().requires_grad_(False)
