"""What a user asks for in words, as controls: every problem is told at once, before anything is computed."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from fewstep.errors import FewstepError
from fewstep.plugins import resolve
from fewstep_audio.ditto2.controls import Adherence, Control, Intensity, Known, Melody, Structure, ramp
from fewstep_audio.ditto2.embeddings import Clap
from fewstep_audio.music.corpus import MUSIC
from fewstep_audio.music.notes import Tune, melody, pitch_class, roll
from fewstep_audio.music.scores import MIDI, XML, read_score, spoken_notes
from fewstep_audio.sound.mel import Scale, log_mel
from fewstep_audio.sound.recordings import read_recording

T = TypeVar("T")
LONGEST = 600.0
OVERLAP = 2.0
"""Seconds of a song that a continuation must agree with."""
EDGE = 2
"""Frames at a cut whose windows reach across it."""
FADE = 0.04
"""Seconds over which a song and what was made for it are mixed."""
SECONDS = 6.0
TIMBRE = "fewstep_audio.ditto2.embeddings:timbre"


@dataclass(frozen=True)
class Request:
    """Words of the command line; empty = not asked.

    Args:
        inpaint: song, and "2.0-4.0": the seconds that are made anew.
        outpaint: song, and how many seconds are added.
        loop: song that gets an end which leads back to its beginning.
        intensity: "0:-30 3:-10": seconds and dB of full scale.
        melody: a MIDI or MusicXML file, or "C4:1 D4:0.5".
        structure: "ABA".
        like: a sound whose embedding is approached.
        embed: "module:attribute" of that embedding, differentiable, (B, M, T) log-mel to (B, E).
        text: words whose embedding is approached instead.
        clap: folder of the CLAP model that understands them.
        weights: "intensity=2 melody=0.5"; 1 where nothing is said.
        seconds: length of the music, or of a loop's bridge; 0 = as long as the controls ask.
    """

    inpaint: tuple[str, str] | None = None
    outpaint: tuple[str, str] | None = None
    loop: str = ""
    intensity: str = ""
    melody: str = ""
    structure: str = ""
    like: str = ""
    embed: str = TIMBRE
    text: str = ""
    clap: str = ""
    weights: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Canvas:
    """How long the music is, what of it is given, and what becomes of the sound that was made.

    Args:
        frames: T.
        given: the control that holds it to a song, if there is one.
        finish: from the (N,) sound that was made to what is written.
    """

    frames: int
    given: Control | None = None
    finish: Callable[[Tensor], Tensor] = field(default=lambda sound: sound)


@dataclass(frozen=True)
class Job:
    """A request that can be served."""

    frames: int
    controls: tuple[tuple[float, Control], ...]
    finish: Callable[[Tensor], Tensor]


class Problems:
    """Collects what is wrong, so that it is told at once."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def attempt(self, option: str, make: Callable[[], T]) -> T | None:
        """What ``make`` gives, or None with a line about why not."""
        try:
            return make()
        except (FewstepError, ValueError) as error:
            told = error.what if isinstance(error, FewstepError) else str(error)
            self.lines.append(f"--{option}: {told}")
            return None

    def tell(self) -> None:
        """Raise all of it.

        Raises:
            FewstepError: if there is anything.
        """
        if self.lines:
            raise FewstepError("\n".join(self.lines), "options that make sense together", "see --help")


def understood(request: Request, scale: Scale, wrong: Sequence[str] = ()) -> Job:
    """The controls of a request.

    Args:
        request: what was asked.
        scale: of the model's mels.
        wrong: what is already known to be, and is told with the rest.

    Raises:
        FewstepError: all that is wrong with it.
    """
    problems = Problems()
    problems.lines.extend(wrong)
    tune = problems.attempt("melody", lambda: _tune(request.melody)) if request.melody else None
    points = problems.attempt("intensity", lambda: _points(request.intensity)) if request.intensity else None
    sections = (
        problems.attempt("structure", lambda: _sections(request.structure)) if request.structure else None
    )
    adherence = _adherence(request, problems)
    weights = problems.attempt("weight", lambda: _weights(request.weights))
    canvas = _canvas(request, scale, tune, problems)
    asked = (request.inpaint, request.outpaint, request.loop, request.intensity, request.melody)
    if not any((*asked, request.structure, request.like, request.text)):
        problems.lines.append(
            "nothing is asked: give --inpaint, --outpaint, --loop, --intensity, --melody, ..."
        )
    problems.tell()
    assert canvas is not None
    assert weights is not None
    found = [
        canvas.given,
        None if points is None else Intensity(ramp(points, canvas.frames, MUSIC), MUSIC),
        None if tune is None else Melody(_classes(tune, canvas.frames), MUSIC),
        None if sections is None else Structure(sections, scale.mean, scale.std),
        adherence,
    ]
    controls = tuple((weights.get(one.name, 1.0), one) for one in found if one is not None)
    return Job(canvas.frames, controls, canvas.finish)


