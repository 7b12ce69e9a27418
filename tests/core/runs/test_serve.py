"""The served page asked without a browser: answers, problems, streams, and who may ask."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import fewstep
from fewstep.cli import application
from fewstep.errors import FewstepError
from fewstep.runs import Run, serve

pytest.importorskip("fastapi")
pytest.importorskip("httpx")
pytestmark = pytest.mark.usefixtures("ring")

JSON = {"content-type": "application/json"}
ASK = {
    "options": {"name": "mine", "radius": "2"},
    "contenders": ["student", "teacher"],
    "seed": "3",
    "steps": "",
}


@pytest.fixture(scope="module")
def run(ring: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fewstep.run("ring/points", profile="tiny", out=tmp_path_factory.mktemp("runs"), quiet=True)


@pytest.fixture(scope="module")
def page(run: Run) -> Iterator[Any]:
    from fastapi.testclient import TestClient

    with TestClient(serve.application(run), base_url="http://127.0.0.1") as client:
        yield client


def problems(answer: Any) -> dict[str, str]:
    assert answer.status_code == 422
    return {one["name"]: one["text"] for one in answer.json()["problems"]}


def test_the_page_has_a_labelled_control_for_every_option_and_asks_nobody_else(page: Any) -> None:
    text = page.get("/").text
    for name in ("name", "radius", "seed", "steps", "num"):
        assert f'<label for="o-{name}">' in text
        assert re.search(rf'id="o-{name}"[^>]*aria-describedby="a-{name} p-{name}"', text)
    assert "points are scaled to this radius (0 &lt; value)" in text
    assert not re.search(r"https?://", text)
    assert 'value="teacher_1step">' in text
    assert 'value="student" checked>' in text


def test_a_draw_answers_with_calls_seconds_panels_and_files(page: Any) -> None:
    told = page.post("/draw", json=ASK).json()
    assert [(row["name"], row["calls"]) for row in told["rows"]] == [("student", 1), ("teacher", 19)]
    assert [panel["title"] for panel in told["panels"]] == ["Points", "Media"]
    assert 'alt="points of student"' in told["panels"][0]["html"]
    assert 'download="teacher-mine.txt"' in told["files"][1]["html"]


def test_the_page_draws_what_the_command_draws(page: Any, run: Run, tmp_path: Any) -> None:
    import base64

    told = page.post("/draw", json={**ASK, "num": "5"}).json()
    content = base64.b64decode(re.search(r"base64,([^\"]+)", told["files"][0]["html"])[1])
    written = run.sample(5, seed=3, out=tmp_path, name="mine", radius=2).files[0]
    assert content == written.read_bytes()


def test_steps_are_the_students(page: Any) -> None:
    told = page.post("/draw", json={**ASK, "steps": "3"}).json()
    assert [row["calls"] for row in told["rows"]] == [3, 19]


def test_all_that_is_wrong_is_told_at_once_beside_its_control(page: Any) -> None:
    ask = {
        "options": {"name": "a1", "radius": "0", "radus": 1},
        "seed": "x",
        "steps": "0",
        "num": "99",
        "contenders": [],
    }
    told = problems(page.post("/draw", json=ask))
    assert set(told) == {"name", "radius", "radus", "seed", "steps", "num", "contenders"}
    assert told["name"] == "only letters are known, got 'a1'"
    assert told["radus"] == "no such option; did you mean 'radius'?"
    assert told["num"] == "a number from 1 to 16 is expected, got 99"


@pytest.mark.parametrize(
    ("ask", "name", "text"),
    [
        ({**ASK, "contenders": ["studen"]}, "contenders", "no contender 'studen'"),
        ({**ASK, "contenders": [["student"]]}, "contenders", "no contender ['student']"),
        ({**ASK, "options": [1]}, "", "options are [1], not a mapping"),
        ({**ASK, "seed": [1]}, "seed", "a whole number is expected"),
        ({}, "contenders", "choose at least one"),
    ],
)
def test_nonsense_is_answered_too(page: Any, ask: Any, name: str, text: str) -> None:
    assert text in problems(page.post("/draw", json=ask))[name]


def test_a_number_beyond_all_bounds_is_answered_as_nonsense_too(page: Any) -> None:
    told = problems(page.post("/draw", content=b'{"seed": 1e400, "contenders": ["student"]}', headers=JSON))
    assert told["seed"] == "a whole number is expected, got inf"


def test_a_stream_comes_in_the_pieces_of_the_product(page: Any, run: Run) -> None:
    began = page.post("/stream", json=ASK).json()
    assert (began["mime"], began["cautions"]) == ("text/plain", [])
    answer = page.get(began["url"])
    assert answer.headers["content-type"].startswith("text/plain")
    expected = b"".join(piece.content for piece in run.stream(seed=3, name="mine", radius=2))
    assert answer.content == expected
    assert answer.text.startswith("mine [")
    assert page.get("/stream/999").status_code == 404
    assert set(problems(page.post("/stream", json={**ASK, "options": {"radius": "-1"}}))) == {"radius"}


def test_a_stream_is_begun_with_the_cautions_of_what_is_asked(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wary(run.product.options):  # type: ignore[name-defined, misc]
        @property
        def cautions(self) -> list[str]:
            return ["this was not learned"]

    wary = replace(run.product, stream=replace(run.product.stream, options=Wary))
    monkeypatch.setattr(run, "plan", replace(run.plan, product=wary))
    assert serve.Desk(run).begin(ASK)[1]["cautions"] == ("this was not learned",)
    monkeypatch.setattr("fewstep.runs.runner.load", lambda *_: run)
    words = ["sample", str(run.folder), "--stream", "--out", str(tmp_path / "a.txt")]
    told = CliRunner().invoke(application(), words)
    assert told.stderr.startswith("caution: this was not learned\n")
    as_json = json.loads(CliRunner().invoke(application(), [*words, "--json"]).stdout)
    assert as_json["cautions"] == ["this was not learned"]


def test_only_the_last_streams_are_remembered(page: Any) -> None:
    urls = [page.post("/stream", json=ASK).json()["url"] for _ in range(serve.WAITING + 1)]
    assert page.get(urls[0]).status_code == 404
    assert page.get(urls[-1]).status_code == 200


def test_one_draws_at_a_time(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    desk, inside, most = serve.Desk(run), [0], [0]
    drawn = run.drawn

    def slow(*asked: Any, **more: Any) -> Any:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.02)
        found = drawn(*asked, **more)
        inside[0] -= 1
        return found

    monkeypatch.setattr(run, "drawn", slow)
    threads = [threading.Thread(target=desk.draw, args=(ASK,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]


def test_another_name_of_this_machine_is_not_answered(page: Any) -> None:
    assert page.get("/", headers={"Host": "evil.example"}).status_code == 400
    assert page.get("/docs").status_code == 404


def test_a_port_that_is_taken_and_missing_packages_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve.bound("127.0.0.1", 0) as taken, pytest.raises(FewstepError, match="--port 0 takes a free one"):
        serve.bound("127.0.0.1", taken.getsockname()[1])
    monkeypatch.setattr(serve, "find_spec", lambda name: None)
    with pytest.raises(FewstepError, match=r'(?s)needs fastapi and uvicorn.*pip install "fewstep\[serve\]"'):
        serve.require()
