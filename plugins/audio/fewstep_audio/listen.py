"""``fewstep audio listen``: everything that can be heard in a finished run's speech, or in a folder of recordings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from fewstep.protocol import Score
    from fewstep.runs.handle import Run
    from fewstep_audio.metrics.choice import Kind

TRUTH = "truth, resynthesized"

LONGEST = 60.0
"""Seconds of a recording that is listened to."""


def listen(
    what: Annotated[
        str, typer.Argument(help="A run folder, a recipe for its newest run, or a folder of sounds.")
    ],
    only: Annotated[
        str, typer.Option(help="words,speaker,quality,melody,cepstrum,frechet; all by default.")
    ] = "",
    reference: Annotated[
        str,
        typer.Option(
            help="For a folder of sounds: the folder with the same names that they are held against."
        ),
    ] = "",
    runs: Annotated[Path, typer.Option(help="Where runs are kept.")] = Path("runs"),
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Measure words, voices, quality, melody and distances, with 95 % intervals; say what is missing to hear more.

    A folder of sounds holds metadata.csv and wavs/ as in LJSpeech, or name.wav beside name.txt.

    Example: fewstep audio listen audio/comospeech --only words,speaker
    """
    from fewstep.commands._output import show_json, show_lines, show_table

    kinds = chosen(only)
    lacking, heard = split(kinds, strict=bool(only))
    table = _measured(what, reference, heard, runs, device, _tell)
    if as_json:
        rows = {
            name: {metric: asdict(score) for metric, score in scores.items()}
            for name, scores in table.items()
        }
        show_json({"rows": rows, "missing": lacking})
        return
    names = list(dict.fromkeys(metric for scores in table.values() for metric in scores))
    cells = [(name, *(_cell(scores.get(metric)) for metric in names)) for name, scores in table.items()]
    show_table(f"What is heard in {what}", ("", *names), cells)
    show_lines("Not heard", (f"{kind}: {' && '.join(lines)}" for kind, lines in lacking.items()))


def chosen(only: str) -> list[Kind]:
    """The kinds that are named, or all.

    Raises:
        FewstepError: one is unknown.
    """
    from fewstep.errors import FewstepError, nearest
    from fewstep_audio.metrics.choice import KINDS

    asked = [name.strip() for name in only.split(",") if name.strip()]
    unknown = [name for name in asked if name not in KINDS]
    if unknown:
        raise FewstepError(
            f"--only knows no {', '.join(unknown)}{nearest(unknown[0], KINDS)}",
            f"some of {', '.join(KINDS)}",
            "correct the name",
        )
    return [kind for kind in KINDS if not asked or kind in asked]


def split(kinds: Sequence[Kind], strict: bool) -> tuple[dict[Kind, list[str]], list[Kind]]:
    """What lacks a package, with its install lines, and what can be heard.

    Raises:
        FewstepError: something lacks a package and ``strict``: the user named it.
    """
    from fewstep_audio.metrics.choice import check_ears, missing

    if strict:
        check_ears(kinds)
    lacking = missing(kinds)
    return lacking, [kind for kind in kinds if kind not in lacking]


def _measured(
    what: str,
    reference: str,
    kinds: Sequence[Kind],
    runs: Path,
    device: str,
    tell: Callable[[str], None],
) -> dict[str, dict[str, Score]]:
    from fewstep.runs.folder import find_run
    from fewstep.runs.runner import load

    folder = Path(what)
    if folder.is_dir() and not (folder / "run.json").is_file():
        return heard_in_folder(folder, Path(reference) if reference else None, kinds, tell)
    return heard_in_run(load(find_run(what, runs).path, device), kinds, tell)


def heard_in_run(run: Run, kinds: Sequence[Kind], tell: Callable[[str], None]) -> dict[str, dict[str, Score]]:
    """Metric -> score for every contender, from the noise of its report, and for the truth through the same vocoder.

    Raises:
        FewstepError: the run does not speak.
    """
    from fewstep.errors import FewstepError
    from fewstep.runs.evaluation import draw
    from fewstep_audio.metrics.listening import listening
    from fewstep_audio.sound.choice import vocoder_of

    product, key = run.product, run.setup.site.key.at("evaluate")
    batch = product.evaluation(product.samples, key.at("evaluation"))
    if not isinstance(batch.x, Mapping) or "mel" not in batch.x or "texts" not in batch.extra:
        raise FewstepError(f"{run.setup.recipe.name} does not speak text", "a run of a speech recipe", "")
    metrics = listening(kinds, vocoder_of(run.setup.resolved.config))
    told = {}
    drawn: dict[str, Any] = {TRUTH: batch.x}
    for name, sampler in product.contenders.items():
        tell(f"{name} speaks {product.samples} sentences")
        drawn[name] = draw(name, sampler, run.shelf, batch, key.at("draw"), run.setup.device).x
    batch = replace(batch, extra={**batch.extra, "drawn": {n: x for n, x in drawn.items() if n != TRUTH}})
    for name, x in drawn.items():
        tell(f"listening to {name}")
        told[name] = {one.name: one.fn(x, batch, key.at("metric", one.name)) for one in metrics}
    return told


def heard_in_folder(
    folder: Path, reference: Path | None, kinds: Sequence[Kind], tell: Callable[[str], None]
) -> dict[str, dict[str, Score]]:
    """Metric -> score of recordings with their texts; without a reference only words and quality can be told.

    Raises:
        FewstepError: naming every sound of the folder and of the reference that cannot be used.
    """
    from fewstep.protocol import Key
    from fewstep_audio.metrics.listening import sounds
    from fewstep_audio.sound.recordings import read_recordings
    from fewstep_audio.sound.vocoder import GriffinLim
    from fewstep_audio.speech.folder import listed

    found, vocoder = listed(folder), GriffinLim()
    paths = [one.path for one in found]
    same = [] if reference is None else [reference / path.relative_to(folder) for path in paths]
    waves = read_recordings([*paths, *same], vocoder.contract, LONGEST)
    against = waves[len(paths) :] or None
    waves = waves[: len(paths)]
    tell(f"listening to {len(found)} sounds")
    x, batch, metrics = sounds(waves, [one.text for one in found], against, kinds, vocoder)
    return {str(folder): {one.name: one.fn(x, batch, Key(0).at(one.name)) for one in metrics}}


def _cell(score: Score | None) -> str:
    if score is None or not score.n:
        return "-"
    return f"{score.value:.3g} ({score.low:.3g} to {score.high:.3g})"


def _tell(line: str) -> None:
    typer.echo(line, err=True)
