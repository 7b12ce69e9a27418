"""Random crops of utterances, as a pure function of a counter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from fewstep.protocol import Batch, Cond, Key
from fewstep_audio.sound.mel import Scale
from fewstep_audio.speech.layout import held_out_batch
from fewstep_audio.speech.utterance import Utterance


class SpeechSource:
    """Random crops of equal length from the training utterances, mels in the space of the process.

    Args:
        utterances: what to crop.
        scale: of the mels.
        size: crops per batch, over all ranks.
        frames: length of a crop.
        told: conditions beside phones: (N, ...) of each utterance, or (N, T, ...) of each of its frames, padded.

    Raises:
        ValueError: if an utterance is shorter than a crop, or there is none.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        scale: Scale,
        size: int,
        frames: int,
        told: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Pad everything once, so that a batch is a few gathers."""
        shortest = min((one.mel.shape[1] for one in utterances), default=0)
        if frames > shortest:
            raise ValueError(
                f"crops of {frames} frames from utterances of {shortest}; make the crops shorter"
            )
        whole = held_out_batch(utterances, scale)
        self.cond, self.durations = (
            replace(whole.cond, data={**whole.cond.data, **(told or {})}),
            whole.extra["frames"],
        )
        self.states = scale.normalized(whole.x["mel"]) * whole.mask
        self.lengths = torch.tensor([one.mel.shape[1] for one in utterances])
        self.size, self.frames = size, frames

    def batch(self, index: int, key: Key) -> Batch:
        """This rank's rows of the ``index``-th batch, drawn with replacement."""
        count, here = key.share(self.size), key.at("speech", index)
        row = here.at("utterance").integers((count,), len(self.lengths))
        slack = self.lengths[row] - self.frames + 1
        begin = (here.at("begin").uniform((count,)) * slack).long()
        window = begin[:, None] + torch.arange(self.frames)
        x = self.states[row[:, None], :, window].transpose(1, 2).contiguous()
        length = self.states.shape[-1]
        data = {
            name: value[row[:, None], window] if value.shape[1:2] == (length,) else value[row]
            for name, value in self.cond.data.items()
        }
        mask = torch.ones(count, 1, self.frames, dtype=torch.bool)
        return Batch(x, x, Cond(data, mask), {"frames": self.durations[row]})
