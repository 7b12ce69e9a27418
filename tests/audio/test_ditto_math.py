"""Optimised noise on a Gaussian model, where denoiser, map and optimum are known: what works, what throws it away.

512 dimensions, of which 64 are asked for; Adam's 70 steps as in Novack et al. 2024 (DITTO-2).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fewstep.processes import Gaussian, edm
from fewstep.protocol import Batch, Cond, Estimate, Key, Step, spread
from fewstep.samplers import FewStep
from fewstep.testing.analytic import CovarianceTeacher, Exact
from fewstep_audio.ditto2.asked import KINDS, examples
from fewstep_audio.ditto2.controls import PerRow
from fewstep_audio.ditto2.optimise import (
    Found,
    Search,
    decoded,
    energy,
    optimise,
    renoised,
    through_student,
    through_teacher,
)
from fewstep_audio.music.corpus import Corpus, MusicSettings, load_corpus

DIMENSIONS, ASKED = 512, 64
PROCESS = edm(sigma_data=0.5)


class Axes(CovarianceTeacher):
    """The same denoiser, computed along principal axes: D = V diag(l / (l + sigma^2)) V^T x where alpha = 1."""

    def believe(self, xt: Tensor, t: Tensor, cond: Cond) -> Tensor:
        """Two products instead of a solved system."""
        gain = self.values / (self.values + self.process.sigma(t)[:, None].square())
        return (((xt.double() @ self.vectors) * gain) @ self.vectors.T).to(xt.dtype)


def _covariance() -> Tensor:
    """Variances from 0.01 to 1, evenly spaced in their logarithm, along random axes."""
    axes, _ = torch.linalg.qr(Key(4).normal(torch.zeros(DIMENSIONS, DIMENSIONS, dtype=torch.float64)))
    return axes * torch.logspace(-2, 0, DIMENSIONS, dtype=torch.float64) @ axes.T


TEACHER = Axes(PROCESS, _covariance())
BATCH = Batch(torch.zeros(1, DIMENSIONS))


class Told(nn.Module):
    """Stands for a network that is told where to land; the map below answers in its place."""

    accepts = frozenset({"to"})


class ExactMap(FewStep):
    """The flow map of the exact ODE: what a perfect student would have learned."""

    def __init__(self, teacher: Any) -> None:
        super().__init__(Told(), teacher.process, "x0", (teacher.process.t_max,), rule="flow")
        self.teacher = teacher

    def forward(
        self, xt: Tensor, t: Tensor, cond: Cond | None = None, *, to: Tensor, **_: object
    ) -> Estimate:
        """The clean state with which DDIM's jump lands where the ODE does."""
        kept = spread((to / t).to(xt.dtype), xt)
        return Estimate((self.teacher.flow_map(xt, t, to) - kept * xt) / (1 - kept))


STUDENT = ExactMap(TEACHER)


def noise(seed: int) -> Tensor:
    return Key(seed).normal(torch.zeros(1, DIMENSIONS))


@cache
def reference() -> Tensor:
    """One draw of the data."""
    return STUDENT.sample(BATCH, Step.inference(Key(0)), noise=noise(1)).x


def loss(x: Tensor) -> Tensor:
    """Mean square of the gap in the asked dimensions."""
    return (x - reference())[:, :ASKED].square().mean(1)


@cache
def found(through: str) -> Found:
    surrogate = {
        "student": lambda: through_student(STUDENT, BATCH),
        "teacher": lambda: through_teacher(TEACHER, BATCH, 20),
        "one call of the teacher": lambda: through_teacher(TEACHER, BATCH, 1),
    }[through]()
    return optimise(surrogate, loss, noise(2), Search(patience=70))


def by_teacher(calls: int) -> Callable[[Tensor], Tensor]:
    return through_teacher(TEACHER, BATCH, calls)


def test_the_exact_map_in_one_call_and_in_four_makes_the_same_sample() -> None:
    one, four = (decoded(STUDENT, BATCH, noise(3), steps) for steps in (1, 4))
    torch.testing.assert_close(one, four, atol=1e-5, rtol=1e-5)


