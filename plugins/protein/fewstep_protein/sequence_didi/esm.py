"""Masked language models with ESM's vocabulary as teachers: ESM-2, DPLM and their kin, from a local folder.

Their 33 tokens are <cls> <pad> <eos> <unk>, the 20 letters, X B U Z O . - <null_1> <mask>. A sequence is shown as <cls>,
n letters or <mask>, <eos>; both ends stay visible whatever is hidden. Of the answer only the 20 letters are kept, which is
minus infinity for <cls>, <eos>, <pad>, X and all others.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fewstep.errors import FewstepError
from fewstep.protocol import Cond
from fewstep_protein.sequence_didi.alphabet import HIDDEN

BEGIN, PADDING, END, FIRST, MASK = 0, 1, 2, 4, 32
"""ESM's ids of <cls>, <pad>, <eos>, of the letter L (the first of ours), and of <mask>."""
TOKENS = 33


class EsmNet(nn.Module):
    """A network of transformers' ``EsmForMaskedLM`` kind, called as fewstep calls one.

    Args:
        inner: called ``inner(input_ids=, attention_mask=)``; its answer has ``logits`` (B, L, 33).
    """

    def __init__(self, inner: nn.Module) -> None:
        """Wrap it."""
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, time: Tensor, cond: Cond) -> Tensor:
        """(B, L) ids of ours -> (B, L, 20) logits, on whatever device the network is."""
        ids, shown = framed(x, cond.mask)
        answer: Any = self.inner(input_ids=ids, attention_mask=shown.long())
        found: Tensor = answer.logits[:, 1:-1, FIRST : FIRST + HIDDEN]
        return found


def framed(x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """(B, L + 2) ids of ESM with <cls> before and <eos> right after the last real position, and where they are real.

    Args:
        x: (B, L) ids of ours.
        mask: (B, L) True where real; the real positions come first.
    """
    real = torch.ones_like(x, dtype=torch.bool) if mask is None else mask.bool()
    length = real.sum(1, keepdim=True)
    places = torch.arange(x.shape[1] + 2, device=x.device)
    inner = torch.where(x == HIDDEN, MASK, x + FIRST)
    ids = nn.functional.pad(torch.where(real, inner, PADDING), (1, 1), value=PADDING)
    ids[:, 0] = BEGIN
    return torch.where(places == length + 1, END, ids), places <= length + 1


def read_esm(folder: str | Path) -> EsmNet:
    """The network in a local folder of transformers (``config.json``, ``model.safetensors``), frozen.

    Use it from three lines of your own, named by ``-s teacher.kind=import -s teacher.target=MODULE:CALLABLE``.

    Raises:
        FewstepError: transformers is missing, the folder is no such model, or its vocabulary is another one.
    """
    try:
        from transformers import EsmForMaskedLM
    except ImportError as error:
        raise FewstepError(
            "a teacher with ESM's vocabulary needs the transformers library, which is not installed",
            "",
            'pip install "fewstep[pipelines]"',
        ) from error
    try:
        inner = EsmForMaskedLM.from_pretrained(str(folder), local_files_only=True, use_safetensors=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise FewstepError(
            f"transformers cannot load {folder}: {str(error).strip().splitlines()[0]}",
            "a folder with config.json and model.safetensors that save_pretrained wrote",
            "download the whole model, or save it again with save_pretrained(folder)",
        ) from error
    if (inner.config.vocab_size, inner.config.mask_token_id) != (TOKENS, MASK):
        raise FewstepError(
            f"the model in {folder} has {inner.config.vocab_size} tokens and its mask token is "
            f"{inner.config.mask_token_id}",
            f"ESM-2's alphabet: {TOKENS} tokens, mask token {MASK}",
            "use a model that was trained with it, or write an adapter of your own",
        )
    return EsmNet(inner.requires_grad_(False).eval())
