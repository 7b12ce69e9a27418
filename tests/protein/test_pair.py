"""The pair network: sizes, masks, registers, the table of pairs, what it may be told, and how its teacher is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from fewstep.objectives import Denoising, weights
from fewstep.processes import LogitNormal, flow
from fewstep.protocol import Batch, Centered, Cond, Denoiser, Key, Step
from fewstep_protein.networks.choice import NetworkConfig, beside, network
from fewstep_protein.networks.pair import APART, BINS, BUCKETS, SIZES, PairNet, PairSize
from fewstep_protein.structures.geometry import bonds, dihedrals
from fewstep_protein.structures.segments import split
from fewstep_protein.structures.sources import Windows
from fewstep_protein.teachers.training import PairDenoising, Turned, distogram_loss, guessed, taught

TINY = PairSize(tokens=16, layers=2, heads=2, pairs=8, condition=16, clock=8, places=8, registers=3)
TIME = torch.tensor([300.0, 700.0], dtype=torch.float64)


def shaken(net: PairNet) -> PairNet:
    """In float64, with every parameter perturbed, so that no zero hides anything."""
    net = net.double()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for parameter in net.parameters():
            parameter.data += 0.3 * torch.randn_like(parameter)
    return net


@pytest.fixture
def net() -> PairNet:
    return shaken(PairNet(TINY, 0.6, reads_index=True, lands=True, labels=(3, 5), distogram=True))


def chains(rows: int = 2, count: int = 14) -> Tensor:
    return torch.randn(
        rows, count, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64
    ).cumsum(1)


def masked(lengths: list[int], width: int) -> Tensor:
    return (torch.arange(width)[None] < torch.tensor(lengths)[:, None])[..., None]


@pytest.mark.parametrize(
    ("size", "low", "high"), [("small", 0.9e6, 1.1e6), ("medium", 9e6, 11e6), ("large", 60e6, 66e6)]
)
def test_the_three_sizes_have_about_1_10_and_60_million_parameters(
    size: str, low: float, high: float
) -> None:
    made = network(NetworkConfig(kind="pair", size=size), 0.6)  # type: ignore[arg-type]
    assert low < sum(parameter.numel() for parameter in made.parameters()) < high


def test_padding_neither_acts_nor_is_acted_on(net: PairNet) -> None:
    x = chains()
    alone = net(x[:, :9], TIME, Cond())
    padded = net(x, TIME, Cond(mask=masked([9, 9], 14)))
    torch.testing.assert_close(padded[:, :9], alone, atol=1e-12, rtol=1e-12)
    assert float(padded[:, 9:].abs().max()) == 0


def test_chains_of_a_batch_do_not_see_one_another(net: PairNet) -> None:
    x, mask, order = chains(), masked([14, 11], 14), torch.tensor([1, 0])
    turned = net(x[order], TIME[order], Cond(mask=mask[order]))
    torch.testing.assert_close(turned[order], net(x, TIME, Cond(mask=mask)), atol=1e-12, rtol=1e-12)


def test_every_residue_sees_every_other(net: PairNet) -> None:
    x = chains().requires_grad_(True)
    (seen,) = torch.autograd.grad(net(x, TIME, Cond())[:, 0].square().sum(), x)
    assert bool((seen.abs().sum(-1) > 0).all())


def test_pairs_looked_up_in_a_table_give_the_biases_that_each_pair_gives() -> None:
    net = shaken(PairNet(TINY, 0.6))
    x = chains(2, 100)
    long = net.pairs
    asked = (torch.arange(100)[:, None] - torch.arange(100)[None]).clamp(-63, 63) + 63
    near = torch.bucketize((x[:, :, None] - x[:, None]).norm(dim=-1), long.edges)
    gamma, beta = torch.rand(2, 8, dtype=torch.float64), torch.randn(2, 8, dtype=torch.float64)
    each = long._logits(long.apart(asked) + long.near(near), gamma[:, None, None], beta[:, None, None])
    torch.testing.assert_close(long._from_table(asked, near, gamma, beta), each, atol=1e-12, rtol=0)


def test_a_long_chain_behind_padding_is_what_it_is_alone() -> None:
    """The long one takes the table, the short one does not."""
    net = shaken(PairNet(TINY, 0.6))
    x = chains(2, 96)
    alone = net(x[:, :40], TIME, Cond())
    padded = net(x, TIME, Cond(mask=masked([40, 40], 96)))
    torch.testing.assert_close(padded[:, :40], alone, atol=1e-12, rtol=1e-12)


def test_a_fresh_network_predicts_zero() -> None:
    assert float(PairNet(TINY, 0.6)(chains().float(), TIME.float(), Cond()).abs().max()) == 0


def test_students_and_fakes_start_exactly_as_their_teacher_and_can_be_told_more_later() -> None:
    teacher = shaken(PairNet(TINY, 0.6, labels=(3, 5), distogram=True))
    teacher.index.weight.data.zero_()
    fake = teacher.copied(reads_index=True, lands=True).double()
    x, told = chains(), Cond(index=torch.tensor([1, 2]), data={"cath": torch.tensor([[1, 5], [0, 0]])})
    same = teacher(x, TIME, replace(told, index=None))
    assert torch.equal(fake(x, TIME, told, to=0.5 * TIME), same)
    assert fake.distogram is None
    assert "to" in fake.accepts
    for weight in (fake.index.weight, fake.destination.weight):  # type: ignore[union-attr]
        weight.data += 1
        assert float((fake(x, TIME, told, to=0.5 * TIME) - same).abs().max()) > 1e-6
        weight.data -= 1


def test_labels_start_without_effect_and_zero_means_not_told() -> None:
    net = shaken(PairNet(TINY, 0.6, labels=(3, 5)))
    x = chains()
    for table in net.labels:
        table.weight.data.zero_()
    told = Cond(data={"cath": torch.tensor([[1, 5], [2, 1]])})
    torch.testing.assert_close(net(x, TIME, told), net(x, TIME, Cond()), atol=0, rtol=0)
    net.labels[1].weight.data[5] += 1
    assert float((net(x, TIME, told) - net(x, TIME, Cond()))[0].abs().max()) > 1e-6
    assert torch.equal(net(x, TIME, Cond(data={"cath": torch.zeros(2, 2).long()})), net(x, TIME, Cond()))


def test_a_guess_and_a_chain_break_are_read_where_they_are_told(net: PairNet) -> None:
    x = chains()
    plain = net(x, TIME, Cond())
    assert float((net(x, TIME, guessed(Cond(), x)) - plain).abs().max()) > 1e-6
    broken = torch.zeros(2, 14)
    broken[0, 5] = 1
    there = net(x, TIME, Cond(data={"breaks": broken}))
    assert float((there - plain)[0].abs().max()) > 1e-6
    assert torch.equal(there[1], plain[1])


def test_tokens_of_a_layer_come_out_where_they_are_asked_for(net: PairNet) -> None:
    raw, (first, last) = net(chains(), TIME, Cond(), features=(0, 1))
    assert raw.shape == (2, 14, 3)
    assert first.shape == last.shape == (2, 14, 16)
    torch.testing.assert_close(net.place(net.norm(last)), raw, atol=1e-12, rtol=0)


def test_a_distogram_is_symmetric_and_its_loss_knows_the_right_bins(net: PairNet) -> None:
    logits = net.distogram(net(chains(), TIME, Cond(), features=(1,))[1][0])  # type: ignore[misc]
    torch.testing.assert_close(logits, logits.transpose(1, 2))
    x = torch.tensor([[[0.0, 0, 0], [0.5, 0, 0]]])
    edges = torch.linspace(0.0, 1.0, BUCKETS - 1)
    right = torch.nn.functional.one_hot(torch.bucketize(torch.cdist(x, x), edges), BUCKETS) * 50.0
    early = torch.tensor([0.1])
    assert float(distogram_loss(right, x, None, early)) < 1e-6
    assert float(distogram_loss(right.roll(1, -1), x, None, early)) > 10
    assert float(distogram_loss(right.roll(1, -1), x, None, torch.tensor([0.9]))) == 0
    padded = torch.cat([x, torch.full((1, 3, 3), 9.0)], 1)
    wrong = torch.zeros(1, 5, 5, BUCKETS)
    wrong[:, :2, :2] = right
    assert float(distogram_loss(wrong, padded, masked([2], 5), early)) < 1e-6


def test_turned_chains_keep_their_shape_and_their_hand_and_every_turn_is_another() -> None:
    plain = Windows(split(held_out=False), 4, 20, 20)
    before, after = plain.batch(3, Key(0)).x, Turned(plain).batch(3, Key(0)).x
    torch.testing.assert_close(bonds(after), bonds(before), atol=1e-5, rtol=0)
    torch.testing.assert_close(dihedrals(after), dihedrals(before), atol=1e-3, rtol=0)
    assert float((after - before).abs().amax((1, 2)).min()) > 0.05
    assert torch.equal(after, Turned(plain).batch(3, Key(0)).x)
    one, other = (torch.linalg.lstsq(before[i], after[i]).solution for i in (0, 1))
    assert float((one - other).abs().max()) > 0.05


def test_turns_are_uniform_their_mean_is_zero() -> None:
    class Axes:
        def batch(self, index: int, key: Key) -> Batch:
            x = torch.eye(3).expand(4096, 3, 3)
            return Batch(like=x, x=x)

    mean = Turned(Axes()).batch(0, Key(1)).x.mean(0)
    assert float(mean.abs().max()) < 4 * (1 / 3 / 4096) ** 0.5


def test_a_pair_teacher_learns_and_its_distogram_learns_with_it() -> None:
    """Four draws of times, noise and whether a guess is shown, again and again: both losses of the same draws fall."""
    batch, draws, updates = Turned(Windows(split(held_out=False), 8, 12, 12)).batch(0, Key(0)), 4, 48
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = PairNet(TINY, 0.5, distogram=True)
    model = Denoiser(net, flow(t_min=0.01, sigma_data=0.5, geometry=Centered()), "edm")
    config = NetworkConfig(kind="pair", distogram=True, self_conditioning=True)
    objective = taught(Denoising(LogitNormal(-0.8, 1.3, 0.01, 1.0), weights.edm, role="teacher"), config)
    assert isinstance(objective, PairDenoising)
    adam = torch.optim.Adam(model.parameters(), 2e-2)
    logs = []
    for index in range(updates):
        step = Step(index, updates, Key(0).at(index % draws))
        found = objective.loss(objective.phases(index)[0], {"teacher": model}, batch, step)
        adam.zero_grad()
        found.total.backward()  # type: ignore[no-untyped-call]
        adam.step()
        logs.append(found.logs)
    for name, share in (("loss", 0.85), ("distogram", 0.7)):
        first, last = (sum(float(log[name]) for log in part) for part in (logs[:draws], logs[-draws:]))
        assert last < share * first, f"{name}: {last / draws:.3f} after {first / draws:.3f}"


def test_the_equivariant_network_is_made_fresh_and_a_pair_network_is_copied() -> None:
    plain = NetworkConfig(width=8, rounds=1, layers=1, heads=2)
    made = beside(network(plain, 0.6), plain, 0.6, reads_index=True)
    assert type(made).__name__ == "ChainNet"
    teacher = PairNet(TINY, 0.6)
    copy = beside(teacher, plain, 0.6, reads_index=True)
    assert isinstance(copy, PairNet)
    assert (copy.reads_index, copy.size) == (True, TINY)
    assert torch.equal(copy.see.weight, teacher.see.weight)
    assert copy.see.weight is not teacher.see.weight


def test_heads_that_only_a_pair_network_has_are_refused_for_another() -> None:
    with pytest.raises(ValidationError, match=r"need network\.kind 'pair'"):
        NetworkConfig(distogram=True)


def pair_memory(length: int, size: PairSize) -> tuple[int, int]:
    """Bytes beside the parameters for one chain: at the peak of a call, and kept by a training step for its backward pass.

    All numbers are float32. A call peaks where pairs are described (three versions of a description), or where the biases
    of all layers are written a second time beside three whole numbers for each pair. A step keeps five versions of the
    description, biases, attention weights, and about forty numbers for each channel of a token in each layer.

    Args:
        length: residues.
        size: widths.
    """
    tokens = length + size.registers
    described = min(length**2, (2 * APART + 1) * BINS)
    biases = size.layers * size.heads * tokens**2
    call = max(3 * described * size.pairs, 2 * biases + 6 * length**2)
    step = 5 * described * size.pairs + 2 * biases + 40 * size.layers * tokens * size.tokens
    return 4 * call, 4 * step


def test_the_memory_of_a_call_is_what_the_formula_says() -> None:
    """Counted from every allocation of a call and of a training step, for a short and a long chain."""
    net = PairNet(SIZES["small"], 0.6)
    for length in (50, 128):
        x, time = torch.randn(1, length, 3), torch.tensor([500.0])

        def call(x: Tensor = x, time: Tensor = time) -> None:
            with torch.no_grad():
                net(x, time, Cond())

        def step(x: Tensor = x, time: Tensor = time) -> None:
            net(x, time, Cond()).square().sum().backward()
            net.zero_grad()

        for said, measured in zip(pair_memory(length, SIZES["small"]), (peak(call), peak(step)), strict=True):
            assert 0.75 * measured < said < 1.33 * measured, (length, said, measured)


def peak(work: Callable[[], None]) -> int:
    """Most bytes that are alive at one time beyond those before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        work()
    now = most = 0
    for event in found.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    return most
