"""Metrics of sounds as a run measures them: spectrograms through the vocoder, compared with the truth through the same.

Every sound is made once, whoever asks for it. Shape legend: B batch, M mel bands, T frames, N samples.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from html import escape
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from fewstep.protocol import Batch, Drawn, Key, Metric, Panel, Score, Tree
from fewstep.runs import bootstrap, bootstrap_statistic
from fewstep_audio.metrics import cepstrum, frechet, pitch, quality, speakers, words
from fewstep_audio.metrics.choice import Kind
from fewstep_audio.sound.files import cut
from fewstep_audio.sound.mel import log_mel
from fewstep_audio.sound.vocoder import Vocoder
from fewstep_audio.speech.sentences import SENTENCES

FEW = 8
"""Sounds that the slow ones listen to: opinions and melodies."""

RESAMPLES = 50
"""Of Frechet distances, each of which takes eigenvalues of a matrix of 256 rows."""

_log = logging.getLogger(__name__)


@dataclass
class Ears:
    """Sounds of spectrograms, and what was heard in them, kept while their tensor lives.

    Args:
        vocoder: of all that is compared.
    """

    vocoder: Vocoder
    _heard: Any = field(default_factory=WeakTensorKeyDictionary, repr=False)

    @property
    def rate(self) -> int:
        """Samples per second."""
        return self.vocoder.contract.rate

    def waves(self, x: Tree, batch: Batch) -> list[Tensor]:
        """(N,) of each sample."""
        return self.once(x["mel"], "waves", lambda: [self.vocoder(mel) for mel in cut(x, batch.mask)])

    def once(self, mel: Tensor, name: str, make: Callable[[], Any]) -> Any:
        """What ``make`` gives for this tensor, made the first time."""
        kept = self._heard.setdefault(mel, {})
        if name not in kept:
            kept[name] = make()
        return kept[name]


def listening(kinds: Sequence[Kind], vocoder: Vocoder) -> tuple[Metric, ...]:
    """Metrics of the given kinds, in their order; packages are imported when the first is measured."""
    return _metrics(kinds, Ears(vocoder))


def sounds(
    waves: Sequence[Tensor],
    texts: Sequence[str],
    reference: Sequence[Tensor] | None,
    kinds: Sequence[Kind],
    vocoder: Vocoder,
) -> tuple[Tree, Batch, tuple[Metric, ...]]:
    """Sounds that no network made, as metrics see samples: what goes into their ``fn``, and the metrics.

    Args:
        waves: (N,) each, at the rate of the vocoder's contract.
        texts: what they say.
        reference: what they are held against; without it only words and quality can be measured.
        kinds: what is listened for.
        vocoder: gives the contract.
    """
    ears = Ears(vocoder)
    mine, true = (
        torch.zeros(len(waves)),
        torch.zeros(len(waves)),
    )  # only names, under which the sounds are found
    ears.once(mine, "waves", lambda: list(waves))
    ears.once(true, "waves", lambda: list(waves if reference is None else reference))
    alone = [kind for kind in kinds if reference is not None or kind in ("words", "quality")]
    batch = Batch(torch.zeros(len(waves), 1), {"mel": true}, extra={"texts": tuple(texts)})
    return {"mel": mine}, batch, _metrics(alone, ears)


def _metrics(kinds: Sequence[Kind], ears: Ears) -> tuple[Metric, ...]:
    return tuple(metric for kind in dict.fromkeys(kinds) for metric in _MADE[kind](ears))


def truth_panel(metrics: Sequence[Metric], title: str = "What the truth itself scores") -> Panel:
    """A section with the resynthesized truth's own numbers, which no student can be expected to beat."""

    def show(drawn: Mapping[str, Drawn]) -> str:
        batch = next(iter(drawn.values())).batch
        cells = ((metric, metric.fn(batch.x, batch, Key(0).at(metric.name))) for metric in metrics)
        rows = "".join(
            f"<tr><td>{escape(metric.name)}</td><td>{score.value:.3g} {escape(metric.unit)}</td>"
            f"<td>{score.low:.3g} to {score.high:.3g}</td><td>{score.n}</td></tr>"
            for metric, score in cells
        )
        return f"<table><tr><th>metric</th><th>truth</th><th>95 %</th><th>samples</th></tr>{rows}</table>"

    return Panel(title, show)


def _words(ears: Ears) -> tuple[Metric, ...]:
    def measure(x: Tree, batch: Batch, key: Key) -> Score:
        texts = tuple(batch.extra["texts"])
        hears, known = recognizer(texts)
        rows = [row for row, text in enumerate(texts) if text in known]
        if not rows:
            return _nothing()
        waves = ears.waves(x, batch)
        errors = words.word_errors([texts[i] for i in rows], [hears(waves[i], ears.rate) for i in rows])
        return _ratio(errors, key)

    told = (
        "Word error rate of a recognizer (pocketsphinx) whose grammar is the word pairs of the package's sentences and of "
        "these; sentences with words outside its dictionary are left out."
    )
    return (Metric("wer", "lower", measure, "", told),)


def _nothing() -> Score:
    nan = float("nan")
    return Score(nan, nan, nan, 0)


def _ratio(pairs: Tensor, key: Key) -> Score:
    """Sum of the first column over sum of the second, with its interval over rows."""
    return bootstrap_statistic(
        lambda rows: pairs[rows, 0].sum(-1) / pairs[rows, 1].sum(-1).clamp(min=1), len(pairs), key
    )


