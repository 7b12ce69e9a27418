"""``fewstep audio ditto``: music from a finished run that does what is asked."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from torch import Tensor

    from fewstep.protocol import Batch
    from fewstep.runs.handle import Run
    from fewstep_audio.ditto2.optimise import Found
    from fewstep_audio.ditto2.requests import Job

RECIPE = "audio/ditto2"


def ditto(
    run: Annotated[str, typer.Argument(help="A run folder, or audio/ditto2 for its newest run.")],
    inpaint: Annotated[tuple[str, str], typer.Option(help="SONG 2.0-4.0: make these seconds anew.")] = (
        "",
        "",
    ),
    outpaint: Annotated[tuple[str, str], typer.Option(help="SONG 3.0: go on for so many seconds.")] = (
        "",
        "",
    ),
    loop: Annotated[str, typer.Option(help="SONG: add an end that leads back to its beginning.")] = "",
    intensity: Annotated[str, typer.Option(help="'0:-30 3:-10': seconds and dB of full scale.")] = "",
    melody: Annotated[str, typer.Option(help="A MIDI or MusicXML file, or 'C4:1 D4:0.5 r:0.5'.")] = "",
    structure: Annotated[str, typer.Option(help="ABA: sections that are alike where letters are.")] = "",
    like: Annotated[str, typer.Option(help="A sound whose embedding is approached.")] = "",
    embed: Annotated[
        str, typer.Option(help="module:attribute of that embedding: log-mel (B, M, T) to (B, E).")
    ] = "fewstep_audio.ditto2.embeddings:timbre",
    text: Annotated[str, typer.Option(help="Words that the music should fit; needs --clap.")] = "",
    clap: Annotated[str, typer.Option(help="Folder of a CLAP model that understands them.")] = "",
    weight: Annotated[str, typer.Option(help="'intensity=2 melody=0.5'; 1 where nothing is said.")] = "",
    seconds: Annotated[float, typer.Option(help="Length, or a loop's bridge; 0 = as asked.")] = 0.0,
    through: Annotated[
        str, typer.Option(help="What the gradient goes through: student or teacher.")
    ] = "student",
    teacher_calls: Annotated[int, typer.Option(help="Calls of the teacher, where it is asked.", min=1)] = 16,
    decoder: Annotated[
        str, typer.Option(help="Who decodes what was found: student, or teacher in so many calls.")
    ] = "student",
    iterations: Annotated[int, typer.Option(help="Steps of Adam at most.", min=1)] = 100,
    lr: Annotated[float, typer.Option(help="Adam's rate, in units of the noise.", min=1e-6)] = 0.05,
    patience: Annotated[int, typer.Option(help="Steps without a better loss.", min=1)] = 10,
    prior: Annotated[float, typer.Option(help="Weight of the penalty on the noise's length.", min=0)] = 10.0,
    decode_steps: Annotated[
        int, typer.Option(help="Deterministic steps of the student; 1 is the map that was optimised.", min=1)
    ] = 1,
    seed: Annotated[int, typer.Option(help="Another seed gives other music.")] = 0,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The wav file; a report is written beside it.")
    ] = Path("ditto.wav"),
    runs: Annotated[Path, typer.Option(help="Where runs are kept.")] = Path("runs"),
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Optimise the noise of a run's student until its music does what is asked; write the sound and a report.

    Example: fewstep audio ditto audio/ditto2 --inpaint song.wav 2.0-4.0 --intensity "0:-30 3:-10" --out new.wav
    """
    from fewstep.runs.folder import find_run
    from fewstep.runs.runner import load
    from fewstep_audio.ditto2.optimise import Search
    from fewstep_audio.ditto2.requests import Request

    opened = load(find_run(run, runs).path, device)
    request = Request(
        inpaint if any(inpaint) else None,
        outpaint if any(outpaint) else None,
        *(loop, intensity, melody, structure, like, embed, text, clap, weight, seconds),
    )
    search = Search(iterations, lr, patience, prior)
    tell = _silent if as_json else partial(typer.echo, err=True)
    ways = (through, decoder)
    facts = serve(opened, request, search, ways, teacher_calls, decode_steps, seed, out, tell)
    if as_json:
        from fewstep.commands._output import show_json

        show_json(facts)
        return
    for line in told(facts):
        typer.echo(line)


