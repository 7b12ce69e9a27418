"""Who can say something: espeak-ng, whose phone times are exact, and flite, onto whose audio they are carried."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fewstep_audio.sound.mel import MelContract, log_mel
from fewstep_audio.speech.alignment import REFERENCES, carried
from fewstep_audio.speech.espeak import Request, speak
from fewstep_audio.speech.flite import check_flite, flite, is_flite
from fewstep_audio.speech.utterance import Utterance, heard


def uttered(requests: Sequence[Request], contract: MelContract) -> list[Utterance]:
    """Everything that is asked for, in its order.

    Raises:
        FewstepError: a program is not there, or refuses a voice or a text.
    """
    check_flite([request.voice for request in requests])
    asked = [request for request in requests if not is_flite(request.voice)]
    spoken = iter([heard(r, said, contract) for r, said in zip(asked, speak(asked), strict=True)])
    units = [request for request in requests if is_flite(request.voice)]
    told = iter(references([request.text for request in units], contract))
    return [
        aligned_speech(
            request,
            flite(request.text, request.voice, contract, NATURAL / request.rate),
            next(told),
            contract,
        )
        if is_flite(request.voice)
        else next(spoken)
        for request in requests
    ]


NATURAL = 175
"""Words per minute that flite is taken to speak at."""


def references(texts: Sequence[str], contract: MelContract) -> list[list[Utterance]]:
    """Each text in the voices that alignment compares with."""
    requests = [Request(text, voice) for text in texts for voice in REFERENCES]
    said = [heard(r, one, contract) for r, one in zip(requests, speak(requests), strict=True)]
    return [said[i : i + len(REFERENCES)] for i in range(0, len(said), len(REFERENCES))]


def aligned_speech(
    request: Request, wave: Tensor, told: Sequence[Utterance], contract: MelContract
) -> Utterance:
    """An utterance of samples (N,) whose phones are carried over from references of the same text.

    Raises:
        ValueError: the samples do not say the text.
    """
    mel = log_mel(wave, contract)
    samples = torch.from_numpy(np.round(wave.numpy() * 32767).astype(np.int16))
    return Utterance(request.text, told[0].said, carried(told, mel), mel, samples, request.voice)