def _canvas(request: Request, scale: Scale, tune: Tune | None, problems: Problems) -> Canvas | None:
    """Length and given part: of a song, else as long as was asked, else as the melody."""
    songs = {
        "inpaint": (request.inpaint, lambda: _inpaint(request.inpaint, scale)),
        "outpaint": (request.outpaint, lambda: _outpaint(request.outpaint, scale)),
        "loop": (request.loop, lambda: _loop(request.loop, request.seconds or 3.0, scale)),
    }
    asked = [name for name, (given, _) in songs.items() if given]
    if len(asked) > 1:
        problems.lines.append(f"{' and '.join('--' + name for name in asked)} cannot be asked at once")
        return None
    if not 0 <= request.seconds <= LONGEST:
        problems.lines.append(f"--seconds: must lie between 0 and {LONGEST:g}, got {request.seconds:g}")
        return None
    if asked:
        return problems.attempt(asked[0], songs[asked[0]][1])
    seconds = request.seconds or (tune.seconds if tune is not None else SECONDS)
    return Canvas(MUSIC.frames(round(max(1.0, seconds) * MUSIC.rate)))


def _inpaint(asked: tuple[str, str] | None, scale: Scale) -> Canvas:
    """The whole song; what lies between the two times is made anew."""
    file, span = asked or ("", "")
    found = re.fullmatch(r"([\d.]+)-([\d.]+)", span)
    if found is None:
        raise ValueError(f"{span!r} is no span of seconds such as 2.0-4.0")
    song = _song(file)
    begin, end = (round(_float(part) * MUSIC.rate) for part in found.groups())
    if not 0 <= begin < end <= len(song):
        raise ValueError(f"{span} is no span inside the song, which lasts {len(song) / MUSIC.rate:.2f} s")
    mel = log_mel(song, MUSIC)
    frame = torch.arange(mel.shape[1])
    known = (frame < begin // MUSIC.hop - EDGE) | (frame > end // MUSIC.hop + EDGE)
    if int(known.sum()) < 8:
        raise ValueError(f"{span} leaves nothing of the song to go on from")

    def finish(sound: Tensor) -> Tensor:
        return mixed(song, _fitted(sound, len(song)), begin, end)

    return Canvas(mel.shape[1], Known(mel, known, scale.std), finish)


def _outpaint(asked: tuple[str, str] | None, scale: Scale) -> Canvas:
    """The song's last two seconds, and what comes after them."""
    file, more = asked or ("", "")
    seconds = _float(more)
    if not 0.2 <= seconds <= LONGEST:
        raise ValueError(f"the seconds that are added must lie between 0.2 and {LONGEST:g}, got {more}")
    song = _song(file)
    mel = log_mel(song, MUSIC)
    last = len(song) // MUSIC.hop
    kept = min(last, round(OVERLAP * MUSIC.rate / MUSIC.hop))
    begin, frames = (last - kept) * MUSIC.hop, kept + round(seconds * MUSIC.rate / MUSIC.hop)
    reference = torch.zeros(MUSIC.bands, frames)
    reference[:, :kept] = mel[:, last - kept : last]

    def finish(sound: Tensor) -> Tensor:
        whole = torch.cat([song, torch.zeros(begin + len(sound) - len(song))])
        made = torch.cat([torch.zeros(begin), sound])
        return mixed(whole, made, len(song), len(whole))

    known = torch.arange(frames) < kept - EDGE
    return Canvas(frames, Known(reference, known, scale.std, "outpaint"), finish)


def _loop(file: str, seconds: float, scale: Scale) -> Canvas:
    """The song's end, a bridge, and the song's beginning."""
    song = _song(file)
    mel = log_mel(song, MUSIC)
    last = len(song) // MUSIC.hop
    kept, bridge = (
        min(last // 2, round(OVERLAP * MUSIC.rate / MUSIC.hop)),
        round(seconds * MUSIC.rate / MUSIC.hop),
    )
    frames = kept + bridge + kept
    reference = torch.zeros(MUSIC.bands, frames)
    reference[:, :kept], reference[:, -kept:] = mel[:, last - kept : last], mel[:, :kept]
    frame = torch.arange(frames)
    known = (frame < kept - EDGE) | (frame > kept + bridge + EDGE)

    def finish(sound: Tensor) -> Tensor:
        begin = (last - kept) * MUSIC.hop
        end = begin + (kept + bridge) * MUSIC.hop
        whole = torch.cat([song, torch.zeros(max(0, end - len(song)))])[:end]
        return mixed(whole, _fitted(torch.cat([torch.zeros(begin), sound]), end), len(song), end)

    return Canvas(frames, Known(reference, known, scale.std, "loop"), finish)


def mixed(song: Tensor, made: Tensor, begin: int, end: int) -> Tensor:
    """(N,) the song, and between the two samples what was made, faded into each other at both ends."""
    fade = round(FADE * MUSIC.rate)
    sample = torch.arange(len(song))
    rising = ((sample - begin) / fade + 1).clamp(0, 1)
    falling = ((end - sample) / fade + 1).clamp(0, 1)
    share = 0.5 - 0.5 * torch.cos(torch.pi * torch.minimum(rising, falling))
    return (1 - share) * song + share * made


def _fitted(sound: Tensor, length: int) -> Tensor:
    return torch.nn.functional.pad(sound[:length], (0, max(0, length - len(sound))))


def _song(file: str) -> Tensor:
    song = read_recording(Path(file), MUSIC, LONGEST)
    if len(song) < MUSIC.rate:
        raise ValueError(f"{file} lasts {len(song) / MUSIC.rate:.2f} s; a song has at least a second")
    return song


def _tune(text: str) -> Tune:
    written = Path(text).suffix.lower() in (*MIDI, *XML)
    return read_score(Path(text)) if written else spoken_notes(text)


def _classes(tune: Tune, frames: int) -> Tensor:
    """(T,) pitch class of the highest note of each frame."""
    return torch.from_numpy(pitch_class(melody(roll(tune, frames, MUSIC.rate / MUSIC.hop))))


def _points(text: str) -> list[tuple[float, float]]:
    """Seconds and dB of "0:-30 3:-10"."""
    bad, points = [], []
    for word in text.split():
        at, colon, level = word.partition(":")
        try:
            points.append((float(at), float(level)))
        except ValueError:
            bad.append(word)
            continue
        if not colon or not -60 <= float(level) <= 0 or float(at) < 0:
            bad.append(word)
    if bad or not points:
        raise ValueError(
            f"{' '.join(bad) or 'nothing'} is not seconds:dB with dB between -60 and 0, as in 0:-30 3:-10"
        )
    return points


def _sections(text: str) -> str:
    if not re.fullmatch(r"[A-Z]{2,12}", text):
        raise ValueError(f"{text!r} is not two to twelve capital letters such as ABA")
    return text


def _weights(text: str) -> dict[str, float]:
    found = {}
    names = ("inpaint", "outpaint", "loop", "intensity", "melody", "structure", "adherence")
    for word in text.split():
        name, _, value = word.partition("=")
        if name not in names:
            raise ValueError(f"{name!r} is none of {', '.join(names)}")
        found[name] = _float(value)
    return found


def _adherence(request: Request, problems: Problems) -> Control | None:
    """Closeness to a sound or to a text."""
    if request.like and request.text:
        problems.lines.append("--like and --text cannot be asked at once")
    elif request.text:
        return problems.attempt("text", lambda: _words(request))
    elif request.like:
        return problems.attempt("like", lambda: _alike(request))
    return None


def _words(request: Request) -> Control:
    if not request.clap:
        raise ValueError("a text needs --clap, the folder of a CLAP model")
    clap = Clap(request.clap)
    return Adherence(clap, clap.text(request.text))


def _alike(request: Request) -> Control:
    try:
        embed = resolve(request.embed)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{request.embed} cannot be imported: {error}") from error
    with torch.no_grad():
        target = embed(log_mel(_song(request.like), MUSIC)[None])[0]
    return Adherence(embed, target)


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} is no number") from None
