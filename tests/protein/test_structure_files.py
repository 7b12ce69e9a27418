"""A file of structures: what is written is read back, what does not fit is refused; and what CATH labels mean."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fewstep.errors import FewstepError
from fewstep_protein.structures import labels, segments
from fewstep_protein.structures.labels import Vocabulary
from fewstep_protein.structures.segments import Structure


def straight(count: int, bond: float = 0.38, **more: object) -> Structure:
    """A straight chain along x."""
    places = torch.zeros(count, 3)
    places[:, 0] = bond * (torch.arange(count) - (count - 1) / 2)
    return Structure(f"1aaa_A_{count}", 0, places, sequence="A" * count, **more)  # type: ignore[arg-type]


def rewritten(path: Path, **changes: np.ndarray | None) -> Path:
    """The file with some arrays changed or left out."""
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files} | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    whole = segments.structures()[0]
    alone = straight(30, cath="1.10.8", cluster=4, held_out=True)
    segments.save(tmp_path / "two.npz", [whole, alone])
    first, second = segments.load(str(tmp_path / "two.npz"))
    assert (second.name, second.sequence, second.cluster) == (alone.name, alone.sequence, 4)
    assert (second.held_out, second.cath, second.backbone) == (True, "1.10.8", None)
    torch.testing.assert_close(second.coordinates, alone.coordinates, atol=6e-4, rtol=0)
    torch.testing.assert_close(first.backbone, whole.backbone, atol=1.1e-3, rtol=0)
    assert [path.name for path in tmp_path.iterdir()] == ["two.npz"]


@pytest.mark.parametrize(
    ("bond", "told"), [(3.8, "look like angstrom"), (0.038, "divided by ten"), (1.2, "chain order")]
)
def test_coordinates_in_another_unit_are_refused_with_a_guess(tmp_path: Path, bond: float, told: str) -> None:
    segments.save(tmp_path / "slip.npz", [straight(30, bond)])
    with pytest.raises(FewstepError, match="nm apart on average") as caught:
        segments.load(str(tmp_path / "slip.npz"))
    assert told in str(caught.value)


def test_a_file_that_does_not_fit_together_tells_everything_that_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "odd.npz"
    segments.save(path, [straight(30), straight(40)])
    rewritten(path, cath=None, trace=np.zeros((70, 2), np.int16)[:, 0], name=np.array(["one"]))
    with pytest.raises(FewstepError, match="no file of structures") as caught:
        segments.load(str(path))
    assert "no cath" in str(caught.value)
    assert "trace of shape" in str(caught.value)
    segments.save(path, [straight(30), straight(40)])
    rewritten(path, name=np.array(["one"]), letters=np.zeros(3, np.uint8))
    segments.load.cache_clear()
    with pytest.raises(FewstepError) as caught:
        segments.load(str(path))
    assert "1 rows of name, not 2" in str(caught.value)
    assert "3 rows of letters, not 70" in str(caught.value)


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("no archive")
    for name, told in (("absent.npz", "no structure file"), ("text.npz", "cannot be read")):
        with pytest.raises(FewstepError, match=told):
            segments.load(str(tmp_path / name))


def test_a_side_without_segments_is_an_error(tmp_path: Path) -> None:
    segments.save(tmp_path / "one.npz", [straight(30)])
    assert len(segments.split(held_out=False, path=str(tmp_path / "one.npz"))) == 1
    with pytest.raises(FewstepError, match="no held-out segment"):
        segments.split(held_out=True, path=str(tmp_path / "one.npz"))


# --- labels ----------------------------------------------------------------------------------------------------------

KNOWN = Vocabulary.of(["1.10.8", "1.10.40", "1.20.5", "3.40.50", "2", ""])


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        ("1.10.8", (1, 1, 1)),
        ("1.10.40", (1, 1, 2)),
        ("3.40.50.300", (3, 3, 4)),
        ("3.40.x", (3, 3, 0)),
        ("3.x.x", (3, 0, 0)),
        ("3", (3, 0, 0)),
        ("x", (0, 0, 0)),
        ("x.x.x", (0, 0, 0)),
        ("", (0, 0, 0)),
    ],
)
def test_a_code_names_as_many_levels_as_it_says(code: str, wanted: tuple[int, int, int]) -> None:
    assert KNOWN.indices(code) == wanted
    assert KNOWN.sizes == (5, 4, 5)


@pytest.mark.parametrize("code", ["1.30.x", "1.10.9", "5", "alpha", "1..8", "3.x.50"])
def test_an_unknown_code_is_refused(code: str) -> None:
    with pytest.raises(FewstepError):
        KNOWN.indices(code)


@pytest.mark.parametrize(
    ("helix", "strand", "wanted"), [(0.7, 0.02, "1"), (0.0, 0.5, "2"), (0.4, 0.2, "3"), (0.1, 0.05, "4")]
)
def test_the_class_follows_the_content_of_helix_and_strand(helix: float, strand: float, wanted: str) -> None:
    assert labels.class_of(helix, strand) == wanted


def test_a_chain_of_several_domains_has_the_levels_that_they_share(tmp_path: Path) -> None:
    path = tmp_path / "cath-domain-list.txt"
    path.write_text(
        "# CathDomainList\n"
        "1oaiA00     1    10     8    10     1     1     1     1     1    59 1.000\n"
        "1abcB01     3    40    50   300     1     1     1     1     1   100 2.000\n"
        "1abcB02     3    40    30    10     1     1     1     1     1   100 2.000\n"
        "1abcC01     1    10     8    10     1     1     1     1     1   100 2.000\n"
        "1abcC02     2    60    40    10     1     1     1     1     1   100 2.000\n"
    )
    assert labels.read_domain_list(path) == {"1oai_A": "1.10.8", "1abc_B": "3.40", "1abc_C": ""}
    path.write_text("1oai 1.10.8\n")
    with pytest.raises(FewstepError, match="line 1"):
        labels.read_domain_list(path)


def test_a_recipe_learns_from_a_file_of_the_user(tmp_path: Path) -> None:
    from fewstep.protocol import Key
    from fewstep_protein.sid_backbone import recipe
    from fewstep_protein.sid_backbone.config import BackboneConfig

    path = str(tmp_path / "mine.npz")
    segments.save(Path(path), [straight(60, cath="2.60"), straight(50, cath="1.10", held_out=True)])
    config = BackboneConfig(data={"path": path}, shortest=30, longest=40)
    batch = recipe._windows(config, 4).batch(0, Key(0))
    torch.testing.assert_close(batch.x[..., 1:], torch.zeros_like(batch.x[..., 1:]))
    assert recipe.label_counts(config) == (4, 2, 0)
    longer = BackboneConfig(data={"path": path}, shortest=30, longest=60)
    assert recipe.evaluation(longer, 4, Key(0)).like.shape[1] <= 50
