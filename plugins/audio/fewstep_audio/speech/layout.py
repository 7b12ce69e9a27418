"""From phones and their frames to the condition of a network, and to batches of whole utterances.

Shape legend: B batch, P phones, M mel bands, T frames.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from fewstep.errors import FewstepError
from fewstep.protocol import Batch, Cond
from fewstep_audio.sound.mel import Scale
from fewstep_audio.speech.phones import Pronunciation
from fewstep_audio.speech.utterance import Utterance


def aligned(frames: Tensor, length: int) -> dict[str, Tensor]:
    """The length regulator: which phone each frame belongs to, and where in it.

    Args:
        frames: (B, P) int64 frames of each phone, 0 for padding.
        length: T.

    Returns:
        at: (B, T) int64 place of the frame's phone in (B, P).
        place: (B, T, 2) share of the phone that has passed, and the logarithm of its frames.
        real: (B, 1, T) bool, False after the last phone.
    """
    ends = frames.cumsum(1)
    now = torch.arange(length, device=frames.device).expand(len(frames), length).contiguous()
    at = torch.searchsorted(ends, now, right=True).clamp(max=frames.shape[1] - 1)
    long = frames.gather(1, at).clamp(min=1)
    passed = now - (ends.gather(1, at) - long) + 0.5
    place = torch.stack([passed / long, long.float().log()], -1).float()
    return {"at": at, "place": place, "real": (now < ends[:, -1:])[:, None]}


def conditioned(said: Sequence[Pronunciation]) -> Cond:
    """Phones and stresses of several texts, padded with 0: all that is known before durations are."""
    return Cond(
        {
            "phones": pad_sequence([one.phones for one in said], batch_first=True),
            "stress": pad_sequence([one.stress for one in said], batch_first=True),
        }
    )


def speakers(voices: Sequence[str], told: Sequence[str]) -> dict[str, Tensor]:
    """The condition that says who speaks, (B,) int64 places in ``told``; empty if the networks are told nobody.

    Raises:
        FewstepError: somebody speaks who is not among them.
    """
    strange = sorted(set(voices) - set(told)) if told else []
    if strange:
        raise FewstepError(
            f"speech by {', '.join(name or 'a speaker without a name' for name in strange)}",
            f"by {', '.join(told)} only, as speech.voices says",
            "name every speaker in speech.voices, or set speech.speakers=hidden",
        )
    return {"voice": torch.tensor([told.index(voice) for voice in voices])} if told else {}


def laid_out(cond: Cond, frames: Tensor) -> Cond:
    """The condition with its frames laid out in time; its mask says which frames are real.

    Args:
        cond: from :func:`conditioned`.
        frames: (B, P) int64.
    """
    layout = aligned(frames, int(frames.sum(1).max()))
    real = layout.pop("real")
    return Cond({**cond.data, **layout}, real)


def held_out_batch(utterances: Sequence[Utterance], scale: Scale) -> Batch:
    """Whole utterances, padded, with their exact durations. Truth is ``x["mel"]``, log-mel (B, M, T)."""
    frames = pad_sequence([one.frames for one in utterances], batch_first=True)
    cond = laid_out(conditioned([one.said for one in utterances]), frames)
    mels = pad_sequence([one.mel.T for one in utterances], batch_first=True).transpose(1, 2)
    state = scale.normalized(mels) * cond.mask
    extra = {"texts": tuple(one.text for one in utterances), "frames": frames}
    return Batch(torch.zeros_like(state), {"mel": scale.restored(state)}, cond, extra)