def test_the_short_cut_along_the_axes_is_the_exact_denoiser() -> None:
    t = torch.tensor([0.7], dtype=torch.float64)
    slow = CovarianceTeacher(PROCESS, TEACHER.covariance)(noise(3), t).x0
    torch.testing.assert_close(TEACHER(noise(3), t).x0, slow, atol=1e-5, rtol=1e-5)


def test_many_steps_of_the_exact_teacher_approach_the_map() -> None:
    gaps = [
        float((by_teacher(calls)(noise(3)) - decoded(STUDENT, BATCH, noise(3), 1)).norm())
        for calls in (20, 100, 400)
    ]
    assert gaps[0] > 2 * gaps[1] > 4 * gaps[2]


@pytest.mark.parametrize("through", ["student", "teacher"])
def test_seventy_steps_of_adam_lower_the_loss_a_hundredfold(through: str) -> None:
    losses = found(through).losses[:, 0]
    assert losses[0] > 0.2
    assert found(through).best < losses[0] / 100
    assert torch.equal(found(through).best, losses.amin()[None])


def test_what_the_students_one_call_found_holds_for_every_deterministic_decoder() -> None:
    z = found("student").noise
    assert loss(decoded(STUDENT, BATCH, z, 1)) == pytest.approx(float(found("student").best), rel=1e-4)
    assert loss(decoded(STUDENT, BATCH, z, 4)) == pytest.approx(float(found("student").best), rel=1e-2)
    assert loss(by_teacher(100)(z)) < 0.02


def test_what_the_teachers_twenty_steps_found_carries_their_error_to_other_decoders() -> None:
    z = found("teacher").noise
    assert loss(by_teacher(20)(z)) < 1e-3
    assert 1e-3 < loss(decoded(STUDENT, BATCH, z, 1)) < 0.03


@pytest.mark.parametrize("through", ["student", "teacher"])
def test_fresh_noise_in_the_decoder_throws_the_control_away(through: str) -> None:
    free = loss(decoded(STUDENT, BATCH, noise(2), 1))
    lost = loss(renoised(STUDENT, BATCH, found(through).noise, 4, Step.inference(Key(5))))
    assert lost > 0.3 * free
    assert lost > 100 * loss(decoded(STUDENT, BATCH, found("student").noise, 4))


def test_the_undistilled_teacher_in_one_call_finds_nothing_that_its_samples_have() -> None:
    z = found("one call of the teacher").noise
    free = loss(by_teacher(100)(noise(2)))
    assert loss(by_teacher(100)(z)) > 0.3 * free


def test_a_solution_exists_near_the_shell_of_noise_and_adam_leaves_the_shell() -> None:
    rows = torch.func.jacrev(lambda z: decoded(STUDENT, BATCH, z, 1)[0, :ASKED])(noise(2))[:, 0].double()
    gap = (reference() - decoded(STUDENT, BATCH, noise(2), 1))[0, :ASKED].double()
    least = noise(2).double() + torch.linalg.lstsq(rows, gap[:, None]).solution[:, 0]
    assert loss(decoded(STUDENT, BATCH, least.float(), 1)) < 1e-8
    assert float(energy(least)) < 1.15
    assert float(energy(found("student").noise)) > float(energy(least))


def test_a_penalty_keeps_the_noise_on_its_shell() -> None:
    kept = optimise(through_student(STUDENT, BATCH), loss, noise(2), Search(patience=70, prior=1.0))
    assert abs(float(energy(kept.noise)) - 1) < 0.5 * abs(float(energy(found("student").noise)) - 1)
    assert kept.best < 0.01


def test_one_call_costs_a_fraction_of_twenty() -> None:
    assert found("student").seconds < found("teacher").seconds / 4


# ------------------------------------------------------------------------- real controls on the Gaussian law of music


