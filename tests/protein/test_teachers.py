"""Teachers that were trained elsewhere: what they say, in which unit, under which names, and whether it is true."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from fewstep.config import TeacherConfig
from fewstep.errors import FewstepError
from fewstep.processes import flow
from fewstep.protocol import Batch, Centered, Cond, Denoiser, Key
from fewstep_protein.networks.pair import PairNet, PairSize
from fewstep_protein.rouse.chain import covariance
from fewstep_protein.structures.segments import split
from fewstep_protein.structures.sources import Windows, pad
from fewstep_protein.teachers.conventions import Borrowed, Convention, borrowed
from fewstep_protein.teachers.loading import given_teacher, tried
from fewstep_protein.teachers.outputs import OUTPUTS, UNITS, Output, Unit

PROCESS = flow(t_min=0.01, sigma_data=0.5, geometry=Centered())
BEADS = 12
SMALL = PairSize(tokens=16, layers=2, heads=2, pairs=8, condition=12, clock=8, places=8, registers=3)


class Elsewhere(nn.Module):
    """The exact denoiser of a law, in the words of others: t = 0 is noise, any output, any unit."""

    def __init__(self, output: Output, unit: Unit) -> None:
        super().__init__()
        self.output, self.per_nm = output, {"nm": 1.0, "angstrom": 10.0}[unit]
        self.calls: list[Tensor] = []

    def clean(self, xt: Tensor, t: Tensor) -> Tensor:
        """Of nanometers, for the Gaussian chain: E[x1 | x_t] = t S (t^2 S + (1 - t)^2)^-1 x_t."""
        law = covariance(BEADS).to(xt.dtype)
        time = t[:, None, None]
        noisy = time.square() * law + (1 - time).square() * torch.eye(BEADS, dtype=xt.dtype)
        return time * law @ torch.linalg.solve(noisy, xt)

    def forward(self, shown: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        self.calls.append(shown)
        xt, time = shown / self.per_nm, t[:, None, None]
        x1 = self.clean(xt, t)
        noise = (xt - time * x1) / (1 - time)
        return {
            "x1": self.per_nm * x1,
            "v": self.per_nm * (x1 - noise),
            "eps": noise,
            "score": -noise / (1 - time) / self.per_nm,
        }[self.output]


class Remembers(Elsewhere):
    """The exact denoiser of a few real chains of equal length: it only ever shows their mixtures."""

    def __init__(self, output: Output, unit: Unit) -> None:
        super().__init__(output, unit)
        self.known = Windows(split(held_out=False), 32, BEADS, BEADS).batch(0, Key(5)).x

    def clean(self, xt: Tensor, t: Tensor) -> Tensor:
        time = t[:, None, None]
        apart = (xt[:, None] - time[..., None] * self.known).square().sum((-2, -1))
        weight = torch.softmax(-apart / (2 * (1 - t).square()[:, None]), -1)
        return torch.einsum("bk,knc->bnc", weight, self.known.to(xt.dtype))


def of_gaussian(xt: Tensor, t: Tensor) -> Tensor:
    """The core's own closed form, at the core's time."""
    return Elsewhere("x1", "nm").clean(xt, 1 - t)


def known_chains() -> Batch:
    x = Remembers("x1", "nm").known[:8]
    return pad(list(x), BEADS)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("output", OUTPUTS)
def test_whatever_a_network_predicts_in_whatever_unit_it_is_the_same_denoiser(
    output: Output, unit: Unit
) -> None:
    teacher = borrowed(Elsewhere(output, unit), Convention(output, unit), PROCESS)
    t = torch.tensor([0.02, 0.3, 0.708, 0.99], dtype=torch.float64)
    xt = Centered().project(torch.randn(4, BEADS, 3, generator=torch.Generator().manual_seed(0)).double())
    torch.testing.assert_close(teacher(xt, t, Cond()).x0, of_gaussian(xt, t), atol=1e-5, rtol=0)


def test_a_network_sees_its_own_unit_and_the_chain_as_it_is() -> None:
    inner = Elsewhere("x1", "angstrom")
    xt = torch.randn(2, BEADS, 3, generator=torch.Generator().manual_seed(0)).double()
    borrowed(inner, Convention("x1", "angstrom"), PROCESS)(xt, torch.tensor([0.2, 0.9]).double(), Cond())
    torch.testing.assert_close(inner.calls[0], 10 * xt, atol=1e-6, rtol=0)


def test_the_end_where_noise_says_nothing_about_chains_is_left_out() -> None:
    assert Convention("eps").process(PROCESS).t_max == Convention("score").process(PROCESS).t_max == 0.99
    assert Convention("x1").process(PROCESS).t_max == Convention("v").process(PROCESS).t_max == 1.0


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("output", OUTPUTS)
def test_a_teacher_as_declared_denoises_real_chains(output: Output, unit: Unit) -> None:
    assert tried(borrowed(Remembers(output, unit), Convention(output, unit), PROCESS), known_chains()).passed


def brought(
    monkeypatch: pytest.MonkeyPatch, inner: nn.Module, output: Output | None, unit: Unit = "nm"
) -> nn.Module | None:
    """What the settings `teacher.kind=import teacher_output=... teacher_unit=...` load."""
    module = ModuleType("somebodys")
    module.net = lambda: inner  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "somebodys", module)
    source = TeacherConfig(kind="import", target="somebodys:net")
    return given_teacher(source, output, unit, PROCESS, fresh, known_chains)


def fresh() -> Denoiser:
    return Denoiser(PairNet(SMALL, PROCESS.sigma_data), PROCESS, "edm")


@pytest.mark.parametrize(
    ("true", "said"),
    [
        (("x1", "angstrom"), ("x1", "nm")),
        (("x1", "nm"), ("x1", "angstrom")),
        (("v", "nm"), ("v", "angstrom")),
        (("v", "nm"), ("x1", "nm")),
        (("eps", "nm"), ("v", "nm")),
        (("score", "angstrom"), ("score", "nm")),
    ],
)
def test_a_wrong_unit_or_output_is_refused_and_the_right_one_is_told(
    true: tuple[Output, Unit], said: tuple[Output, Unit], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FewstepError, match="does not denoise real chains as") as caught:
        brought(monkeypatch, Remembers(*true), *said)
    assert f"teacher_output={true[0]} teacher_unit={true[1]}" in str(caught.value)


def test_a_network_that_denoises_under_no_declaration_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Noise(Elsewhere):
        def clean(self, xt: Tensor, t: Tensor) -> Tensor:
            return 3 * xt.flip(1)

    with pytest.raises(FewstepError, match="under no declaration"):
        brought(monkeypatch, Noise("x1", "nm"), "x1")


def test_a_network_as_declared_is_brought_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    found = brought(monkeypatch, Remembers("v", "angstrom"), "v", "angstrom")
    assert isinstance(found, Denoiser)
    assert (found.prediction, found.training) == ("flow", False)


def test_a_whole_denoiser_needs_no_declaration_and_refuses_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(brought(monkeypatch, fresh(), None), Denoiser)
    with pytest.raises(FewstepError, match="bare network"):
        brought(monkeypatch, fresh(), "x1")


class Scaled(nn.Module):
    """A network in the words of the core that knows neither step nor destination."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.7))

    def forward(self, x: Tensor, time: Tensor, cond: Cond) -> Tensor:
        return self.scale * x


def test_a_copy_of_a_borrowed_network_starts_as_it_and_can_be_told_the_step() -> None:
    net = Borrowed(Scaled(), None, 0.5)
    x, time, told = torch.randn(2, 9, 3), torch.tensor([300.0, 700.0]), Cond(index=torch.tensor([0, 1]))
    copy = net.copied(reads_index=True, lands=True)
    assert torch.equal(copy(x, time, told, to=time / 2), net(x, time, Cond()))
    assert "to" in copy.accepts
    assert set(net.state_dict()) <= set(copy.state_dict())
    assert copy.inner is not net.inner
    copy(x, time, told, to=time / 2).square().sum().backward()
    assert copy.share.grad != 0
