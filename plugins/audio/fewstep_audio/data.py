"""Real speech as training data: a corpus of espeak-ng utterances with exact durations, kept by content.

Voice and pitch are hidden from the condition on purpose. Rule-made speech is otherwise nearly a function of its
phones, the conditional mean would already sound right, and no distillation could be told from none.
Shape legend: B batch, P phones, M mel bands, T frames.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from fewstep.protocol import Batch, Cond, Key
from fewstep_audio.espeak import WORKER, Request, Speech, speak
from fewstep_audio.mel import MelContract, Scale, log_mel
from fewstep_audio.phones import Pronunciation, spelled
from fewstep_audio.sentences import HELD_OUT, SENTENCES

FORMAT = 1
"""Raised when the meaning of the cached arrays changes."""


@dataclass(frozen=True)
class CorpusSettings:
    """What is spoken for training.

    Args:
        voices: espeak-ng voices; which one speaks is hidden from the networks.
        pitches: base pitches, 0 to 99; hidden as well.
        liveliness: range of the pitch within a sentence, 0 to 99; 0 is monotone.
        sentences: how many of the package's training sentences; None = all.
        takes: how often each of them is spoken, every time in another voice or pitch.
        held_out: how many sentences are kept for evaluation.
        contract: what a spectrogram means.
    """

    voices: tuple[str, ...] = ("en-us+m3", "en-us+f2")
    pitches: tuple[int, ...] = (40, 60)
    liveliness: int = 0
    sentences: int | None = None
    takes: int = 2
    held_out: int = HELD_OUT
    contract: MelContract = field(default_factory=MelContract)

    def training(self) -> list[Request]:
        """Each training sentence in ``takes`` voices and pitches, in an order that mixes them."""
        texts = SENTENCES[:-HELD_OUT][: self.sentences]
        return self._cast([text for text in texts for _ in range(self.takes)])

    def testing(self) -> list[Request]:
        """Each held-out sentence once."""
        return self._cast(SENTENCES[len(SENTENCES) - HELD_OUT :][: self.held_out])

    def _cast(self, texts: Sequence[str]) -> list[Request]:
        # Voices vary fastest, so that the takes of one sentence are in different voices.
        ways = itertools.cycle((voice, pitch) for pitch in self.pitches for voice in self.voices)
        return [Request(text, *way, self.liveliness) for text, way in zip(texts, ways, strict=False)]


@dataclass(frozen=True)
class Utterance:
    """One spoken sentence.

    Args:
        text: what was said.
        said: its phones.
        frames: (P,) int64, frames of each phone; their sum is T.
        mel: (M, T) float32 natural log-mel.
    """

    text: str
    said: Pronunciation
    frames: Tensor
    mel: Tensor


@dataclass(frozen=True)
class Corpus:
    """Training and held-out utterances, and the scale of the training mels."""

    training: tuple[Utterance, ...]
    testing: tuple[Utterance, ...]

    @property
    def scale(self) -> Scale:
        """Mean and standard deviation of every band over the training frames."""
        frames = torch.cat([utterance.mel for utterance in self.training], 1)
        return Scale(frames.mean(1, keepdim=True), frames.std(1, keepdim=True).clamp(min=1e-3))


def load_corpus(settings: CorpusSettings, cache: Path) -> Corpus:
    """The corpus from the cache, or spoken now and put there. Named by a hash of all that shapes it.

    Raises:
        FewstepError: espeak-ng is not there or refuses a voice.
    """
    file = cache / f"speech-{_content(settings)}.npz"
    if not file.is_file():
        requests = [*settings.training(), *settings.testing()]
        made = [
            heard(request.text, speech, settings.contract)
            for request, speech in zip(requests, speak(requests), strict=True)
        ]
        _store(made, file)
    with np.load(file, allow_pickle=False) as arrays:
        every = _restored(arrays)
    last = len(settings.training())
    return Corpus(tuple(every[:last]), tuple(every[last:]))


def heard(text: str, speech: Speech, contract: MelContract) -> Utterance:
    """Spectrogram and exact durations of a speech; phone boundaries are rounded to frames."""
    mel = log_mel(torch.from_numpy(speech.wave), contract)
    said, starts = spelled(speech)
    edges = torch.round(starts.double() / contract.hop).long().clamp(max=mel.shape[1])
    edges[0] = 0  # what precedes the first phone belongs to it
    frames = torch.cat([edges, torch.tensor([mel.shape[1]])]).diff()
    return Utterance(text, said, frames, mel)


def _content(settings: CorpusSettings) -> str:
    """Hash of the settings, the sentences and the code that speaks."""
    spoken = [asdict(request) for request in (*settings.training(), *settings.testing())]
    told = json.dumps([FORMAT, spoken, asdict(settings.contract)], sort_keys=True).encode()
    return hashlib.blake2b(told + WORKER.read_bytes(), digest_size=8).hexdigest()


def _store(utterances: Sequence[Utterance], file: Path) -> None:
    """Written beside and renamed, so that a half-written file is never read."""
    file.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, np.ndarray] = {"texts": np.array([utterance.text for utterance in utterances])}
    for number, one in enumerate(utterances):
        arrays[f"mel{number}"] = one.mel.numpy()
        arrays[f"phones{number}"] = torch.stack([one.said.phones, one.said.stress, one.frames]).numpy()
    with tempfile.NamedTemporaryFile(dir=file.parent, suffix=".part", delete=False) as part:
        np.savez(part, allow_pickle=False, **arrays)
    Path(part.name).replace(file)


def _restored(arrays: Mapping[str, np.ndarray]) -> list[Utterance]:
    found = []
    for number, text in enumerate(arrays["texts"]):
        phones, stress, frames = torch.from_numpy(arrays[f"phones{number}"])
        mel = torch.from_numpy(arrays[f"mel{number}"])
        found.append(Utterance(str(text), Pronunciation(phones, stress), frames, mel))
    return found


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


class SpeechSource:
    """Random crops of equal length from the training utterances, mels in the space of the process.

    Args:
        utterances: what to crop.
        scale: of the mels.
        size: crops per batch, over all ranks.
        frames: length of a crop.

    Raises:
        ValueError: if an utterance is shorter than a crop, or there is none.
    """

    def __init__(self, utterances: Sequence[Utterance], scale: Scale, size: int, frames: int) -> None:
        """Pad everything once, so that a batch is a few gathers."""
        shortest = min((one.mel.shape[1] for one in utterances), default=0)
        if frames > shortest:
            raise ValueError(
                f"crops of {frames} frames from utterances of {shortest}; make the crops shorter"
            )
        whole = held_out_batch(utterances, scale)
        self.cond, self.durations = whole.cond, whole.extra["frames"]
        self.states = scale.normalized(whole.x["mel"]) * whole.mask
        self.lengths = torch.tensor([one.mel.shape[1] for one in utterances])
        self.size, self.frames = size, frames

    def batch(self, index: int, key: Key) -> Batch:
        """This rank's rows of the ``index``-th batch, drawn with replacement."""
        count, here = self.size // key.shard[1], key.at("speech", index)
        row = here.at("utterance").integers((count,), len(self.lengths))
        slack = self.lengths[row] - self.frames + 1
        begin = (here.at("begin").uniform((count,)) * slack).long()
        window = begin[:, None] + torch.arange(self.frames)
        x = self.states[row[:, None], :, window].transpose(1, 2).contiguous()
        data = {
            "phones": self.cond.data["phones"][row],
            "stress": self.cond.data["stress"][row],
            "at": self.cond.data["at"][row[:, None], window],
            "place": self.cond.data["place"][row[:, None], window],
        }
        mask = torch.ones(count, 1, self.frames, dtype=torch.bool)
        return Batch(x, x, Cond(data, mask), {"frames": self.durations[row]})
