"""The chain network: equivariance, chirality, masks, the step index."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fewstep.engine.ownership import copy_matching
from fewstep.objectives.tangent import Difference, forward
from fewstep.processes import flow
from fewstep.protocol import Centered, Cond, Denoiser, Graph
from fewstep.runs.graphs import FORMATS
from fewstep_protein.networks.bumps import bumps
from fewstep_protein.networks.chain import GAPS, ChainNet
from fewstep_protein.networks.contacts import NEAR, contacts
from fewstep_protein.networks.prior import modes


@pytest.fixture
def net() -> ChainNet:
    """A network whose zero-initialized heads are perturbed, in float64."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        made = ChainNet(16, 2, 1, 2, reads_index=True).double()
        for parameter in made.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    return made


def like(net: ChainNet, *, labels: tuple[int, ...] = (), lands: bool = False) -> ChainNet:
    """A fresh network of the same shape that is told more."""
    return ChainNet(16, 2, 1, 2, reads_index=True, labels=labels, lands=lands).double()


def chains(rows: int = 2, count: int = 14) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(rows, count, 3, generator=generator, dtype=torch.float64)


def cond(lengths: list[int], width: int, index: int | None = None) -> Cond:
    mask = (torch.arange(width)[None] < torch.tensor(lengths)[:, None])[..., None]
    return Cond(mask=mask, index=None if index is None else torch.full((len(lengths),), index))


TIME = torch.tensor([300.0, 700.0], dtype=torch.float64)


def test_turning_the_input_turns_the_output(net: ChainNet) -> None:
    turn, _ = torch.linalg.qr(
        torch.randn(3, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    )
    turn = turn * torch.linalg.det(turn).sign()
    x = chains()
    torch.testing.assert_close(
        net(x @ turn.T, TIME, Cond()), net(x, TIME, Cond()) @ turn.T, atol=1e-9, rtol=1e-9
    )


def test_a_mirror_image_is_not_mirrored_back(net: ChainNet) -> None:
    flip = torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64)
    x = chains()
    assert float((net(x * flip, TIME, Cond()) - net(x, TIME, Cond()) * flip).detach().abs().max()) > 1e-3


def test_moving_the_input_changes_nothing(net: ChainNet) -> None:
    x = chains()
    torch.testing.assert_close(net(x + 4.0, TIME, Cond()), net(x, TIME, Cond()), atol=1e-9, rtol=1e-9)


def test_padding_neither_acts_nor_is_acted_on(net: ChainNet) -> None:
    x = chains()
    alone = net(x[:, :9], TIME, Cond())
    padded = net(x, TIME, cond([9, 9], 14))
    torch.testing.assert_close(padded[:, :9], alone, atol=1e-12, rtol=1e-12)
    assert float(padded[:, 9:].abs().max()) == 0


def test_chains_of_a_batch_do_not_see_one_another(net: ChainNet) -> None:
    x, shown = chains(), cond([14, 11], 14)
    order = torch.tensor([1, 0])
    turned = net(x[order], TIME[order], Cond(mask=shown.mask[order]))
    torch.testing.assert_close(turned[order], net(x, TIME, shown), atol=1e-12, rtol=1e-12)


def test_a_fresh_network_answers_with_the_posterior_mean_of_a_gaussian_chain() -> None:
    """Against the posterior mean in coordinates, S (a^2 S + s^2)^-1 a x_t, with S assembled from the modes."""
    process = replace(flow(sigma_data=0.7, geometry=Centered()), t_min=0.01)
    shown = cond([14, 11], 14)
    model = Denoiser(ChainNet(16, 2, 1, 2, sigma_data=0.7).double(), process, "edm")
    xt, t = process.on(shown.mask).geometry.project(chains()), torch.tensor([0.05, 0.8], dtype=torch.float64)
    waves = modes(shown.mask[..., 0], torch.float64)
    covariance = waves.basis @ (waves.variance * waves.basis.mT)
    noisy = (1 - t)[:, None, None] ** 2 * covariance + t[:, None, None] ** 2 * torch.eye(14)
    expected = (1 - t)[:, None, None] * covariance @ torch.linalg.solve(noisy, xt)
    torch.testing.assert_close(model(xt, t, shown).x0, expected, atol=1e-9, rtol=1e-9)


def test_modes_are_orthonormal_and_leave_the_center_and_the_padding_out() -> None:
    basis = modes(cond([14, 11], 14).mask[..., 0], torch.float64).basis
    expected = torch.stack([torch.diag((torch.arange(14) > 0) & (torch.arange(14) < n)) for n in (14, 11)])
    torch.testing.assert_close(basis.mT @ basis, expected.double(), atol=1e-12, rtol=0)
    torch.testing.assert_close(basis.sum(1), torch.zeros(2, 14, dtype=torch.float64), atol=1e-12, rtol=0)


