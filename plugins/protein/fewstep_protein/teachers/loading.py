"""The teacher that a user brings, and the proof that it is what they say: it must denoise real chains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from fewstep.config import TeacherConfig, left_beside, load_teacher
from fewstep.config.teacher import attribute, read_weights
from fewstep.errors import FewstepError
from fewstep.processes import Gaussian
from fewstep.protocol import Batch, Denoiser, Key
from fewstep_protein.structures.geometry import bonds
from fewstep_protein.teachers.conventions import Convention, borrowed
from fewstep_protein.teachers.outputs import OUTPUTS, UNITS, Output, Unit
from fewstep_protein.teachers.proteina import Folds, is_published, proteina_teacher

BOND_LIMITS = (0.3, 0.5)
"""Mean CA-CA distance in nanometers of denoised real chains; ten times off is another unit."""
LITTLE, MUCH = 0.1, 0.3
"""Times of the core at which bonds and errors are measured."""


def given_teacher(
    source: TeacherConfig,
    output: Output | None,
    unit: Unit,
    process: Gaussian,
    make: Callable[[], nn.Module],
    real: Callable[[], Batch],
    folds: Folds | None = None,
) -> nn.Module | None:
    """The teacher that the settings name, frozen, or None when it is to be trained.

    Args:
        source: where it comes from.
        output: what its network predicts, for one that was trained elsewhere; None = an earlier run of ours, code that
            speaks core's language, or a published checkpoint, which predicts v.
        unit: of its coordinates.
        process: of the recipe.
        make: the recipe's own teacher with fresh weights.
        real: held-out real chains, on which a teacher from elsewhere is tried. They are drawn for every teacher: data
            that have none are told before a training, not at the evaluation after it.
        folds: what labels mean to a published checkpoint.

    Raises:
        FewstepError: it is absent, fits another network, or does not denoise real chains as declared; or there are none.
    """
    known = _drawn(real)
    weights = read_weights(Path(str(source.path))) if source.kind == "checkpoint" else {}
    if is_published(weights):
        declared = Convention(output or "v", unit)
        return _proven(lambda said: proteina_teacher(weights, said, process, folds), declared, known)
    if folds is not None and folds.known:
        raise FewstepError(
            "teacher_labels says what numbers a published Proteina gives to CATH codes; this teacher is none",
            "teacher.kind=checkpoint with published parameter names",
            "leave teacher_labels out: other teachers read this plugin's own numbers, or no labels",
        )
    if output is None:
        return load_teacher(source, make)
    if source.kind != "import":
        raise FewstepError(
            f"teacher_output = {output} means nothing for teacher.kind = {source.kind} with our own weights",
            "a network that was trained elsewhere",
            "leave teacher_output out, or use teacher.kind=import",
        )
    inner = attribute(str(source.target), "teacher.target")()
    if not isinstance(inner, nn.Module) or isinstance(inner, Denoiser):
        raise FewstepError(
            f"{source.target}() returned {type(inner).__name__}",
            "a torch.nn.Module called as net(x_t, t, mask)",
            "return the bare network, or leave teacher_output out for a whole Denoiser",
        )
    return _proven(lambda said: borrowed(inner, said, process), Convention(output, unit), known)


def given_early(source: TeacherConfig, make: Callable[[], nn.Module]) -> nn.Module:
    """The early checkpoint that a given run left beside its teacher, frozen.

    Args:
        source: where the teacher comes from.
        make: the recipe's own teacher with fresh weights.

    Raises:
        FewstepError: it is no run that trained its teacher, or its networks are others.
    """
    early = left_beside(source, "early", make)
    if early is None:
        raise FewstepError(
            f"autoguidance needs an early checkpoint of the teacher, and {source.path or source.target} has none",
            "the folder of a run of this recipe that trained its teacher, and so left one in stages/teacher",
            "-s teacher.path=FOLDER of such a run, -s teacher=train to train one, or -s autoguidance=0 to be guided away "
            "from the teacher without labels",
        )
    return early


def _drawn(real: Callable[[], Batch]) -> Batch:
    """Held-out chains.

    Raises:
        FewstepError: there are none of the lengths that are asked for.
    """
    try:
        return real()
    except ValueError as error:
        raise FewstepError(
            f"no held-out chain fits the settings: {error}",
            "held-out chains of at least `shortest` residues, on which teacher and student are measured",
            "a smaller `shortest`, or another data.path",
        ) from error


@dataclass(frozen=True)
class Trial:
    """How a teacher treats real chains: mean CA-CA distance, and its squared error over that of the noisy chains rescaled.

    Rescaling x_t as well as one number can is what a network that knows nothing of proteins does.
    """

    bond: float
    error: float

    @property
    def passed(self) -> bool:
        """Bonds have the right size, and it knows more than a scale."""
        low, high = BOND_LIMITS
        return low <= self.bond <= high and self.error < 1


def tried(teacher: Denoiser, real: Batch) -> Trial:
    """Denoise real chains, with little noise and with much."""
    process = teacher.process.on(real.mask)
    noise = process.noise(real, Key(0).at("trial"))

    def estimate(time: float) -> tuple[Tensor, Tensor]:
        t = torch.full((len(real.x),), time, dtype=torch.float64)
        xt = process.corrupt(real.x, noise, t)
        with torch.no_grad():
            return teacher(xt, t, real.cond).x0, xt

    (close, _), (far, noisy) = estimate(LITTLE), estimate(MUCH)
    both = real.mask[:, 1:, 0] & real.mask[:, :-1, 0]
    rescaled = (noisy * real.x).sum() / noisy.square().sum() * noisy
    error = (far - real.x).square().sum() / (rescaled - real.x).square().sum()
    return Trial(float(bonds(close)[both].mean()), float(error))


def _proven(make: Callable[[Convention], Denoiser], declared: Convention, real: Batch) -> nn.Module:
    """The teacher as declared, frozen.

    Raises:
        FewstepError: it does not denoise real chains so; the message says how it does.
    """
    teacher = make(declared).requires_grad_(False).eval()
    found = tried(teacher, real)
    if found.passed:
        return teacher
    low, high = BOND_LIMITS
    raise FewstepError(
        f"the teacher does not denoise real chains as {declared.output} in {declared.unit}: mean CA-CA distance "
        f"{found.bond:.3g} nm at t = {LITTLE}, squared error {found.error:.3g} of that of rescaling x_t at t = {MUCH}",
        f"a CA-CA distance of {low} to {high} nm, and an error below 1 (x_t in the declared unit, t = 0 is noise)",
        _advice(make, real),
    )


def _advice(make: Callable[[Convention], Denoiser], real: Batch) -> str:
    """Which other declaration the network lives up to, best first."""
    trials = []
    for said in (Convention(output, unit) for output in OUTPUTS for unit in UNITS):
        try:
            found = tried(make(said).eval(), real)
        except FewstepError:  # an output that this kind of network cannot have
            continue
        if found.passed:
            trials.append((found.error, said))
    if not trials:
        return (
            "it denoises them under no declaration: check time, unit, mask, and that its weights were loaded"
        )
    best = min(trials, key=lambda trial: trial[0])[1]
    return f"it does as: teacher_output={best.output} teacher_unit={best.unit}"
