"""A run in Python: its folder, its student, its samples and its report."""

from __future__ import annotations

import mimetypes
import os
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from fewstep.engine import Watch, execute
from fewstep.errors import FewstepError, nearest
from fewstep.protocol import Batch, Drawn, Piece, Plan, Product, Sampler, Shelf, Tree, rows, tensors
from fewstep.runs import media
from fewstep.runs.campaign import IN_PARTS, Asked, Campaigned, cautions_of, check_count, run_campaign
from fewstep.runs.evaluation import Evaluation, answer, draw, evaluate
from fewstep.runs.folder import RunFolder, drafting, writing
from fewstep.runs.progress import shown
from fewstep.runs.setup import Setup

SHOWN = 4
"""Samples that are drawn unless more are asked for."""
MANY, TRIED = 256, 32
"""More samples at once than so many are estimated first, from a batch of so many: a few cost as much as one."""


@dataclass(frozen=True)
class Samples:
    """What ``run.sample`` drew: values, their files, what they cost, and what was asked beyond what was learned."""

    x: Tree
    batch: Batch
    files: tuple[Path, ...]
    evaluations: int
    seconds: float
    cautions: tuple[str, ...] = ()

    def _repr_html_(self) -> str:
        """Players and pictures for a notebook."""
        head = f"<p>{self.evaluations} network calls, {self.seconds:.3g} s</p>"
        return head + "".join(_shown(file) for file in self.files)