def serve(
    run: Run,
    request: Any,
    search: Any,
    ways: tuple[str, str],
    teacher_calls: int,
    decode_steps: int,
    seed: int,
    out: Path,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Understand, optimise, decode, compare with what was not optimised, write.

    Raises:
        FewstepError: whatever is wrong with the run or the request.
    """
    import torch

    from fewstep.protocol import Key
    from fewstep.runs.counting import counted
    from fewstep_audio.ditto2.controls import sought
    from fewstep_audio.ditto2.optimise import decoded, energy, optimise, through_student, through_teacher
    from fewstep_audio.ditto2.recipe import free_batch
    from fewstep_audio.ditto2.requests import understood

    wrong = check(run, ways, decode_steps, out)
    student, teacher = run.shelf["student"], run.shelf["teacher"]
    scale = student.net.scale
    job = understood(request, scale, wrong)
    batch = _there(free_batch(1, job.frames), run.setup.device)
    noise = student.process.on(batch.mask).noise(batch, Key(seed).at("ditto"))
    by_teacher = through_teacher(teacher, batch, teacher_calls)
    surrogate = by_teacher if ways[0] == "teacher" else through_student(student, batch)
    decode = by_teacher if ways[1] == "teacher" else partial(decoded, student, batch, steps=decode_steps)
    asked = sought(job.controls)
    with counted([student, teacher]) as calls:
        found = optimise(
            surrogate,
            lambda state: asked(scale.restored(state)),
            noise,
            search,
            _progress(search.iterations, tell),
        )
        optimising = calls.count
        begun = time.perf_counter()
        with torch.no_grad():
            made = scale.restored(decode(found.noise))
        seconds = time.perf_counter() - begun
        decoding = calls.count - optimising
        with torch.no_grad():
            free = scale.restored(decode(noise))
    facts = {
        "surrogate": [float(found.losses[0, 0]), float(found.best[0])],
        "controls": _errors(job, made, free),
        "calls": {"optimising": optimising, "decoding": decoding},
        "seconds": {"optimising": found.seconds, "decoding": seconds},
        "iterations": len(found.losses) - 1,
        "norm": float(energy(found.noise)[0]),
        "music_seconds": job.frames * 512 / 22050,
    }
    return {
        **facts,
        "files": [str(file) for file in _written(out, job, made.cpu(), free.cpu(), found, facts)],
    }


def check(run: Run, ways: tuple[str, str], decode_steps: int, out: Path) -> list[str]:
    """What is wrong with the options that are no request for music.

    Raises:
        FewstepError: the run is one of another recipe.
    """
    from fewstep.errors import FewstepError
    from fewstep_audio.ditto2.optimise import STEADY

    problems = []
    if run.setup.recipe.name != RECIPE:
        raise FewstepError(f"{run.name} is no run of {RECIPE}", f"a run of {RECIPE}", f"fewstep run {RECIPE}")
    for option, way in zip(("through", "decoder"), ways, strict=True):
        if way not in ("student", "teacher"):
            problems.append(f"--{option}: student or teacher, got {way!r}")
    if decode_steps > 1 and run.shelf["student"].rule not in STEADY:
        problems.append(
            f"--decode-steps: a student that walks by {run.shelf['student'].rule!r} decodes in one step"
        )
    if out.suffix.lower() != ".wav":
        problems.append(f"--out: a name that ends with .wav, got {out}")
    return problems


def told(facts: dict[str, Any]) -> list[str]:
    """The outcome in lines for people."""
    before, after = facts["surrogate"]
    lines = [f"surrogate loss {before:.4g} -> {after:.4g} in {facts['iterations']} steps"]
    for name, one in facts["controls"].items():
        lines.append(
            f"{name}: {one['decoded']:.3g} {one['unit']} decoded, {one['free']:.3g} not optimised "
            f"({one['free_loss'] / max(one['loss'], 1e-12):.1f} times less loss)"
        )
    calls, seconds = facts["calls"], facts["seconds"]
    lines.append(
        f"{calls['optimising']} network calls in {seconds['optimising']:.2f} s to optimise, "
        f"{calls['decoding']} in {seconds['decoding']:.2f} s to decode {facts['music_seconds']:.1f} s of music; "
        f"|z|^2 / D = {facts['norm']:.2f}"
    )
    return [*lines, *facts["files"]]


def _silent(line: str) -> None:
    """For scripts, which read the outcome only."""


def _there(batch: Batch, device: str) -> Batch:
    from fewstep.protocol import to

    return batch if device == "cpu" else to(batch, device)


def _progress(iterations: int, tell: Callable[[str], None]) -> Callable[[int, Tensor], None]:
    """A line every tenth iteration, with the time that is left."""
    begun = time.perf_counter()

    def say(iteration: int, losses: Tensor) -> None:
        if iteration % 10 == 0 or iteration == iterations:
            passed = time.perf_counter() - begun
            left = passed / (iteration + 1) * (iterations - iteration)
            tell(f"step {iteration}/{iterations}  loss {float(losses.mean()):.4g}  {left:.0f} s left")

    return say


def _errors(job: Job, made: Tensor, free: Tensor) -> dict[str, dict[str, Any]]:
    """Each control by itself, of the decoded sample and of the one that was not optimised."""
    table = {}
    for _, control in job.controls:
        mine, other = float(control(made)[0]), float(control(free)[0])
        shown = {"decoded": control.shown(mine), "free": control.shown(other), "unit": control.unit}
        table[control.name] = {**shown, "loss": mine, "free_loss": other}
    return table


def _written(
    out: Path, job: Job, made: Tensor, free: Tensor, found: Found, facts: dict[str, Any]
) -> list[Path]:
    """The sound, and a page that shows it beside the one that was not optimised."""
    from fewstep.runs.folder import writing
    from fewstep.runs.media import columns, picture, player, table
    from fewstep_audio.music.corpus import MUSIC
    from fewstep_audio.sound.files import mel_picture, wav_bytes
    from fewstep_audio.sound.vocoder import GriffinLim, unclipped

    vocoder = GriffinLim(MUSIC)
    sounds = {"optimised": made[0], "not optimised": free[0]}
    waves = {name: unclipped(job.finish(vocoder(mel))) for name, mel in sounds.items()}
    shown = {
        name: player("audio/wav", wav_bytes(waves[name], MUSIC.rate), name)
        + picture(mel_picture(mel, MUSIC, scale=1), f"Mel spectrogram, {name}")
        for name, mel in sounds.items()
    }
    rows = [
        [name, f"{one['decoded']:.3g}", f"{one['free']:.3g}", one["unit"]]
        for name, one in facts["controls"].items()
    ]
    body = table(
        ("control", "optimised", "not optimised", "unit"), rows, "What was asked, and how far it is missed"
    )
    style = "body{font-family:sans-serif;max-width:60rem;margin:2rem auto}.columns{display:flex;gap:2rem;flex-wrap:wrap}"
    style += "td,th{padding:.2rem 1rem .2rem 0;text-align:left}caption{text-align:left}"
    lines = "".join(f"<li>{escape(line)}</li>" for line in told({**facts, "files": []}))
    page = (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{escape(out.stem)}</title><style>{style}</style>"
        f"<h1>{escape(out.stem)}</h1><ul>{lines}</ul>{body}{columns(shown)}</html>"
    )
    report = out.with_suffix(".html")
    with writing(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(wav_bytes(waves["optimised"], MUSIC.rate))
        report.write_text(page)
    return [out, report]
