"""Frames of real backbones: geometry, the network's symmetries, what is measured, and files that others read."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import gemmi
import pytest
import torch
from Bio.PDB.PDBParser import PDBParser
from torch import Tensor

from fewstep.processes.rotations import exp, log
from fewstep.protocol import Batch, Cond, Denoiser, Key, Step, with_index
from fewstep_protein.frames.config import FramesConfig
from fewstep_protein.frames.data import FrameLengths, FrameWindows, traces, with_backbones
from fewstep_protein.frames.network import PREDICTS, FrameNet, neighbors, peptide_strain
from fewstep_protein.frames.objective import FrameDenoising, distance_error
from fewstep_protein.frames.process import SHARPEST, frame_flow, of_velocity
from fewstep_protein.frames.recipe import make_fake, make_teacher
from fewstep_protein.frames.report import (
    backbones,
    frame_metrics,
    inner_torsions,
    peptide_angles,
    peptide_lengths,
    ramachandran_panel,
    write_backbones,
)
from fewstep_protein.frames.rigid import C_N, C_N_CA, CA_C_N, atoms_of, chain_of, frames_of, torsions
from fewstep_protein.structures import geometry

HELIX = (math.radians(-57.0), math.radians(-47.0))
STRAND = (math.radians(-120.0), math.radians(125.0))
PROCESS = frame_flow(0.7)


def ideal(shape: tuple[float, float], residues: int = 16) -> tuple[Tensor, Tensor]:
    """Frames of an ideal chain, float64."""
    phi, psi = (torch.full((1, residues), angle, dtype=torch.float64) for angle in shape)
    return chain_of(phi, psi)


def real(size: int = 6, shortest: int = 12, longest: int = 16, held_out: bool = True) -> Batch:
    return FrameWindows(with_backbones(held_out), size, shortest, longest).batch(0, Key(0))


def net(**given: Any) -> FrameNet:
    """A small network that moves: layers that start at zero are made otherwise."""
    torch.manual_seed(0)
    made = FrameNet(0.7, width=16, rounds=2, heads=2, **given)
    for weight in made.parameters():
        if not weight.any():
            torch.nn.init.normal_(weight, std=0.05)
    return made


def noisy(batch: Batch, t: float = 0.4) -> tuple[Any, Tensor]:
    process, at = PROCESS.on(batch.mask), torch.full((len(batch.like["place"]),), t, dtype=torch.float64)
    return process.corrupt(batch.x, process.noise(batch, Key(1)), at), at


@pytest.mark.parametrize("shape", [HELIX, STRAND])
def test_an_ideal_chain_has_the_torsions_and_bonds_that_it_was_made_with(shape: tuple[float, float]) -> None:
    place, turn = ideal(shape)
    atoms = atoms_of(place, turn)[0]
    phi, psi = inner_torsions(atoms)
    torch.testing.assert_close(phi, torch.full_like(phi, shape[0]))
    torch.testing.assert_close(psi, torch.full_like(psi, shape[1]))
    torch.testing.assert_close(torsions(atoms)[2].abs(), torch.full((15,), math.pi, dtype=torch.float64))
    torch.testing.assert_close(peptide_lengths(atoms), torch.full((15,), C_N, dtype=torch.float64))
    for found, wanted in zip(peptide_angles(atoms), (CA_C_N, C_N_CA), strict=True):
        torch.testing.assert_close(found, torch.full((15,), wanted, dtype=torch.float64))
    assert float(geometry.bonds(place).mean()) == pytest.approx(0.381, abs=0.001)


def test_oxygens_of_a_helix_bond_to_the_fourth_nitrogen_after_them() -> None:
    atoms = atoms_of(*ideal(HELIX))[0]
    assert float((atoms[:-4, 3] - atoms[4:, 0]).norm(dim=1).mean()) == pytest.approx(0.30, abs=0.02)
    torch.testing.assert_close(
        (atoms[:, 3] - atoms[:, 2]).norm(dim=1), torch.full((16,), 0.1231, dtype=torch.float64)
    )


def test_frames_of_atoms_are_rotations_that_give_the_atoms_back() -> None:
    place, turn = ideal(STRAND)
    again_place, again_turn = frames_of(atoms_of(place, turn)[..., :3, :])
    torch.testing.assert_close(again_place, place)
    torch.testing.assert_close(again_turn, turn)
    torch.testing.assert_close(torch.linalg.det(turn), torch.ones_like(turn[..., 0, 0]))


def test_frames_of_real_chains_rebuild_their_peptide_bonds_to_a_twentieth_of_an_angstrom() -> None:
    lengths = torch.cat([peptide_lengths(a) for a in backbones(real().x, real().mask)])
    assert float(lengths.mean()) == pytest.approx(C_N, abs=0.002)
    assert float(lengths.std()) < 0.005


def test_windows_are_a_function_of_the_counter_turned_at_random_and_padded_with_the_identity() -> None:
    source = FrameWindows(with_backbones(held_out=False), 4, 10, 14)
    first, again, other = source.batch(3, Key(0)), source.batch(3, Key(0)), source.batch(4, Key(0))
    assert torch.equal(first.x["turn"], again.x["turn"])
    assert first.x["turn"].shape != other.x["turn"].shape or not torch.equal(first.x["turn"], other.x["turn"])
    padding = ~first.mask["place"][..., 0]
    assert bool(padding.any())
    assert not first.x["place"][padding].any()
    assert torch.equal(first.x["turn"][padding], torch.eye(3).expand(int(padding.sum()), 3, 3))
    assert FrameLengths(4, 10, 14).batch(0, Key(0)).x is None


def test_the_network_turns_with_its_input_and_does_not_see_a_mirror() -> None:
    batch, denoiser = real(), Denoiser(net(), PROCESS, PREDICTS)
    xt, t = noisy(batch)
    by = exp(torch.tensor([0.3, 1.0, -0.5]))
    here = batch.mask["turn"]

    def turned(x: Any) -> dict[str, Tensor]:
        return {"place": x["place"] @ by.T, "turn": torch.where(here, by @ x["turn"], x["turn"])}

    with torch.no_grad():
        found, rotated = denoiser(xt, t, batch.cond).x0, denoiser(turned(xt), t, batch.cond).x0
        flip = torch.diag(torch.tensor([1.0, 1.0, -1.0]))
        mirrored = {"place": xt["place"] @ flip, "turn": flip @ xt["turn"] @ flip}
        seen = denoiser(mirrored, t, batch.cond).x0
    for leaf, value in turned(found).items():
        torch.testing.assert_close(rotated[leaf], value, atol=1e-5, rtol=1e-5)
    assert float((seen["place"] - found["place"] @ flip).abs().max()) > 1e-3


def test_padding_changes_nothing() -> None:
    batch, denoiser = real(), Denoiser(net(), PROCESS, PREDICTS)
    xt, t = noisy(batch)
    row = int(batch.mask["place"].sum((1, 2)).argmin())
    count = int(batch.mask["place"][row].sum())
    alone = {leaf: x[row : row + 1, :count] for leaf, x in xt.items()}
    mask = torch.ones(1, count, 1, dtype=torch.bool)
    with torch.no_grad():
        padded = denoiser(xt, t, batch.cond).x0
        single = denoiser(alone, t[:1], Cond(mask={"place": mask, "turn": mask[..., None]})).x0
    for leaf in padded:
        torch.testing.assert_close(padded[leaf][row : row + 1, :count], single[leaf], atol=1e-5, rtol=1e-5)


def test_a_fresh_network_turns_nothing_and_a_fresh_fake_does_not_hear_the_step() -> None:
    batch, config = real(), FramesConfig()
    xt, t = noisy(batch)
    est = make_teacher(config)(xt, t, batch.cond).x0
    assert float(log(est["turn"].mT @ xt["turn"]).abs().max().detach()) < 1e-5
    fake, step = make_fake(config), torch.full((6,), 2)
    for leaf in est:
        torch.testing.assert_close(
            fake(xt, t, with_index(batch.cond, step)).x0[leaf], fake(xt, t, batch.cond).x0[leaf]
        )


def test_a_whole_peptide_has_no_strain_and_a_stretched_one_points_along_its_bond() -> None:
    place, turn = ideal(HELIX, 8)
    there = torch.ones(1, 8, dtype=torch.bool)
    assert float(peptide_strain(neighbors(place, turn, there)).abs().max()) < 1e-3
    moved = place.clone()
    moved[:, 4:] += 0.05 * (turn[:, 3] @ torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)).unsqueeze(1)
    strain = peptide_strain(neighbors(moved, turn, there))
    assert float(strain[0, 3, 2].norm()) > 0.02
    torch.testing.assert_close(strain[0, 3, 2].norm(), strain[0, 4, 0].norm(), atol=1e-6, rtol=1e-6)
    others = torch.cat([strain[0, :3].flatten(), strain[0, 5:].flatten()])
    assert float(others.abs().max()) < 1e-3


def test_atom_distances_do_not_see_a_common_move_and_see_one_that_breaks_a_bond() -> None:
    place, turn = ideal(STRAND, 10)
    truth, here = {"place": place, "turn": turn}, torch.ones(1, 10, 1, dtype=torch.bool)
    by = exp(torch.tensor([0.2, 0.4, -0.1], dtype=torch.float64))
    together = {"place": place @ by.T + 0.3, "turn": by @ turn}
    assert float(distance_error(together, truth, here)) < 1e-12
    broken = {"place": place.clone(), "turn": turn}
    broken["place"][:, 5] += 0.02
    assert float(distance_error(broken, truth, here)) > 1e-5


def test_the_weight_turns_errors_into_velocities_until_the_sharpest_time() -> None:
    t = torch.tensor([0.5, 0.1, SHARPEST, SHARPEST / 2], dtype=torch.float64)
    found = of_velocity(PROCESS, t)
    torch.testing.assert_close(found[:2], torch.tensor([4.0, 100.0], dtype=torch.float64))
    assert float(found[2]) == float(found[3])


def test_the_teacher_learns_places_rotations_and_atoms() -> None:
    batch, config = real(), FramesConfig()
    teacher = make_teacher(config)
    objective = FrameDenoising(lambda shape, step, key: torch.full(tuple(shape), 0.1, dtype=torch.float64))
    loss = objective.loss(objective.phases(0)[0], {"teacher": teacher}, batch, Step(0, 1, Key(0)))
    assert float(loss.logs["atoms"]) > 0
    loss.total.backward()
    slopes = [float(w.grad.abs().max()) for name, w in teacher.named_parameters() if "steer.2" in name]
    assert min(slopes) > 0


def scores(x: Any, batch: Batch) -> dict[str, float]:
    asked = ("peptide_bonds", "trans", "ramachandran", "left_phi", "valid_bonds")
    return {m.name: m.fn(x, batch, Key(0)).value for m in frame_metrics() if m.name in asked}


def test_metrics_tell_real_frames_from_mirrored_and_from_shaken_ones() -> None:
    batch = real(12, 16, 24)
    truth = scores(batch.x, batch)
    assert truth["peptide_bonds"] > 0.97
    assert truth["trans"] > 0.95
    assert truth["ramachandran"] < 1e-9
    assert truth["left_phi"] < 1e-9
    flip = torch.diag(torch.tensor([1.0, 1.0, -1.0]))
    mirror = scores({"place": batch.x["place"] @ flip, "turn": flip @ batch.x["turn"] @ flip}, batch)
    assert mirror["left_phi"] > 0.6
    assert mirror["ramachandran"] > 0.6
    assert mirror["peptide_bonds"] == pytest.approx(truth["peptide_bonds"], abs=1e-6)
    turn = batch.x["turn"] @ exp(0.5 * Key(3).normal(torch.zeros(*batch.x["place"].shape)))
    shaken = scores({**batch.x, "turn": turn}, batch)
    assert shaken["peptide_bonds"] < 0.3
    assert shaken["valid_bonds"] == pytest.approx(truth["valid_bonds"], abs=1e-9)


def test_files_hold_whole_backbones_in_angstrom(tmp_path: Path) -> None:
    batch = real(2)
    paths = write_backbones(batch.x, batch, tmp_path)
    wanted = backbones(batch.x, batch.mask)
    assert [p.name for p in paths] == [f"backbone_00{i}.{kind}" for i in range(2) for kind in ("pdb", "cif")]
    for path, atoms in zip(paths, (wanted[0], wanted[0], wanted[1], wanted[1]), strict=True):
        (chain,) = gemmi.read_structure(str(path))[0]
        assert [[a.name for a in residue] for residue in chain] == [["N", "CA", "C", "O"]] * len(atoms)
        found = torch.tensor([[a.pos.tolist() for a in residue] for residue in chain])
        torch.testing.assert_close(found, 10 * atoms, atol=2e-3, rtol=0)
    chain = next(PDBParser(QUIET=True).get_structure("x", str(paths[0])).get_chains())
    bonds = [float(b["N"] - a["C"]) for a, b in zip(list(chain), list(chain)[1:], strict=False)]
    assert sum(bonds) / len(bonds) == pytest.approx(1.33, abs=0.03)


def test_the_ramachandran_section_draws_every_contender_over_real_chains() -> None:
    batch = real(2)
    drawn = {"student": _Drawn(batch.x, batch), "teacher": _Drawn(batch.x, replace(batch, x=None))}
    page = ramachandran_panel(drawn)  # type: ignore[arg-type]
    assert page.count("<svg") == 2
    assert "student: phi against psi" in page
    assert traces(batch).like.shape == batch.like["place"].shape


class _Drawn:
    """What a panel reads of a contender."""

    def __init__(self, x: Any, batch: Batch) -> None:
        self.x, self.batch = x, batch
