"""What is measured about sampled prosody: against the teacher's sample of the same noise, and as a distribution.

A batch holds groups of rows that share a text and a prompt and differ in their noise (``extra["group"]``). All that text
and prompt alone explain is taken out by centering in every group; what is left is what was sampled.
Samples are {"prosody": (B, P, 3) ln Hz, ln energy, ln(1 + frames); "frames": (B, P); "mel": (B, M, T)}.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fewstep.protocol import Batch, Key, Metric, Score, Tree
from fewstep.runs import bootstrap, bootstrap_statistic

REFERENCE = "teacher"


def prosody_error() -> Metric:
    """How far the sampled prosody is from the teacher's of the same noise, in units of the teacher's own variation."""

    def measure(x: Tree, batch: Batch, key: Key) -> Score:
        aim, real = reference(batch)["prosody"].double(), real_phones(batch)[..., None]
        wide = batch.extra["group"]
        off = ((x["prosody"].double() - aim).square() * real).sum(1)
        own = (centered(aim, wide).square() * real).sum(1)

        def error(rows: Tensor) -> Tensor:
            return (off[rows].sum(-2) / own[rows].sum(-2).clamp(min=1e-12)).mean(-1).sqrt()

        return bootstrap_statistic(error, len(wide), key)

    told = (
        "Root mean square difference of pitch, energy and duration of every phone from the teacher's sample of the same "
        "noise, over the teacher's variation between noises (the truth's if none was drawn): 1 = always its mean."
    )
    return Metric("prosody_error", "lower", measure, "", told)


def pitch_correlation() -> Metric:
    """Whether the same noises are spoken high."""

    def measure(x: Tree, batch: Batch, key: Key) -> Score:
        wide = batch.extra["group"]
        mine, aim = (centered(mean_pitch(part), wide) for part in (x, reference(batch)))

        def correlation(rows: Tensor) -> Tensor:
            scale = mine[rows].square().sum(-1).sqrt() * aim[rows].square().sum(-1).sqrt()
            return (mine[rows] * aim[rows]).sum(-1) / scale.clamp(min=1e-9)

        return bootstrap_statistic(correlation, len(wide), key)

    told = "Correlation of the mean log pitch with that of the teacher's sample of the same noise, texts taken out."
    return Metric("pitch_correlation", "higher", measure, "", told)


def rate_spread() -> Metric:
    """Whether different noises speak at different rates."""

    def measure(x: Tree, batch: Batch, key: Key) -> Score:
        wide = batch.extra["group"]
        mine, aim = (centered(log_rate(part, batch), wide) for part in (x, reference(batch)))

        def gap(rows: Tensor) -> Tensor:
            return (spread(mine[rows]) / spread(aim[rows]).clamp(min=1e-9) - 1).abs()

        return bootstrap_statistic(gap, len(wide), key)

    told = (
        "|ratio - 1| of the standard deviation of the log rate over noises to that of the teacher's samples."
    )
    return Metric("rate_spread_gap", "lower", measure, "", told)


def prompt_distance() -> Metric:
    """Whether the voice is that of the prompt."""

    def measure(x: Tree, batch: Batch, key: Key) -> Score:
        gaps = prompt_gaps(x, batch)
        own = gaps.gather(1, batch.extra["group"][:, None])[:, 0]
        others = (gaps.sum(1) - own) / max(1, gaps.shape[1] - 1)
        return bootstrap(own / others.clamp(min=1e-9) if gaps.shape[1] > 1 else torch.ones_like(own), key)

    told = (
        "Distance of a sample's spectrum over time to that of its prompt, over its mean distance to the other prompts of "
        "the batch, which all say one other sentence; 1 is chance."
    )
    return Metric("prompt_distance", "lower", measure, "", told)


def nearest_prompt(x: Tree, batch: Batch) -> Tensor:
    """(B,) number of the prompt that sounds nearest."""
    return prompt_gaps(x, batch).argmin(1)


def prompt_gaps(x: Tree, batch: Batch) -> Tensor:
    """(B, G) distances of timbre to the prompts."""
    cut = zip(x["mel"], x["frames"].sum(1).tolist(), strict=True)
    mine = torch.stack([timbre(mel[:, :long]) for mel, long in cut])
    return torch.cdist(mine, torch.stack([timbre(mel) for mel in batch.extra["prompts"]]))


def timbre(mel: Tensor) -> Tensor:
    """(M, T) log-mel -> (2 M,) mean and deviation of every band over the louder half of the frames, level taken out."""
    loud = mel.mean(0)
    mel = mel[:, loud >= loud.median()].double()
    return torch.cat([mel.mean(1) - mel.mean(), mel.std(1)])


def reference(batch: Batch) -> Tree:
    """What the teacher drew, or the truth."""
    return batch.extra.get("drawn", {}).get(REFERENCE, batch.x)


def real_phones(batch: Batch) -> Tensor:
    """(B, P) bool."""
    return batch.cond.data["phones"] > 0


def mean_pitch(x: Tree) -> Tensor:
    """(B,) ln Hz over time."""
    frames = x["frames"].double()
    return (x["prosody"][..., 0].double() * frames).sum(1) / frames.sum(1).clamp(min=1)


def log_rate(x: Tree, batch: Batch) -> Tensor:
    """(B,) logarithm of the phones per frame, as the prosody says, not rounded to frames."""
    real = real_phones(batch)
    frames = torch.expm1(x["prosody"][..., 2].double()).clamp(min=0) * real
    return (real.sum(1) / frames.sum(1).clamp(min=1e-3)).log()


def spread(values: Tensor) -> Tensor:
    """(..., N) centered values -> (...) their root mean square."""
    return values.square().mean(-1).sqrt()


def centered(values: Tensor, group: Tensor) -> Tensor:
    """(B, ...) minus the mean of the rows of the same group."""
    return values - group_mean(values, group)[group]


def group_mean(values: Tensor, group: Tensor) -> Tensor:
    """(G, ...) means; groups are numbered from 0."""
    count = int(group.max()) + 1
    total = torch.zeros(count, *values.shape[1:], dtype=values.dtype).index_add(0, group, values)
    rows = torch.bincount(group, minlength=count).clamp(min=1)
    return total / rows.reshape(-1, *(1,) * (values.ndim - 1))