@lru_cache(maxsize=4)
def recognizer(texts: tuple[str, ...]) -> tuple[words.Recognizer, frozenset[str]]:
    """A recognizer of these texts among the package's sentences, and which of them it can spell."""
    unknown = words.unspelled(texts)
    lost = [text for text in texts if any(word in unknown for word in words.words_of(text))]
    if lost:
        _log.warning(
            "word error rate leaves out %d of %d sentences: the dictionary lacks %s",
            *(len(lost), len(texts), ", ".join(sorted(unknown))),
        )
    known = [text for text in texts if text not in lost and words.words_of(text)]
    return words.Recognizer([*SENTENCES, *known]), frozenset(known)


def _speaker(ears: Ears) -> tuple[Metric, ...]:
    def heard(x: Tree, batch: Batch) -> Tensor:
        waves = ears.waves(x, batch)
        return ears.once(x["mel"], "voices", lambda: speakers.voices(waves, ears.rate))

    def same(x: Tree, batch: Batch, key: Key) -> Score:
        return bootstrap(speakers.similarity(heard(x, batch), heard(batch.x, batch)), key)

    def nearest(x: Tree, batch: Batch, key: Key) -> Score:
        return bootstrap((heard(x, batch) @ heard(batch.x, batch).T).amax(1), key)

    return (
        Metric(
            "speaker",
            "higher",
            same,
            "",
            "Cosine of the voice to the truth's of the same sentence (Resemblyzer). Where voices are hidden from the "
            "networks, a sample may rightly be another speaker.",
        ),
        Metric(
            "nearest_voice",
            "higher",
            nearest,
            "",
            "Highest cosine of the voice to any of the truth's. A mean over voices resembles one of them too, "
            "so it is no gate.",
        ),
    )


def _quality(ears: Ears) -> tuple[Metric, ...]:
    def measure(x: Tree, batch: Batch, key: Key) -> Score:
        waves = ears.waves(x, batch)[:FEW]
        return bootstrap(torch.tensor([quality.opinion(wave, ears.rate).overall for wave in waves]), key)

    told = f"DNSMOS, predicted opinion of listeners, 1 to 5, of the first {FEW} sentences."
    return (Metric("dnsmos", "higher", measure, "", told),)


def _melody(ears: Ears) -> tuple[Metric, ...]:
    def heard(x: Tree, batch: Batch) -> list[tuple[Tensor, Tensor]]:
        contract, waves = ears.vocoder.contract, ears.waves(x, batch)[:FEW]
        return ears.once(
            x["mel"],
            "melodies",
            lambda: [
                (pitch.melody(wave, contract), cepstrum.cepstra(log_mel(wave, contract))) for wave in waves
            ],
        )

    def errors(x: Tree, batch: Batch) -> list[pitch.PitchError]:
        found = []
        for (mine, sound), (true, other) in zip(heard(x, batch), heard(batch.x, batch), strict=True):
            here, there = cepstrum.path(sound, other)
            found.append(pitch.along(mine[here], true[there]))
        return found

    def cents(x: Tree, batch: Batch, key: Key) -> Score:
        both = [one.cents for one in errors(x, batch) if one.cents == one.cents]
        return bootstrap(torch.tensor(both), key) if both else _nothing()

    def voicing(x: Tree, batch: Batch, key: Key) -> Score:
        return bootstrap(torch.tensor([one.voicing for one in errors(x, batch)]), key)

    along = f"along the best alignment, first {FEW} sentences (WORLD)"
    return (
        Metric(
            "pitch_error",
            "lower",
            cents,
            "cents",
            f"Root mean square difference from the truth's pitch {along}.",
        ),
        Metric(
            "voicing_error",
            "lower",
            voicing,
            "",
            f"Share of frames voiced in one and not in the other {along}.",
        ),
    )


def _cepstrum(ears: Ears) -> tuple[Metric, ...]:
    def measure(x: Tree, batch: Batch, key: Key) -> Score:
        pairs = zip(ears.waves(x, batch), ears.waves(batch.x, batch), strict=True)
        contract = ears.vocoder.contract
        return bootstrap(
            torch.tensor([cepstrum.mcd_mel(log_mel(a, contract), log_mel(b, contract)) for a, b in pairs]),
            key,
        )

    told = (
        "Mel-cepstral distortion (13 coefficients of the mel spectrogram) to the truth along the best alignment. The "
        "blurred mean over hidden voices minimizes it: read it beside the control, never as a gate."
    )
    return (Metric("mcd_mel", "lower", measure, "dB", told),)


def _frechet(ears: Ears) -> tuple[Metric, ...]:
    return tuple(
        _distance(embedding, ears)
        for embedding in (frechet.by_voice(), frechet.by_mel(ears.vocoder.contract))
    )


def _distance(embedding: frechet.Embedding, ears: Ears) -> Metric:
    def seen(x: Tree, batch: Batch) -> list[Tensor]:
        waves = ears.waves(x, batch)
        return ears.once(x["mel"], embedding.name, lambda: embedding.windows(waves, ears.rate))

    def measure(x: Tree, batch: Batch, key: Key) -> Score:
        mine, true = seen(x, batch), frechet.gaussian(torch.cat(seen(batch.x, batch)))

        def statistic(rows: Tensor) -> Tensor:
            many = rows if rows.ndim == 2 else rows[None]
            return torch.tensor(
                [
                    float(frechet.frechet(*frechet.gaussian(torch.cat([mine[i] for i in row])), *true))
                    for row in many.tolist()
                ]
            )

        return bootstrap_statistic(
            lambda rows: statistic(rows).squeeze(0), len(mine), key, resamples=RESAMPLES
        )

    told = f"{embedding.told}, to the truth of the same sentences. Below some 200 windows it is mostly noise."
    return Metric(embedding.name, "lower", measure, "", told)


_MADE: dict[Kind, Callable[[Ears], tuple[Metric, ...]]] = {
    "words": _words,
    "speaker": _speaker,
    "quality": _quality,
    "melody": _melody,
    "cepstrum": _cepstrum,
    "frechet": _frechet,
}
