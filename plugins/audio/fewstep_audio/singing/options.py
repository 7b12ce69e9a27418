"""What ``fewstep sample`` may ask of a singer: words, notes or a score, a tempo, and who sings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from pydantic import model_validator

from fewstep.config import Settings, setting
from fewstep.errors import FewstepError, nearest
from fewstep_audio.singing.files import read_song
from fewstep_audio.singing.line import misfit
from fewstep_audio.singing.score import Score, faults, read_notes
from fewstep_audio.speech.phones import check_text, pronounce

WORDS, TEMPO = "The river runs under the bridge.", 100.0


class SingingOptions(Settings):
    """What may be asked; all that is wrong with it is told at once."""

    text: str | None = setting(None, f"words, in English; those of the score, or {WORDS!r}")
    notes: str | None = setting(
        None,
        "notes as 'C4:1 D4:.5 ~E4:.5 R:1': name, octave and beats; ~ goes on with the syllable, R rests; "
        "without notes or a score a tune is made up, another for every --seed",
    )
    score: Path | None = setting(None, "MusicXML or MIDI file, with words or together with --text")
    tempo: float | None = setting(
        None, f"beats per minute; the score's own, or {TEMPO:g}", ge=20, le=300, unit="beats per minute"
    )
    transpose: int = setting(0, "sing higher by so many semitones", ge=-60, le=60, unit="semitones")
    voice: str | None = setting(None, "who sings")

    @model_validator(mode="after")
    def _singable(self) -> Self:
        wrong = [*self._unknown_voice(), *problems(self)]
        if wrong:
            raise ValueError("\n".join(wrong))
        return self

    def _unknown_voice(self) -> list[str]:
        return []


def singing_options(told: Sequence[str]) -> type[SingingOptions]:
    """The options of a run whose networks were told these voices apart; the first sings by default."""

    class Options(SingingOptions):
        """Options of one run."""

        voice: str | None = setting(
            told[0] if told else None,
            f"who sings: {', '.join(told)}" if told else "cannot be chosen: this run hides its voices",
        )

        def _unknown_voice(self) -> list[str]:
            if self.voice in (*told, *(() if told else (None,))):
                return []
            if not told:
                return [
                    f"voice {self.voice!r} cannot be chosen: this run was trained with songs.speakers=hidden, and every "
                    "--seed sings in another; train with -s songs.speakers=told"
                ]
            given = str(self.voice)
            return [f"no voice {given!r}{nearest(given, told)}; this run knows {', '.join(told)}"]

    return Options


def wished(options: SingingOptions) -> tuple[str, Score | None]:
    """Words and score that were asked for; no score if a tune shall be made up.

    Raises:
        ValueError: the text cannot be sung.
        FewstepError: the score's file cannot be read.
    """
    words, score = WORDS, None
    if options.score is not None:
        words, score = read_song(options.score, follows_text=options.text is not None)
    elif options.notes is not None:
        score = Score(tuple(read_notes(options.notes)[0]), TEMPO)
    if score is not None:
        score = Score(score.notes, options.tempo or score.tempo).transposed(options.transpose)
    return check_text(words if options.text is None else options.text), score


def problems(options: SingingOptions) -> list[str]:
    """All that is wrong with words, notes and score together."""
    wrong = []
    if options.notes is not None and options.score is not None:
        wrong.append("give notes or a score, not both")
    if options.notes is not None:
        wrong += read_notes(options.notes)[1]
    try:
        text, score = wished(options)
        if score is not None:
            wrong += faults(score)
            wrong += misfit(pronounce([text])[0], score)
    except FewstepError as error:
        wrong.append(f"{error.what}; {error.todo}")
    except ValueError as error:
        wrong.append(str(error))
    return wrong