def test_labels_say_nothing_at_first_and_class_zero_never_does(net: ChainNet) -> None:
    told = like(net, labels=(3, 5, 7))
    copy_matching(told, net)
    x, cath = chains(), torch.tensor([[1, 2, 0], [3, 0, 0]])
    torch.testing.assert_close(told(x, TIME, Cond({"cath": cath})), net(x, TIME, Cond()))
    told(x, TIME, Cond({"cath": cath})).square().mean().backward()
    torch.optim.SGD(told.parameters(), lr=0.1).step()
    unsaid = told(x, TIME, Cond({"cath": torch.zeros_like(cath)}))
    torch.testing.assert_close(unsaid, told(x, TIME, Cond()))
    assert not torch.allclose(told(x, TIME, Cond({"cath": cath})), unsaid, rtol=1e-3)


def test_a_fake_starts_as_its_teacher_and_can_tell_steps_apart_later(net: ChainNet) -> None:
    net.index.weight.data.zero_()
    x = chains()
    torch.testing.assert_close(net(x, TIME, cond([14, 14], 14, 3)), net(x, TIME, cond([14, 14], 14)))
    net.index.weight.data[3] += 1
    assert (
        float((net(x, TIME, cond([14, 14], 14, 3)) - net(x, TIME, cond([14, 14], 14, 2))).abs().max()) > 1e-6
    )


def test_a_network_that_does_not_read_the_index_ignores_it() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        made = ChainNet(16, 1, 1, 2).double()
        for parameter in made.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    x = chains()
    torch.testing.assert_close(made(x, TIME, cond([14, 14], 14, 3)), made(x, TIME, cond([14, 14], 14)))


def test_a_flow_map_starts_as_its_teacher_and_learns_where_to_land(net: ChainNet) -> None:
    told = like(net, lands=True)
    assert set(copy_matching(told, net)) == set(net.state_dict())
    x, near, far = chains(), torch.zeros_like(TIME), TIME / 2
    assert torch.equal(told(x, TIME, Cond(), to=near), net(x, TIME, Cond()))
    told(x, TIME, Cond(), to=far).square().mean().backward()
    torch.optim.SGD(told.parameters(), lr=0.1).step()
    assert not torch.allclose(told(x, TIME, Cond(), to=near), told(x, TIME, Cond(), to=far), rtol=1e-3)


def test_its_derivative_in_forward_mode_is_the_difference(net: ChainNet) -> None:
    path = (chains(), TIME), (0.1 * chains().roll(1, 1), torch.full_like(TIME, 0.1))
    found = [derivative(lambda x, t: net(x, t, Cond()), *path) for derivative in (forward, Difference())]
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-6)


def test_distances_are_read_in_single_precision_under_autocast() -> None:
    gap = torch.linspace(0.0, 3.0, 200)[:, None]
    with torch.autocast("cpu", torch.bfloat16):
        found = bumps(gap, GAPS)
    torch.testing.assert_close(found, bumps(gap.double(), GAPS).float(), atol=1e-4, rtol=0)


def test_a_crowd_is_counted_and_points_to_who_is_near_in_space_alone() -> None:
    """A hairpin whose strands are 0.5 nm apart: its ends are in contact across, its turn is only near along the chain."""
    strand = torch.arange(4, dtype=torch.float64)[:, None] * torch.tensor([10.0, 0.0, 0.0])
    hairpin = torch.cat([strand, strand.flip(0) + torch.tensor([0.0, 0.5, 0.0])])[None]
    gap = torch.cdist(hairpin, hairpin)
    crowd, toward = contacts(hairpin, gap, torch.ones(1, 8, dtype=torch.bool), torch.full((1, 1, 1), 1e-3))
    at_half = [center for center, _ in NEAR].index(0.5)
    expected = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(crowd[0, :, at_half], torch.tanh(expected / 2), atol=1e-6, rtol=0)
    assert bool((toward[0, :3, at_half, 1] > 0.5).all() and (toward[0, 5:, at_half, 1] < -0.5).all())
    assert float(toward[0, 3:5].abs().max()) < 1e-6


@pytest.mark.slow  # ONNX's exporter takes seconds to import
def test_the_network_runs_elsewhere_with_chains_of_any_number_and_length(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    module = Told(ChainNet(8, 1, 1, 2))
    for parameter in module.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(4))

    def example(rows: int, count: int) -> tuple[Tensor, ...]:
        mask = cond([count - 3, *[count] * (rows - 1)], count).mask
        assert mask is not None
        return chains(rows, count).float() * mask, torch.linspace(5, 900, rows), mask

    shown = [(given, [module(*given).detach()]) for given in (example(2, 12), example(3, 16))]
    ports = dict.fromkeys(("x", "time", "mask"), "")
    FORMATS["onnx"].write(Graph("net", module, ports, {"raw": ""}, shown), tmp_path / "net.onnx")
    answer = FORMATS["onnx"].read(tmp_path / "net.onnx")
    for given in (example(1, 9), example(4, 40)):
        torch.testing.assert_close(answer(given), [module(*given).detach()], atol=1e-4, rtol=1e-4)


class Told(torch.nn.Module):
    """The network with a mask for a condition."""

    def __init__(self, net: ChainNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, time: Tensor, mask: Tensor) -> Tensor:
        return self.net(x, time, Cond(mask=mask))
