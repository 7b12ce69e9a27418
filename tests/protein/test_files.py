"""PDB and mmCIF files hold what was written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fewstep.errors import FewstepError
from fewstep_protein.structures import files, segments, sources


def written(folder: Path) -> tuple[list[Path], list[torch.Tensor]]:
    chains = [s.coordinates[:n] for s, n in zip(segments.structures()[:2], (20, 13), strict=True)]
    batch = sources.pad(chains, 20)
    return files.write_chains(batch.x, batch, folder), files.real_chains(batch.x, batch.mask)


def test_a_pdb_file_reads_back_equal_to_its_three_decimals(tmp_path: Path) -> None:
    paths, chains = written(tmp_path)
    for path, chain in zip(paths[::2], chains, strict=True):
        assert path.suffix == ".pdb"
        torch.testing.assert_close(files.read_chain(path), chain, atol=5.1e-5, rtol=0)


def test_an_mmcif_file_reads_back_equal_to_its_three_decimals(tmp_path: Path) -> None:
    paths, chains = written(tmp_path)
    for path, chain in zip(paths[1::2], chains, strict=True):
        assert path.suffix == ".cif"
        torch.testing.assert_close(files.read_chain(path), chain, atol=5.1e-5, rtol=0)


def test_padding_is_not_written(tmp_path: Path) -> None:
    paths, _ = written(tmp_path)
    assert [len(files.read_chain(path)) for path in paths] == [20, 20, 13, 13]


def test_consecutive_atoms_are_connected_for_viewers(tmp_path: Path) -> None:
    paths, _ = written(tmp_path)
    lines = paths[2].read_text().splitlines()
    assert sum(line.startswith("CONECT") for line in lines) == 12
    assert lines[-1] == "END"


def test_coordinates_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    batch = sources.blank(torch.tensor([8]))
    with pytest.raises(FewstepError, match="finite"):
        files.write_chains(torch.full((1, 8, 3), float("nan")), batch, tmp_path)


def test_a_missing_structure_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FewstepError, match=r"absent\.pdb"):
        files.read_chain(tmp_path / "absent.pdb")


def test_a_file_without_ca_atoms_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "water.pdb"
    path.write_text("HETATM    1  O   HOH A   1       0.000   0.000   0.000  1.00  0.00           O\nEND\n")
    with pytest.raises(FewstepError, match="no CA atom"):
        files.read_chain(path)
