"""Campaigns: folders of many samples that grow portion by portion and go on where they were cut short."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import fewstep
from fewstep.cli import application
from fewstep.errors import FewstepError
from fewstep.protocol import Campaign, Drawn
from fewstep.runs import Run

pytestmark = pytest.mark.usefixtures("ring")


class KilledError(Exception):
    """Stands for a power cut."""


def write(
    options: Any, drawn: Drawn, folder: Path, first: int, about: Mapping[str, Any]
) -> Sequence[Mapping[str, Any]]:
    for number, point in enumerate(drawn.x.tolist(), first):
        (folder / f"{number:03d}.txt").write_text(f"{point} {about['seed']}")
    return [{"number": first + i, "x": point[0]} for i, point in enumerate(drawn.x.tolist())]


def finish(options: Any, folder: Path, records: Sequence[Mapping[str, Any]]) -> Sequence[Path]:
    table = folder / "table.json"
    table.write_text(json.dumps(records))
    return [table]


CAMPAIGN = Campaign(lambda options, num: 4, write, finish)


@pytest.fixture(scope="module")
def run(ring: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Run:
    made = fewstep.run("ring/points", profile="tiny", out=tmp_path_factory.mktemp("runs"), quiet=True)
    return with_campaign(made, CAMPAIGN)


def with_campaign(run: Run, campaign: Campaign) -> Run:
    run.plan = replace(run.plan, product=replace(run.product, campaign=campaign))
    return run


def contents(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in sorted(folder.iterdir()) if file.is_file()}


def test_a_campaign_fills_its_folder_and_sums_it_up(run: Run, tmp_path: Path) -> None:
    done = run.campaign(10, tmp_path / "a", seed=3)
    assert len(contents(tmp_path / "a")) == 11
    assert [record["number"] for record in json.loads(done.tables[0].read_text())] == list(range(10))
    assert (done.fresh, done.evaluations) == (10, 3)


def test_one_that_was_cut_short_goes_on_and_ends_the_same(run: Run, tmp_path: Path) -> None:
    def cut(options: Any, drawn: Drawn, folder: Path, first: int, about: Mapping[str, Any]) -> Any:
        if first == 8:
            (folder / "half.txt").write_text("half a file")
            raise KilledError
        return write(options, drawn, folder, first, about)

    whole = run.campaign(10, tmp_path / "whole")
    with pytest.raises(KilledError):
        with_campaign(run, replace(CAMPAIGN, write=cut)).campaign(10, tmp_path / "cut")
    rest = with_campaign(run, CAMPAIGN).campaign(10, tmp_path / "cut")
    assert rest.fresh == 2
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    assert rest.records == whole.records


def test_a_folder_of_another_campaign_is_left_alone(run: Run, tmp_path: Path) -> None:
    run.campaign(4, tmp_path / "a")
    before = contents(tmp_path / "a")
    with pytest.raises(FewstepError, match="seed: 0 there, 1 asked"):
        run.campaign(4, tmp_path / "a", seed=1)
    assert contents(tmp_path / "a") == before


def test_all_that_is_wrong_is_told_at_once(run: Run, tmp_path: Path) -> None:
    with pytest.raises(FewstepError) as caught:
        run.campaign(0, tmp_path / "a", contender="nobody", radius=-1)
    assert all(word in str(caught.value) for word in ("num", "nobody", "radius"))
    assert not (tmp_path / "a").exists()


def test_the_command_names_the_tables_and_the_pace(run: Run, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("fewstep.runs.runner.load", lambda *_: run)
    words = ["sample", str(run.folder), "--num", "6", "--out", str(tmp_path / "a"), "--radius", "2"]
    told = CliRunner().invoke(application(), words)
    assert told.exit_code == 0, told.output
    assert str(tmp_path / "a" / "table.json") in told.stdout.splitlines()
    assert "6 samples in" in told.stdout
    assert "a second" in told.stdout
    again = CliRunner().invoke(application(), words)
    assert "6 were there: 0 network calls" in again.stdout
