"""Checkpoints under the published names of Proteina, and teachers from elsewhere that are distilled whole."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fewstep
from fewstep.config import TeacherConfig
from fewstep.errors import FewstepError
from fewstep.objectives import Denoising
from fewstep.objectives.weights import edm
from fewstep.processes import LogitNormal, flow
from fewstep.protocol import Batch, Centered, Cond, Denoiser, Key, Step
from fewstep_protein.networks.pair import PairNet, PairSize
from fewstep_protein.structures.segments import split
from fewstep_protein.structures.sources import Windows, pad
from fewstep_protein.teachers.conventions import Convention
from fewstep_protein.teachers.loading import given_teacher
from fewstep_protein.teachers.outputs import Output
from fewstep_protein.teachers.proteina import is_published, pair_network, proteina_teacher, read_folds
from fewstep_protein.teachers.training import Turned

PROCESS = flow(t_min=0.01, sigma_data=0.5, geometry=Centered())


# Published checkpoints. The structure below is written out plainly, pair by pair, as the paper describes it.

SMALL = PairSize(tokens=16, layers=2, heads=2, pairs=8, condition=12, clock=8, places=8, registers=3)


def fresh() -> Denoiser:
    return Denoiser(PairNet(SMALL, PROCESS.sigma_data), PROCESS, "edm")


def known_chains() -> Batch:
    """Twelve residues of each of eight real chains."""
    return pad([s.coordinates[:12] for s in split(held_out=False)[:8]], 12)


FOLDS, FOLD = (3, 5, 7), 4


def published(seed: int = 0, prefix: str = "nn.") -> dict[str, Tensor]:
    """Random weights under the published names and shapes."""
    size, draw = SMALL, torch.Generator().manual_seed(seed)
    c, k, p, t = size.tokens, size.condition, size.pairs, size.clock
    shapes: dict[str, tuple[int, ...]] = {
        "registers": (size.registers, c),
        "linear_3d_embed.weight": (c, 3),
        "init_repr_factory.linear_out.weight": (c, size.places + 4),
        "cond_factory.linear_out.weight": (k, t + 3 * FOLD),
        "pair_repr_builder.init_repr_factory.linear_out.weight": (p, 127 + 128 + 64),
        "pair_repr_builder.cond_factory.linear_out.weight": (k, t),
        "coors_3d_decoder.1.weight": (3, c),
    }
    for level, count in zip("CAT", FOLDS, strict=True):
        shapes[f"cond_factory.feat_creators.1.embedding_{level}.weight"] = (count + 1, FOLD)

    def norm(name: str, width: int) -> None:
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (width,)

    def linear(name: str, rows: int, columns: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (rows, columns), (rows,)

    def feed(name: str, width: int, widening: int) -> None:
        shapes[f"{name}.swish_linear.0.weight"] = (2 * widening * width, width)
        shapes[f"{name}.linear_out.weight"] = (width, widening * width)

    def adaptive(name: str, width: int) -> None:
        norm(f"{name}.norm_cond", k)
        linear(f"{name}.to_gamma.0", width, k)
        shapes[f"{name}.to_beta.weight"] = (width, k)

    norm("pair_repr_builder.init_repr_factory.ln_out", p)
    norm("pair_repr_builder.cond_factory.ln_out", k)
    adaptive("pair_repr_builder.adaln", p)
    norm("coors_3d_decoder.0", c)
    feed("transition_c_1", k, 2)
    feed("transition_c_2", k, 2)
    for number in range(size.layers):
        base = f"transformer_layers.{number}"
        adaptive(f"{base}.mhba.adaln", c)
        norm(f"{base}.mhba.mha.node_norm", c)
        linear(f"{base}.mhba.mha.to_qkv", 3 * c, c)
        linear(f"{base}.mhba.mha.to_g", c, c)
        linear(f"{base}.mhba.mha.to_out_node", c, c)
        norm(f"{base}.mhba.mha.q_layer_norm", c)
        norm(f"{base}.mhba.mha.k_layer_norm", c)
        shapes[f"{base}.mhba.mha.to_bias.weight"] = (size.heads, p)
        norm(f"{base}.mhba.mha.pair_norm", p)
        linear(f"{base}.mhba.scale_output.to_adaln_zero_gamma.0", c, k)
        adaptive(f"{base}.transition.adaln", c)
        feed(f"{base}.transition.transition", c, 4)
        linear(f"{base}.transition.scale_output.to_adaln_zero_gamma.0", c, k)
    return {
        prefix + name: 0.5 * torch.randn(shape, generator=draw, dtype=torch.float64)
        for name, shape in shapes.items()
    }


class Plainly:
    """The published network, told nothing but coordinates, time, mask and fold: every pair is described for itself."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self.w = {name.removeprefix("nn."): value for name, value in weights.items()}

    def __call__(self, xt: Tensor, t: Tensor, real: Tensor, fold: Tensor) -> Tensor:
        w, count = self.w, xt.shape[1]
        clock = self.waves(2000 * t, SMALL.clock)
        tables = [w[f"cond_factory.feat_creators.1.embedding_{level}.weight"] for level in "CAT"]
        folds = [table[fold[:, i] - 1] for i, table in enumerate(tables)]  # their null is the last row
        told = torch.cat([clock, *folds], -1) @ w["cond_factory.linear_out.weight"].T
        told = self.feed("transition_c_2", self.feed("transition_c_1", told))
        known = torch.zeros(len(xt), count, SMALL.places + 4, dtype=xt.dtype)
        power = 2056 ** (torch.arange(SMALL.places // 2) * 2 / SMALL.places).double()
        angle = torch.arange(1, count + 1)[:, None] * torch.pi / power
        known[..., : SMALL.places] = torch.cat([angle.sin(), angle.cos()], -1)
        tokens = (
            xt @ w["linear_3d_embed.weight"].T + known @ w["init_repr_factory.linear_out.weight"].T
        ) * real[..., None]
        tokens = torch.cat([w["registers"].expand(len(xt), -1, -1), tokens], 1)
        context = torch.zeros(len(xt), tokens.shape[1], SMALL.condition, dtype=xt.dtype)
        context[:, SMALL.registers :] = told[:, None] * real[..., None]
        there = F.pad(real, (SMALL.registers, 0), value=True)
        pairs = F.pad(self.pairs(xt, real, clock), (0, 0, SMALL.registers, 0, SMALL.registers, 0))
        for number in range(SMALL.layers):
            tokens = self.layer(f"transformer_layers.{number}", tokens, context, pairs, there)
        out = self.norm("coors_3d_decoder.0", tokens[:, SMALL.registers :]) @ w["coors_3d_decoder.1.weight"].T
        return out * real[..., None]

    def pairs(self, xt: Tensor, real: Tensor, clock: Tensor) -> Tensor:
        base, place = "pair_repr_builder", torch.arange(xt.shape[1])
        apart = F.one_hot((place[:, None] - place).clamp(-63, 63) + 63, 127)
        near = torch.bucketize(torch.cdist(xt, xt), torch.linspace(0.1, 3.0, 63))
        features = torch.cat(
            [
                apart.expand(len(xt), -1, -1, -1),
                torch.zeros(*near.shape, 128),
                F.one_hot(near, 64),
            ],
            -1,
        ).double()
        described = self.norm(
            f"{base}.init_repr_factory.ln_out",
            features @ self.w[f"{base}.init_repr_factory.linear_out.weight"].T,
        )
        when = self.norm(
            f"{base}.cond_factory.ln_out", clock @ self.w[f"{base}.cond_factory.linear_out.weight"].T
        )
        both = real[:, :, None] & real[:, None]
        return self.adaptive(f"{base}.adaln", described, when[:, None, None]) * both[..., None]

    def layer(self, base: str, x: Tensor, context: Tensor, pairs: Tensor, real: Tensor) -> Tensor:
        mha = f"{base}.mhba.mha"
        seen = self.norm(f"{mha}.node_norm", self.adaptive(f"{base}.mhba.adaln", x, context))
        query, key, value = self.linear(f"{mha}.to_qkv", seen).chunk(3, -1)
        query, key = self.norm(f"{mha}.q_layer_norm", query), self.norm(f"{mha}.k_layer_norm", key)
        bias = self.norm(f"{mha}.pair_norm", pairs) @ self.w[f"{mha}.to_bias.weight"].T
        mixed = []
        for head in range(SMALL.heads):
            part = slice(head * 8, head * 8 + 8)
            logits = query[..., part] @ key[..., part].mT / 8**0.5 + bias[..., head]
            weight = logits.masked_fill(~real[:, None], -torch.inf).softmax(-1)
            mixed.append(weight @ value[..., part])
        out = self.linear(
            f"{mha}.to_out_node", self.linear(f"{mha}.to_g", seen).sigmoid() * torch.cat(mixed, -1)
        )
        x = x + out * self.linear(f"{base}.mhba.scale_output.to_adaln_zero_gamma.0", context).sigmoid()
        fed = self.feed(
            f"{base}.transition.transition", self.adaptive(f"{base}.transition.adaln", x, context)
        )
        return (
            x + fed * self.linear(f"{base}.transition.scale_output.to_adaln_zero_gamma.0", context).sigmoid()
        )

    def norm(self, name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.w[f"{name}.weight"], self.w[f"{name}.bias"])

    def linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.w[f"{name}.weight"], self.w[f"{name}.bias"])

    def feed(self, name: str, x: Tensor) -> Tensor:
        value, gate = (x @ self.w[f"{name}.swish_linear.0.weight"].T).chunk(2, -1)
        return (F.silu(gate) * value) @ self.w[f"{name}.linear_out.weight"].T

    def adaptive(self, name: str, x: Tensor, context: Tensor) -> Tensor:
        context = self.norm(f"{name}.norm_cond", context)
        gamma = self.linear(f"{name}.to_gamma.0", context).sigmoid()
        return F.layer_norm(x, x.shape[-1:]) * gamma + context @ self.w[f"{name}.to_beta.weight"].T

    def waves(self, t: Tensor, width: int) -> Tensor:
        speed = 2000 ** -(torch.arange(width // 2).double() / (width // 2 - 1))
        angle = t[:, None] * speed
        return torch.cat([angle.sin(), angle.cos()], -1)


@pytest.mark.parametrize("count", [20, 96])
def test_published_weights_make_the_published_function(count: int) -> None:
    """96 residues take the table of pairs, 20 do not; one chain is padded; folds are told, partly and not at all."""
    weights = published()
    x = torch.randn(3, count, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    real = torch.arange(count)[None] < torch.tensor([count, count - 7, count // 2])[:, None]
    x, t = x * real[..., None], torch.tensor([0.02, 0.5, 0.99], dtype=torch.float64)
    fold = torch.tensor([[0, 0, 0], [3, 5, 7], [2, 0, 0]])
    want = Plainly(weights)(x, 1 - t, real, fold)
    net = pair_network(weights, Convention("x1"), 0.5).double()
    size = (((1 - t) * 0.5).square() + t.square()).sqrt()[:, None, None]
    got = net(x / size, 1000 * t, Cond(mask=real[..., None], data={"cath": fold}))
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)  # weights are kept in float32
    assert float(want.abs().mean()) > 0.1


@pytest.mark.parametrize("output", ["x1", "v"])
def test_a_published_network_in_angstrom_is_the_same_teacher(output: Output) -> None:
    weights = published()
    scaled = dict(weights)
    scaled["nn.linear_3d_embed.weight"] = weights["nn.linear_3d_embed.weight"] / 10
    scaled["nn.coors_3d_decoder.1.weight"] = weights["nn.coors_3d_decoder.1.weight"] * 10
    xt, t = torch.randn(2, 9, 3), torch.tensor([0.1, 0.9], dtype=torch.float64)
    one, other = (
        proteina_teacher(found, Convention(output, unit), PROCESS)(xt, t, Cond()).x0
        for found, unit in ((weights, "nm"), (scaled, "angstrom"))
    )
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_v_and_x1_of_a_published_network_are_what_their_names_say() -> None:
    weights, xt, t = published(), torch.randn(2, 9, 3), torch.tensor([0.1, 0.9], dtype=torch.float64)
    clean = proteina_teacher(weights, Convention("x1"), PROCESS)(xt, t, Cond()).raw
    moved = proteina_teacher(weights, Convention("v"), PROCESS)(xt, t, Cond()).x0
    shown = Centered().project(xt + t[:, None, None].float() * clean)
    torch.testing.assert_close(moved, shown, atol=1e-5, rtol=1e-5)


def test_sizes_are_read_from_shapes_with_any_prefix() -> None:
    for prefix in ("nn.", "", "model.nn."):
        weights = published(prefix=prefix)
        assert is_published(weights)
        assert pair_network(weights, Convention("v"), 0.5).size == SMALL
    assert not is_published(fresh().state_dict())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"nn.pair_update_layers.0.linear_x.weight": (4, 4)}, "pair updates"),
        ({"nn.pair_repr_builder.init_repr_factory.linear_out.weight": (8, 400)}, "400 pair features"),
        ({"nn.transformer_layers.1.mhba.mha.to_g.bias": None}, "not a whole Proteina network"),
        ({"nn.coors_3d_decoder.1.weight": (3, 17)}, "not a whole Proteina network"),
    ],
)
def test_other_networks_under_those_names_are_refused(
    change: dict[str, tuple[int, ...] | None], told: str
) -> None:
    weights = published()
    for name, shape in change.items():
        weights.pop(name, None)
        if shape is not None:
            weights[name] = torch.zeros(shape)
    with pytest.raises(FewstepError, match=told):
        pair_network(weights, Convention("v"), 0.5)


def test_weights_that_denoise_nothing_are_refused_even_under_the_right_names(tmp_path: Path) -> None:
    torch.save({"state_dict": published()}, tmp_path / "random.ckpt")
    source = TeacherConfig(kind="checkpoint", path=str(tmp_path / "random.ckpt"))
    with pytest.raises(FewstepError, match="does not denoise real chains as v in nm"):
        given_teacher(source, None, "nm", PROCESS, fresh, known_chains)


class Pickled:
    """Stands for the settings that Lightning keeps beside weights."""


def test_a_checkpoint_with_pickled_objects_is_refused_not_run(tmp_path: Path) -> None:
    torch.save({"state_dict": published(), "hyper_parameters": Pickled()}, tmp_path / "whole.ckpt")
    source = TeacherConfig(kind="checkpoint", path=str(tmp_path / "whole.ckpt"))
    with pytest.raises(FewstepError, match="save its state_dict alone"):
        given_teacher(source, None, "nm", PROCESS, fresh, known_chains)


def test_our_own_checkpoint_needs_no_declaration_and_refuses_one(tmp_path: Path) -> None:
    torch.save(fresh().state_dict(), tmp_path / "own.pt")
    source = TeacherConfig(kind="checkpoint", path=str(tmp_path / "own.pt"))
    assert given_teacher(source, None, "nm", PROCESS, fresh, known_chains) is not None
    with pytest.raises(FewstepError, match="means nothing"):
        given_teacher(source, "v", "nm", PROCESS, fresh, known_chains)
    assert given_teacher(TeacherConfig(), None, "nm", PROCESS, fresh, known_chains) is None


def test_codes_of_a_published_network_are_found_under_our_numbers(tmp_path: Path) -> None:
    """Ours: two classes, then architectures. Theirs: other numbers, and one code that they do not know."""
    known = {"C": {"1": 2, "2": 0}, "A": {"1.10": 4}, "T": {}}
    torch.save(known, tmp_path / "numbers.pt")
    folds = read_folds(str(tmp_path / "numbers.pt"), (("1", "2"), ("1.10", "9.99"), ("1.10.8",)))
    theirs = pair_network(published(), Convention("v"), 0.5)
    ours = pair_network(published(), Convention("v"), 0.5, folds)
    assert ours.counts == (2, 2, 1)
    wanted = ([0, 3, 1], [0, 5, 0], [0, 0])  # the row of a code is one beyond its number, row 0 is "not told"
    for table, other, rows in zip(ours.labels, theirs.labels, wanted, strict=True):
        assert torch.equal(table.weight, other.weight[torch.tensor(rows)])  # type: ignore[union-attr]


def test_without_their_numbers_labels_change_nothing() -> None:
    net = pair_network(published(), Convention("v"), 0.5, read_folds(None, (("1", "2"), ("1.10",), ())))
    x, time = torch.randn(2, 9, 3), torch.tensor([300.0, 700.0])
    told = Cond(data={"cath": torch.tensor([[2, 1, 0], [1, 0, 0]])})
    assert torch.equal(net(x, time, told), net(x, time, Cond()))


def test_a_file_that_holds_no_numbers_of_codes_is_refused(tmp_path: Path) -> None:
    torch.save({"C": torch.zeros(3)}, tmp_path / "numbers.pt")
    for path in (tmp_path / "numbers.pt", tmp_path / "absent.pt"):
        with pytest.raises(FewstepError, match="teacher_labels"):
            read_folds(str(path), (("1",), (), ()))


def under_published_names(net: PairNet, per_nm: float) -> dict[str, Tensor]:
    """What Proteina would save, had it trained this network: v in its unit, tables of folds through one linear map."""
    own, size = net.state_dict(), net.size
    shapes = {
        name.removeprefix("nn."): torch.zeros_like(value, dtype=torch.float32)
        for name, value in published().items()
    }
    out = {**shapes, "registers": own["registers"]}
    out["linear_3d_embed.weight"] = own["see.weight"] / per_nm
    out["coors_3d_decoder.1.weight"] = -per_nm * own["place.weight"]
    out["init_repr_factory.linear_out.weight"] = own["read.weight"]
    out["cond_factory.linear_out.weight"] = torch.cat(
        [own["clock.weight"], torch.zeros(size.condition, 3 * FOLD)], 1
    )
    tables = [own[f"pairs.{name}.weight"].T for name in ("apart", "guessed", "near")]
    out["pair_repr_builder.init_repr_factory.linear_out.weight"] = torch.cat(tables, 1)
    out["pair_repr_builder.cond_factory.linear_out.weight"] = own["pairs.clock.weight"]
    names = {
        "coors_3d_decoder.0": "norm",
        "pair_repr_builder.init_repr_factory.ln_out": "pairs.norm",
        "pair_repr_builder.cond_factory.ln_out": "pairs.clock_norm",
        "pair_repr_builder.adaln.norm_cond": "pairs.scale.norm",
        "pair_repr_builder.adaln.to_gamma.0": "pairs.scale.gamma",
        "pair_repr_builder.adaln.to_beta": "pairs.scale.beta",
    }
    for number in (0, 1):
        names[f"transition_c_{number + 1}.swish_linear.0"] = f"settle.{number}.rise"
        names[f"transition_c_{number + 1}.linear_out"] = f"settle.{number}.fall"
    for number in range(size.layers):
        theirs, ours = f"transformer_layers.{number}", f"layers.{number}"
        out[f"{theirs}.mhba.mha.pair_norm.weight"] = torch.ones(size.pairs)
        out[f"{theirs}.mhba.mha.to_bias.weight"] = own["pairs.bias.weight"].chunk(size.layers)[number]
        for part, scale, feed in (
            ("mhba", "scale", "out_scale"),
            ("transition", "feed_scale", "feed_out_scale"),
        ):
            names[f"{theirs}.{part}.adaln.norm_cond"] = f"{ours}.{scale}.norm"
            names[f"{theirs}.{part}.adaln.to_gamma.0"] = f"{ours}.{scale}.gamma"
            names[f"{theirs}.{part}.adaln.to_beta"] = f"{ours}.{scale}.beta"
            names[f"{theirs}.{part}.scale_output.to_adaln_zero_gamma.0"] = f"{ours}.{feed}"
        for name, mine in {
            "node_norm": "norm",
            "to_qkv": "qkv",
            "q_layer_norm": "query_norm",
            "k_layer_norm": "key_norm",
            "to_g": "gate",
            "to_out_node": "out",
        }.items():
            names[f"{theirs}.mhba.mha.{name}"] = f"{ours}.{mine}"
        names[f"{theirs}.transition.transition.swish_linear.0"] = f"{ours}.feed.rise"
        names[f"{theirs}.transition.transition.linear_out"] = f"{ours}.feed.fall"
    for name, mine in names.items():
        out |= {
            f"{name}.{part}": own[f"{mine}.{part}"] for part in ("weight", "bias") if f"{mine}.{part}" in own
        }
    assert set(out) == set(shapes)
    return {f"nn.{name}": value.clone() for name, value in out.items()}


@pytest.fixture(scope="module")
def elsewhere_trained() -> Denoiser:
    """A small pair network that learned v for some seconds, in another project for all that anybody can tell."""
    process, updates = flow(t_min=0.005, sigma_data=0.6, geometry=Centered()), 50
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Denoiser(PairNet(SMALL, process.sigma_data), process, "flow")
    objective = Denoising(LogitNormal(-0.8, 1.3, 0.005, 1.0), edm, role="teacher")
    source = Turned(Windows(split(held_out=False), 8, 16, 16))
    adam = torch.optim.Adam(model.parameters(), 1e-2)
    for index in range(updates):
        step = Step(index, updates, Key(0).at(index))
        batch = source.batch(index, Key(0))
        adam.zero_grad()
        objective.loss(objective.phases(index)[0], {"teacher": model}, batch, step).total.backward()  # type: ignore[no-untyped-call]
        adam.step()
    return model


@pytest.mark.recipe
def test_a_checkpoint_in_their_names_unit_and_time_is_distilled(
    elsewhere_trained: Denoiser, tmp_path: Path
) -> None:
    path = tmp_path / "theirs.ckpt"
    torch.save({"state_dict": under_published_names(elsewhere_trained.net, 10.0)}, path)  # type: ignore[arg-type]
    few = {
        "shortest": 12,
        "longest": 16,
        "steps": 2,
        "updates": 4,
        "batch": 4,
        "samples": 8,
        "teacher_steps": 5,
    }
    asked = {
        "teacher": {"kind": "checkpoint", "path": str(path)},
        "teacher_unit": "angstrom",
        "curves": False,
    }
    run = fewstep.run("protein/sid-backbone", out=tmp_path / "runs", quiet=True, **few, **asked)
    before, after = elsewhere_trained.net.state_dict(), run.shelf["student"].net.state_dict()
    moved = [
        float((after[name] - before[name]).norm() / before[name].norm())
        for name in ("see.weight", "read.weight")
    ]
    assert all(0 < share < 0.1 for share in moved), moved
    assert run.shelf["student"].prediction == "flow"


@pytest.mark.recipe
def test_anybodys_network_is_distilled_by_its_name(
    elsewhere_trained: Denoiser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plain module that knows neither the core nor steps: its fake is told the step by a part of ours."""

    class Theirs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = elsewhere_trained.net

        def forward(self, xt: Tensor, t: Tensor, mask: Tensor) -> Tensor:
            spread = ((t * 0.6).square() + (1 - t).square()).sqrt()[:, None, None]
            return -10 * self.net(xt / 10 / spread, 1000 * (1 - t), Cond(mask=mask[..., None]))

    module = ModuleType("somebodys")
    module.net = Theirs  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "somebodys", module)
    few = {
        "shortest": 12,
        "longest": 16,
        "steps": 2,
        "updates": 4,
        "batch": 4,
        "samples": 8,
        "teacher_steps": 5,
    }
    said = {"teacher_output": "v", "teacher_unit": "angstrom", "curves": False}
    teacher = {"kind": "import", "target": "somebodys:net"}
    run = fewstep.run(
        "protein/sid-backbone", out=tmp_path / "runs", quiet=True, teacher=teacher, **few, **said
    )
    assert run.shelf["student"].net.inner.net.see.weight.shape == (SMALL.tokens, 3)
