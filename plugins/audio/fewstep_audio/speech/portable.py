"""A speaker that needs no fewstep: two graphs, their tables as JSON, and a program of numpy that uses them.

Shape legend: B batch, P phones, M mel bands, T frames.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fewstep.protocol import Batch, Cond, Graph, Key, Portable, Roles, Sampler, Step
from fewstep.runs.tracing import Noted, Told
from fewstep_audio.sound.mel import MelContract
from fewstep_audio.speech.phones import ALPHABET, NUMBER, PAUSE, pronounce

TEXTS = (("The student says this.", "Any length."), ("One.", "Another text, and longer.", "Two."))
"""Examples: of two and of three texts, so that every length differs between them."""

SHOWN = ("Good morning.", "The student says this in one step.", "A graph needs nobody to speak.")
"""Texts whose phones go into the tables, for who has no espeak-ng."""

PACE = 1.25

ABOUT = {
    "phones": "(B, P) numbers of the alphabet, 0 = padding",
    "stress": "(B, P) 0 none, 1 secondary, 2 primary",
    "pace": "(B,) 2 speaks twice as fast",
    "frames": "(B, P) frames of each phone, 0 = padding",
    "voice": "(B,) which of the voices that it was told",
    "mel": "(B, M, T) natural log-mel; what follows a row's last frame means nothing",
}


def speaker(
    sampler: Sampler, request: Callable[[Any, int, Key], Batch], options: type, contract: MelContract
) -> Callable[[Roles, Key], Portable]:
    """``Product.portable`` of a recipe that speaks.

    Args:
        sampler: the student, from phones to log-mel (:func:`fewstep_audio.speech.product.spoken`).
        request: of the product.
        options: of the product; the graphs are told its defaults.
        contract: of the spectrograms.
    """

    def made(shelf: Roles, key: Key) -> Portable:
        roles = {name: shelf[name] for name in sampler.roles}
        shown = [_batch(request, options, texts, key) for texts in TEXTS]
        names, spoken = list(shown[0].cond.data), []
        for batch in shown:
            noted = Noted(key.seed, key.at("export").path)
            with torch.no_grad():
                frames = roles["durations"].frames(batch.cond, batch.extra["pace"])
                *_, last = sampler.fn(roles, batch, Step.inference(noted))
            spoken.append((batch.cond.data, frames, noted.drawn, last.x["mel"]))
        noises = {f"noise{i or ''}": f"(B, M, T) {law}" for i, (law, _) in enumerate(spoken[0][2])}
        durations = Graph(
            "durations",
            Timing(roles["durations"], names),
            _about(*names, "pace"),
            _about("frames"),
            [((*data.values(), torch.full((len(frames),), PACE)), (frames,)) for data, frames, *_ in spoken],
        )
        speech = Graph(
            "speech",
            Speaking(sampler, roles, names, len(noises)).eval(),
            noises | _about(*names, "frames"),
            _about("mel"),
            [
                ((*(x for _, x in drawn), *data.values(), frames), (mel,))
                for data, frames, drawn, mel in spoken
            ],
        )
        return Portable((durations, speech), _files(contract))

    return made


class Timing(nn.Module):
    """Phones, and the voice if it is told, to frames.

    Args:
        durations: of the shelf.
        names: of the conditions, in order.
    """

    def __init__(self, durations: Any, names: Sequence[str]) -> None:
        """Hold the predictor."""
        super().__init__()
        self.durations, self.names = durations, names

    def forward(self, *given: Tensor) -> Tensor:
        """Conditions, (B,) pace -> (B, P) int64."""
        *conditions, pace = given
        return self.durations.frames(Cond(dict(zip(self.names, conditions, strict=True))), pace[:, None])


class Speaking(nn.Module):
    """Noise, phones and their frames to log-mel: a contender with the length regulator before it.

    Args:
        sampler: from laid out phones to log-mel.
        roles: what it needs.
        names: of the conditions, in order.
        noises: how many noises come first.
    """

    def __init__(self, sampler: Sampler, roles: Roles, names: Sequence[str], noises: int) -> None:
        """Networks are registered."""
        super().__init__()
        self.sampler, self.roles, self.names, self.noises = sampler, roles, names, noises
        self.networks = nn.ModuleList(role for role in roles.values() if isinstance(role, nn.Module))

    def forward(self, *given: Tensor) -> Tensor:
        """Noises (B, M, T), conditions, frames (B, P) -> (B, M, T)."""
        noise, conditions, frames = given[: self.noises], given[self.noises : -1], given[-1]
        layout = laid(frames, noise[0].shape[-1])
        real = layout.pop("real")
        data = dict(zip(self.names, conditions, strict=True)) | layout
        batch = Batch(torch.zeros_like(noise[0]), cond=Cond(data, real))
        *_, last = self.sampler.fn(self.roles, batch, Step.inference(Told(0, given=iter(noise))))
        mel: Tensor = last.x["mel"]
        return mel


def laid(frames: Tensor, length: int) -> dict[str, Tensor]:
    """:func:`fewstep_audio.speech.layout.aligned` in operations that every runtime knows, for short texts."""
    ends = frames.cumsum(1)
    now = torch.arange(length, device=frames.device)
    at = (now[None, :, None] >= ends[:, None]).sum(-1).clamp(max=frames.shape[1] - 1)
    long = frames.gather(1, at).clamp(min=1)
    passed = now - (ends.gather(1, at) - long) + 0.5
    place = torch.stack([passed / long, long.float().log()], -1).float()
    return {"at": at, "place": place, "real": (now[None] < ends[:, -1:])[:, None]}


def _batch(request: Callable[[Any, int, Key], Batch], options: Any, texts: Sequence[str], key: Key) -> Batch:
    """What the product would be asked for each text alone, as one padded batch."""
    alone = [request(options(text=text, pace=PACE), 1, key) for text in texts]
    longest = max(one.cond.data["phones"].shape[1] for one in alone)

    def joined(name: str) -> Tensor:
        rows = [one.cond.data[name] for one in alone]
        per_phone = rows[0].shape[1:] == alone[0].cond.data["phones"].shape[1:]
        return torch.cat(
            [nn.functional.pad(row, (0, longest - row.shape[1])) if per_phone else row for row in rows]
        )

    like = alone[0].like[:1].expand(len(texts), *alone[0].like.shape[1:])
    return replace(
        alone[0],
        like=like,
        cond=Cond({name: joined(name) for name in alone[0].cond.data}),
        extra={**alone[0].extra, "texts": tuple(texts)},
    )


def _about(*names: str) -> Mapping[str, str]:
    return {name: ABOUT.get(name, "condition") for name in names}


def _files(contract: MelContract) -> Mapping[str, str]:
    tables = {
        "alphabet": {phone: NUMBER[phone] for phone in ALPHABET if phone != PAUSE},
        "pause": NUMBER[PAUSE],
        "stress": {"ˌ": 1, "ˈ": 2},
        "mel": asdict(contract),
        "examples": {
            text: {"phones": said.phones.tolist(), "stress": said.stress.tolist()}
            for text, said in zip(SHOWN, pronounce(SHOWN), strict=True)
        },
    }
    program = Path(__file__).with_name("speak.txt").read_text("utf-8")
    return {"speech.json": json.dumps(tables, ensure_ascii=False, indent=1) + "\n", "speak.py": program}