class Run:
    """A finished or running training in its folder.

    Attributes:
        folder: path of the run folder.
        setup: recipe, settings and device.
        shelf: what training left: name -> module.
        product: contenders, metrics, panels.
        evaluation: table and gates, once measured.
    """

    def __init__(self, folder: RunFolder, setup: Setup, plan: Plan) -> None:
        """Bind; nothing is trained yet."""
        self.files, self.setup, self.plan = folder, setup, plan
        self.folder = folder.path
        self.shelf: Shelf = {}
        self.evaluation: Evaluation | None = None

    @property
    def name(self) -> str:
        """``<recipe>/<date>-<time>-<hash6>``."""
        return f"{self.setup.recipe.name}/{self.folder.name}"

    @property
    def product(self) -> Product:
        """What the plan is for."""
        return self.plan.product

    def restore(self) -> Run:
        """Take what training left in the folder.

        Raises:
            FewstepError: the run did not finish.
        """
        facts = self.files.facts
        absent = [name for name in facts.get("stages", []) if not (self.folder / "stages" / name).is_dir()]
        if facts.get("trained") is not True or absent:
            raise FewstepError(
                f"the run in {self.folder} is not finished (status {facts.get('status')!r})"
                + (f"; stage {', '.join(absent)} is gone" if absent else ""),
                "a finished run",
                f"fewstep run {self.setup.recipe.name} --resume {shlex.quote(str(self.folder))}",
            )
        self.shelf = execute(self.plan, self.setup.site, self.folder, watch=Watch())
        return self

    def sample(
        self,
        num: int = SHOWN,
        *,
        seed: int = 0,
        steps: int | None = None,
        contender: str = "student",
        out: Path | str | None = None,
        **options: Any,
    ) -> Samples:
        """Draw new samples and write them as native files.

        Args:
            num: how many.
            seed: another seed gives other samples.
            steps: network steps of the student; its own number by default.
            contender: who draws: "student", "teacher", ...
            out: folder for the files, ``samples/<contender>-seed<seed>`` in the run folder by default; or the name of
                the one file that one sample becomes.
            **options: conditions of this product, such as a text or a length.

        Raises:
            FewstepError: a condition that makes no sense, told with all others; a student without steps; a file for
                several samples, or of a kind that this product does not write.
        """
        place = Path(out) if out is not None else self.folder / "samples" / f"{contender}-seed{seed}"
        named = names_a_file(place)
        kinds = suffixes(self.folder / "samples" / contender)
        asked, *_ = _answers(
            partial(conditions, self.product.options, options),
            partial(check_count, num),
            partial(self.sampler, contender, steps),
            *([partial(check_file, place, num, kinds)] if named else []),
        )
        if num > MANY:
            trial = self.drawn(asked, TRIED, seed=seed, steps=steps, contender=contender)
            _check_count(num, trial, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
        drawn = self.drawn(asked, num, seed=seed, steps=steps, contender=contender)
        files = self._written_as(drawn, place) if named else self._written(drawn, place)
        return Samples(drawn.x, drawn.batch, files, drawn.evaluations, drawn.seconds, cautions_of(asked))

    def campaign(
        self,
        num: int,
        out: Path | str,
        *,
        seed: int = 0,
        steps: int | None = None,
        contender: str = "student",
        quiet: bool = True,
        **options: Any,
    ) -> Campaigned:
        """Fill a folder with many samples, portion by portion; the same call again goes on where it was cut short.

        Args:
            num: how many samples the folder will hold.
            out: the folder.
            seed: another seed gives other samples.
            steps: network steps of the contender.
            contender: who draws.
            quiet: print no progress.
            **options: conditions of this product.

        Raises:
            FewstepError: the product has no campaigns, a condition makes no sense, the folder holds another campaign.
        """
        found = self.product.campaign
        if found is None:
            raise FewstepError(
                f"{self.setup.recipe.name} has no campaigns", "a recipe whose product has", "use run.sample"
            )
        asked, *_ = _answers(
            partial(conditions, self.product.options, options),
            partial(check_count, num),
            partial(self.sampler, contender, steps),
        )
        with shown(quiet, found.unit) as (watch, _):
            return run_campaign(self, found, Asked(asked, num, seed, steps, contender), Path(out), watch)

    def drawn(
        self, asked: Any, num: int = 1, *, seed: int = 0, steps: int | None = None, contender: str = "student"
    ) -> Drawn:
        """What one contender draws for conditions that were validated; equal seeds meet equal noise.

        Args:
            asked: an instance of ``product.options``.
            num: how many samples.
            seed: another seed gives other samples.
            steps: network steps of the contender.
            contender: who draws.

        Raises:
            FewstepError: no such contender, or one without steps.
        """
        key, sampler = self.setup.site.key.at("sample", seed), self.sampler(contender, steps)
        batch = self.product.request(asked, num, key.at("request"))
        return draw(contender, sampler, self.shelf, batch, key.at("draw"), device=self.setup.device)

    def stream(
        self, *, seed: int = 0, steps: int | None = None, contender: str = "student", **options: Any
    ) -> Iterator[Piece]:
        """Samples without end, piece by piece; what is asked is checked at once, and nothing is drawn before it is needed.

        Args:
            seed: another seed gives other samples.
            steps: network steps of the student.
            contender: who draws.
            **options: conditions of this product's stream.

        Raises:
            FewstepError: the product has no stream, or a condition makes no sense.
        """
        found = self.product.stream
        if found is None:
            raise FewstepError(
                f"{self.setup.recipe.name} has no stream",
                "a recipe whose product streams",
                "leave --stream out",
            )
        sampler, asked = _answers(
            partial(self.sampler, contender, steps), partial(conditions, found.options, options)
        )
        draw = partial(answer, contender, sampler, self.shelf, device=self.setup.device)
        return found.pieces(asked, draw, self.setup.site.key.at("sample", seed))

    def evaluate(self) -> Evaluation:
        """Measure all contenders (again) and keep the table in eval.json."""
        site = self.setup.site
        self.evaluation = evaluate(
            self.product, self.shelf, site.key.at("evaluate"), self.setup.gates, device=self.setup.device
        )
        self.files.write_json("eval.json", self.evaluation.as_json())
        return self.evaluation

    def report(self) -> Path:
        """Write report.html and MODEL_CARD.md; returns the report's path."""
        from fewstep.runs.card import write_card
        from fewstep.runs.report import write_report

        evaluation = self.evaluation or self.evaluate()
        write_card(self, evaluation)
        return write_report(self, evaluation)

    def __repr__(self) -> str:
        """Name and status."""
        return f"Run({self.name!r}, status={self.files.facts.get('status')!r})"

    def _repr_html_(self) -> str:
        """The table and the panels, for a notebook."""
        from fewstep.runs.report import fragment

        return fragment(self, self.evaluation or self.evaluate())

    def sampler(self, contender: str, steps: int | None = None) -> Sampler:
        """How a contender draws, in its own number of steps or in another.

        Raises:
            FewstepError: no such contender, one without steps, or one that cannot take so many.
        """
        known = self.product.contenders
        if contender not in known:
            raise FewstepError(
                f"no contender {contender!r}{nearest(contender, known)}",
                f"one of {', '.join(known)}",
                "correct it",
            )
        if steps is None:
            return known[contender]
        if steps < 1:
            raise FewstepError(f"steps is {steps}", "at least 1", "give a larger --steps")
        fewer = known[contender].with_steps
        if fewer is None:
            raise FewstepError(
                f"{contender!r} has no choice of steps",
                "a contender that draws in steps",
                "leave --steps out",
            )
        try:
            return fewer(steps)
        except ValueError as error:
            raise FewstepError(
                f"{contender!r} cannot draw in {steps} steps: {error}", "", "correct --steps"
            ) from error

    def _written(self, drawn: Drawn, folder: Path) -> tuple[Path, ...]:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            return tuple(self.product.write(drawn.x, drawn.batch, folder))

    def _written_as(self, drawn: Drawn, file: Path) -> tuple[Path, ...]:
        """The one file of its kind, under this name."""
        with writing(file), drafting(file.parent, "sample") as folder:
            written = self._written(drawn, folder)
            fitting = [one for one in written if one.suffix.lower() == file.suffix.lower()]
            if len(fitting) != 1:
                check_file(file, 1, {one.suffix for one in written})
                raise FewstepError(
                    f"one sample becomes {len(fitting)} {file.suffix} files", "", "give a folder as --out"
                )
            fitting[0].replace(file)
        return (file,)


def _check_count(num: int, trial: Drawn, memory: int) -> None:
    """Refuse what cannot be drawn at once, as a trial tells; what networks need beside the states is not known.

    Raises:
        FewstepError: the states alone do not fit into ``memory`` bytes, or drawing takes more than a day.
    """
    count = rows(trial.x)
    held = sum(x.nbytes for state in trial.path for x in tensors(state.x)) / count
    most = int(min(memory / max(held, 1), 86_400 * count / max(trial.seconds, 1e-9)))
    if num > most:
        hours = num / count * trial.seconds / 3600
        raise FewstepError(
            f"{num} samples at once would take at least {num * held / 1e9:.3g} GB and, as {count} tell, {hours:.3g} hours",
            f"at most {most}",
            IN_PARTS,
        )


def names_a_file(place: Path) -> bool:
    """Whether a place is meant as a file: it has a suffix that is not a number, and is no folder."""
    return bool(place.suffix) and not place.suffix[1:].isdigit() and not place.is_dir()


def suffixes(folder: Path) -> set[str]:
    """The kinds of files in a folder; none if it is not there."""
    return {file.suffix for file in folder.iterdir() if file.suffix} if folder.is_dir() else set()


def check_file(file: Path, num: int, kinds: Collection[str]) -> None:
    """Find out before drawing that a file cannot hold what is asked for; ``kinds`` is empty if it is not known.

    Raises:
        FewstepError: all that is wrong.
    """
    lines = [f"--out {file.name} is one file, but {num} samples are asked for"] if num != 1 else []
    if kinds and file.suffix.lower() not in kinds:
        lines.append(
            f"--out {file.name}: this product writes {' and '.join(sorted(kinds))} files, not {file.suffix}"
        )
    if lines:
        kind = min(kinds, default=file.suffix)
        raise FewstepError(
            "\n".join(lines), f"--num 1 --out {file.with_suffix(kind).name}, or a folder", "correct them"
        )


def conditions(model: type, options: Mapping[str, Any]) -> Any:
    """Options of a product or of its stream, validated; all that is wrong is told at once.

    Raises:
        FewstepError: naming each option.
    """
    made, wrong = examined(model, options)
    if wrong:
        offered = ", ".join(f"--{_flag(name)}" for name in getattr(model, "model_fields", ()))
        lines = [f"--{name}: {text}" if name else text for name, text in wrong]
        raise FewstepError("\n".join(lines), f"options: {offered or 'none'}", "correct them")
    return made


def examined(model: type, options: Mapping[str, Any]) -> tuple[Any, list[tuple[str, str]]]:
    """Options as an instance of their model, or (name, what is wrong) of each; "" names them all.

    Raises:
        FewstepError: ``model`` is not a pydantic model.
    """
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise FewstepError(f"the options are {model!r}", "a pydantic model", "correct the recipe")
    unknown = [name for name in options if name not in model.model_fields]
    wrong = [(_flag(name), f"no such option{nearest(name, model.model_fields)}") for name in unknown]
    made = None
    try:
        made = model(**{name: value for name, value in options.items() if name not in unknown})
    except ValidationError as error:
        wrong += [_told(item["loc"], item["msg"], item["input"], item["type"]) for item in error.errors()]
    return made, wrong


def _told(location: Sequence[int | str], message: str, given: Any, kind: str) -> tuple[str, str]:
    text = message.removeprefix("Value error, ")
    got = "" if kind in ("missing", "value_error") else f", got {given!r}"
    told = f"{text[:1].lower()}{text[1:]}{got}" if location else text
    return ".".join(_flag(str(part)) for part in location), told


def _flag(name: str) -> str:
    return name.replace("_", "-")


def _answers(*checks: Callable[[], Any]) -> list[Any]:
    """What each check gives.

    Raises:
        FewstepError: what any of them refuses, all at once.
    """
    given: list[Any] = []
    refused: list[FewstepError] = []
    for check in checks:
        try:
            given.append(check())
        except FewstepError as error:
            refused.append(error)
    if len(refused) == 1:
        raise refused[0]
    if refused:
        told = (
            "\n".join(one.what for one in refused),
            "; ".join(one.expected for one in refused if one.expected),
        )
        raise FewstepError(*told, "correct them")
    return given


def _shown(file: Path) -> str:
    """A file as a player, a picture, its text, or its name."""
    mime = mimetypes.guess_type(file.name)[0] or ""
    kind = mime.partition("/")[0]
    if kind == "image":
        return media.picture(file.read_bytes(), file.name, mime=mime)
    if kind == "text" and file.stat().st_size < 20_000:
        return media.captioned(
            f"<pre>{escape(file.read_text(encoding='utf-8', errors='replace'))}</pre>", file.name
        )
    if kind in media.PLAYED:
        return media.player(mime, file.read_bytes(), file.name)
    return f"<p>{escape(str(file))}</p>"