class SeparableTeacher(Exact):
    """Data N(0, C_bands x C_time) over (B, M, T): exact denoiser and exact map along the products of principal axes."""

    def __init__(self, process: Gaussian, bands: Tensor, time: Tensor) -> None:
        super().__init__(process)
        (rows, self.left), (columns, self.right) = torch.linalg.eigh(bands), torch.linalg.eigh(time)
        self.values = rows.clamp(min=0)[:, None] * columns.clamp(min=0)

    def scaled(self, x: Tensor, gain: Tensor) -> Tensor:
        """Each axis by its own gain."""
        return (self.left @ ((self.left.T @ x.double() @ self.right) * gain) @ self.right.T).to(x.dtype)

    def believe(self, xt: Tensor, t: Tensor, cond: Cond) -> Tensor:
        """Wiener's filter."""
        return self.scaled(xt, self.values / (self.values + self.process.sigma(t)[:, None, None].square()))

    def flow_map(self, xt: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """Where the exact ODE leads."""
        now, then = (self.values + self.process.sigma(u)[:, None, None].square() for u in (t, s))
        return self.scaled(xt, (then / now).sqrt())


@cache
def music(folder: str) -> tuple[Corpus, SeparableTeacher]:
    """Six chorales, and the covariances of their bands and of their frames."""
    corpus = load_corpus(MusicSettings(tunes=4, held_out=2, seconds=8.0), Path(folder))
    frames = torch.cat([corpus.scale.normalized(one.mel) for one in corpus.training], 1).double()
    lags = torch.stack([(frames[:, : frames.shape[1] - k] * frames[:, k:]).mean() for k in range(64)])
    place = torch.arange(64)
    time = lags[(place[:, None] - place).abs()] / lags[0]
    return corpus, SeparableTeacher(edm(), frames @ frames.T / frames.shape[1], time)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_controls_of_music_hold_in_steady_decoders_and_are_lost_to_fresh_noise(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    pytest.importorskip("music21", reason='scores need pip install "fewstep[music]"')
    corpus, teacher = music(str(tmp_path_factory.getbasetemp() / "music"))
    student, batch = ExactMap(teacher), examples(corpus, 6, 64)
    controls, scale = batch.extra["controls"], corpus.scale
    z = teacher.process.noise(batch, Key(seed))

    def errors(state: Tensor) -> dict[str, float]:
        losses = PerRow(controls)(scale.restored(state))
        return {kind: float(losses[which::3].mean()) for which, kind in enumerate(KINDS)}

    def search(surrogate: Callable[[Tensor], Tensor]) -> Tensor:
        return optimise(
            surrogate,
            lambda x: PerRow(controls).sought(scale.restored(x)),
            z,
            Search(40, patience=40, prior=10.0),
        ).noise

    best = search(through_student(student, batch))
    blurred = search(through_teacher(teacher, batch, 1))
    free = errors(decoded(student, batch, z, 4))
    steady, solved = (
        errors(decoded(student, batch, best, 4)),
        errors(through_teacher(teacher, batch, 64)(best)),
    )
    lost = errors(renoised(student, batch, best, 4, Step.inference(Key(seed))))
    undistilled = errors(through_teacher(teacher, batch, 64)(blurred))
    for kind in KINDS:
        assert steady[kind] < free[kind] / 3, kind
        assert solved[kind] < free[kind] / 3, kind
    assert lost["inpaint"] > 0.5 * free["inpaint"]
    assert lost["melody"] > 0.5 * free["melody"]
    assert lost["intensity"] > free["intensity"] / 3
    assert undistilled["inpaint"] > free["inpaint"]
    assert not undistilled["intensity"] < free["intensity"]


if __name__ == "__main__":  # the table, as docs quote it
    print(
        "| through | s for 70 steps | loss | 1 call | 4 maps | teacher 20 | teacher 100 | renoised | norm^2/D |"
    )
    for name in ("teacher", "student", "one call of the teacher"):
        z, losses = found(name).noise, found(name).losses[:, 0]
        decoders = [
            decoded(STUDENT, BATCH, z, 1),
            decoded(STUDENT, BATCH, z, 4),
            by_teacher(20)(z),
            by_teacher(100)(z),
        ]
        decoders.append(renoised(STUDENT, BATCH, z, 4, Step.inference(Key(5))))
        numbers = " | ".join(f"{float(loss(x)):.1e}" for x in decoders)
        cost = f"{found(name).seconds:.2f} | {float(losses[0]):.2f} -> {float(losses.min()):.1e}"
        print(f"| {name} | {cost} | {numbers} | {float(energy(z)):.2f} |")
