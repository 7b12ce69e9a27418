"""Campaigns: folders of many samples that grow portion by portion and go on where they were cut short."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import fewstep
from fewstep.cli import application
from fewstep.errors import FewstepError
from fewstep.protocol import Batch, Campaign, Drawn
from fewstep.runs import Run
from fewstep.runs.campaign import HIDDEN
from fewstep.runs.folder import claimed

pytestmark = pytest.mark.usefixtures("ring")


class KilledError(Exception):
    """Stands for a power cut."""


def write(
    options: Any, drawn: Drawn, folder: Path, numbers: Sequence[int], about: Mapping[str, Any]
) -> Sequence[Mapping[str, Any]]:
    for number, point in zip(numbers, drawn.x.tolist(), strict=True):
        (folder / f"{number:03d}.txt").write_text(f"{point} {about['seed']}")
    return [
        {"number": i, "x": point[0], "files": [f"{i:03d}.txt"]}
        for i, point in zip(numbers, drawn.x.tolist(), strict=True)
    ]


def finish(options: Any, folder: Path, records: Sequence[Mapping[str, Any]]) -> Sequence[Path]:
    table = folder / "table.json"
    table.write_text(json.dumps(records))
    return [table]


CAMPAIGN = Campaign(lambda options, first: 4, write, finish)


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
    def cut(
        options: Any, drawn: Drawn, folder: Path, numbers: Sequence[int], about: Mapping[str, Any]
    ) -> Any:
        if numbers[0] == 8:
            (folder / "half.txt").write_text("half a file")
            raise KilledError
        return write(options, drawn, folder, numbers, about)

    whole = run.campaign(10, tmp_path / "whole")
    with pytest.raises(KilledError):
        with_campaign(run, replace(CAMPAIGN, write=cut)).campaign(10, tmp_path / "cut")
    rest = with_campaign(run, CAMPAIGN).campaign(10, tmp_path / "cut")
    assert rest.fresh == 2
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    assert rest.records == whole.records


def test_a_larger_number_adds_to_what_is_there_and_ends_as_if_it_had_been_asked_at_once(
    run: Run, tmp_path: Path
) -> None:
    run.campaign(6, tmp_path / "grown")
    before = contents(tmp_path / "grown")
    grown = run.campaign(14, tmp_path / "grown")
    whole = run.campaign(14, tmp_path / "whole")
    assert contents(tmp_path / "grown") == contents(tmp_path / "whole")
    assert before.items() - contents(tmp_path / "grown").items() == {("table.json", before["table.json"])}
    assert (grown.records, grown.fresh) == (whole.records, 10)


@pytest.mark.parametrize("left", ["[]", '[{"number": 4}]', "[\n{", "{}"])
def test_a_portion_whose_records_are_damaged_is_drawn_again(run: Run, tmp_path: Path, left: str) -> None:
    run.campaign(10, tmp_path)
    before = contents(tmp_path)
    (tmp_path / HIDDEN / "portion-00001.json").write_text(left)
    assert run.campaign(10, tmp_path).fresh == 4
    assert contents(tmp_path) == before


def test_a_file_that_somebody_deleted_is_written_again(run: Run, tmp_path: Path) -> None:
    run.campaign(10, tmp_path)
    before = contents(tmp_path)
    (tmp_path / "005.txt").unlink()
    assert run.campaign(10, tmp_path).fresh == 4
    assert contents(tmp_path) == before
    assert run.campaign(10, tmp_path).fresh == 0


def test_records_without_files_are_whole(run: Run, tmp_path: Path) -> None:
    def bare(options: Any, drawn: Drawn, folder: Path, numbers: Sequence[int], about: Any) -> Any:
        return [{"number": number, "files": None} for number in numbers]

    done = with_campaign(run, replace(CAMPAIGN, write=bare))
    fresh = [done.campaign(6, tmp_path).fresh for _ in range(2)]
    with_campaign(run, CAMPAIGN)
    assert fresh == [6, 0]


def test_what_is_asked_beyond_what_was_learned_is_drawn_with_one_caution(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wary(run.product.options):  # type: ignore[name-defined, misc]
        @property
        def cautions(self) -> list[str]:
            return ["this was not learned"]

    monkeypatch.setattr(run, "plan", replace(run.plan, product=replace(run.product, options=Wary)))
    done = run.campaign(6, tmp_path / "a", quiet=False)
    assert capsys.readouterr().err.count("caution: this was not learned") == 1
    told = json.loads((tmp_path / "a" / HIDDEN / "asked.json").read_text())["cautions"]
    assert (
        tuple(told)
        == done.cautions
        == run.sample(2, out=tmp_path / "b").cautions
        == ("this was not learned",)
    )


@pytest.mark.parametrize(("num", "todo"), [(0, "one sample or more"), (100_000_000, "draw in parts")])
def test_a_number_that_nobody_means_is_refused_before_a_run_is_opened(num: int, todo: str) -> None:
    told = CliRunner().invoke(application(), ["sample", "nowhere", "--num", str(num)])
    assert f"num is {num:,}" in str(told.exception)
    assert "1 to 1,000,000 samples" in str(told.exception)
    assert todo in str(told.exception)


def test_a_campaign_that_cannot_tell_what_was_asked_is_refused(run: Run, tmp_path: Path) -> None:
    run.campaign(4, tmp_path)
    (tmp_path / HIDDEN / "asked.json").write_text("[]")
    with pytest.raises(FewstepError, match="missing or damaged"):
        run.campaign(4, tmp_path)


def test_one_that_was_cut_short_while_it_grew_goes_on(run: Run, tmp_path: Path) -> None:
    def cut(
        options: Any, drawn: Drawn, folder: Path, numbers: Sequence[int], about: Mapping[str, Any]
    ) -> Any:
        raise KilledError

    run.campaign(6, tmp_path / "grown")
    with pytest.raises(KilledError):
        with_campaign(run, replace(CAMPAIGN, write=cut)).campaign(10, tmp_path / "grown")
    with_campaign(run, CAMPAIGN).campaign(10, tmp_path / "grown")
    run.campaign(10, tmp_path / "whole")
    assert contents(tmp_path / "grown") == contents(tmp_path / "whole")


def test_a_campaign_does_not_shrink(run: Run, tmp_path: Path) -> None:
    run.campaign(6, tmp_path / "a")
    before = contents(tmp_path / "a")
    with pytest.raises(FewstepError, match="begun with 6 samples, 5 are asked for"):
        run.campaign(5, tmp_path / "a")
    assert contents(tmp_path / "a") == before


def test_samples_keep_their_numbers_whatever_is_drawn_together(run: Run, tmp_path: Path) -> None:
    def parts(batch: Batch, device: str) -> list[tuple[torch.Tensor, Batch]]:
        return [(rows, batch.take(rows)) for rows in (torch.tensor([3, 0]), torch.tensor([2, 1]))]

    met: list[Sequence[int]] = []

    def noted(
        options: Any, drawn: Drawn, folder: Path, numbers: Sequence[int], about: Mapping[str, Any]
    ) -> Any:
        met.append(numbers)
        assert len(drawn.x) == len(drawn.batch.like) == len(numbers)
        return write(options, drawn, folder, numbers, about)

    done = with_campaign(run, replace(CAMPAIGN, write=noted, parts=parts)).campaign(6, tmp_path / "a")
    with_campaign(run, CAMPAIGN)
    assert met == [[3, 0], [2, 1], [4], [5]]
    assert [record["number"] for record in done.records] == list(range(6))


def test_those_that_pass_are_counted_and_the_reasons_against_the_others(run: Run, tmp_path: Path) -> None:
    def reasons(record: Mapping[str, Any]) -> list[str]:
        return [["odd"], ["even", "low"], []][record["number"] % 3]

    done = with_campaign(run, replace(CAMPAIGN, reasons=reasons)).campaign(10, tmp_path / "a")
    with_campaign(run, CAMPAIGN)
    assert done.passed == 3
    assert done.refused == (("odd", 4), ("even", 3), ("low", 3))
    assert run.campaign(10, tmp_path / "b").passed is None


def test_one_process_at_a_time_fills_a_folder(run: Run, tmp_path: Path) -> None:
    run.campaign(4, tmp_path)
    with claimed(tmp_path / HIDDEN), pytest.raises(FewstepError, match="another process is running"):
        run.campaign(6, tmp_path)
    assert run.campaign(6, tmp_path).fresh == 2


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
    judged = replace(CAMPAIGN, reasons=lambda record: ["late"] if record["number"] > 3 else [], unit="point")
    monkeypatch.setattr("fewstep.runs.runner.load", lambda *_: with_campaign(run, judged))
    words = ["sample", str(run.folder), "--num", "6", "--out", str(tmp_path / "a"), "--radius", "2"]
    told = CliRunner().invoke(application(), words)
    assert told.exit_code == 0, told.output
    assert str(tmp_path / "a" / "table.json") in told.stdout.splitlines()
    assert "6 points in" in told.stdout
    assert "a second" in told.stdout
    assert "4 of 6 passed (67%); the most common reasons against the others: late 2" in told.stdout
    assert "drawing: 6 points\n" in told.stderr
    again = CliRunner().invoke(application(), [*words, "--quiet"])
    assert not again.stderr
    assert "6 were there: 0 network calls" in again.stdout
