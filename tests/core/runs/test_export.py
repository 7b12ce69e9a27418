"""Students for elsewhere: each file equals the student, or there is no file."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fewstep
from fewstep.errors import FewstepError
from fewstep.protocol import Batch, Graph, Key, Portable, Roles, Sampler, State, Step
from fewstep.runs import Run, graphs
from fewstep.runs.export import export_run
from fewstep.runs.tracing import Noted, Told, traced

pytestmark = pytest.mark.usefixtures("ring")

ALONE = """
import runpy, sys
class Block:
    def find_spec(self, name, *_):
        if name.partition(".")[0].startswith("fewstep"):
            raise ImportError(name)
sys.meta_path.insert(0, Block())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def run(ring: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fewstep.run("ring/points", profile="tiny", out=tmp_path_factory.mktemp("runs"), quiet=True)


@pytest.fixture(scope="module")
def exported(run: Run, ring: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    # In another process: here annotations are checked, which a tracer cannot follow.
    out = tmp_path_factory.mktemp("out")
    words = [sys.executable, "-m", "fewstep.cli", "export", str(run.folder), "-f", "torch", "-o", str(out)]
    done = subprocess.run(words, env=ring, capture_output=True, text=True, check=True)
    assert "student.pt2" in done.stdout
    return out


def test_a_traced_student_runs_where_fewstep_cannot_be_imported(exported: Path) -> None:
    words = [sys.executable, "-I", "-c", ALONE, str(exported / "run.py")]
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert told.startswith("torch student: largest error ")
    assert float(told.rpartition(" ")[2]) < 1e-5


def test_a_graph_draws_any_number_of_samples_from_any_noise(exported: Path, run: Run) -> None:
    module = torch.export.load(exported / "student.pt2").module()
    batch = run.product.evaluation(7, Key(5))
    noted = Noted(3)
    *_, last = run.product.contenders["student"].fn(run.shelf, batch, Step.inference(noted))
    (law, noise), *rest = noted.drawn
    assert (law, rest) == ("standard normal noise", [])
    torch.testing.assert_close(module(noise)[0], last.x, atol=1e-5, rtol=1e-5)


def test_what_goes_in_and_comes_out_is_told(exported: Path) -> None:
    told = json.loads((exported / "graphs.json").read_text())
    assert told["recipe"] == "ring/points"
    port = {"about": "standard normal noise", "dtype": "float32", "shape": [None, 2]}
    assert told["graphs"]["student"]["inputs"] == {"noise": port}
    assert "student.pt2" in (exported / "README.md").read_text()


@pytest.mark.slow
def test_onnx_equals_the_student_too(run: Run, ring: dict[str, str], tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    words = [
        sys.executable,
        "-m",
        "fewstep.cli",
        "export",
        str(run.folder),
        "-f",
        "onnx",
        "-o",
        str(tmp_path),
        "--json",
    ]
    done = json.loads(subprocess.run(words, env=ring, capture_output=True, text=True, check=True).stdout)
    assert Path(done[0]["file"]).name == "student.onnx"
    assert done[0]["error"] < 1e-5
    words = [sys.executable, "-I", "-c", ALONE, str(tmp_path / "run.py"), "onnx"]
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert float(told.rpartition(" ")[2]) < 1e-5


def test_weights_are_written_with_their_settings(run: Run, tmp_path: Path) -> None:
    written = export_run(run, ["safetensors"], tmp_path)
    assert [(one.file.name, one.error) for one in written] == [
        ("student.safetensors", 0.0),
        ("teacher.safetensors", 0.0),
    ]
    assert "samples drawn with them" in written[0].about
    assert {file.name for file in tmp_path.iterdir()} == {
        "student.safetensors", "teacher.safetensors", "student.json", "config.yaml",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("formats", "told"), [(["onxx"], "no format 'onxx'"), ([], "no format was asked for")]
)
def test_an_unknown_format_is_refused(run: Run, formats: list[str], told: str, tmp_path: Path) -> None:
    with pytest.raises(FewstepError, match=told):
        export_run(run, formats, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_missing_package_is_told_before_any_work(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(FewstepError, match=r'(?s)need onnxscript.*pip install "fewstep\[onnx\]"'):
        export_run(run, ["onnx"], tmp_path / "new")
    assert not (tmp_path / "new").exists()


class Doubling(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


def offering(run: Run, module: nn.Module, answer: float, rows: tuple[int, ...] = (1, 2)) -> Run:
    """The run with a product that offers one graph; its examples say that it multiplies by ``answer``."""
    examples = [((x,), (answer * x,)) for x in (torch.arange(1.0, n + 1) for n in rows)]
    graph = Graph("double", module, {"x": "a number"}, {"y": "its double"}, examples)
    other = Run(run.files, run.setup, run.plan)
    offered = replace(run.product, portable=lambda shelf, key: Portable((graph,), {"note.txt": "hello\n"}))
    other.plan, other.shelf = replace(run.plan, product=offered), run.shelf
    return other


def test_a_product_may_offer_graphs_and_files_of_its_own(run: Run, tmp_path: Path) -> None:
    written = export_run(offering(run, Doubling(), 2.0), ["torch"], tmp_path)
    assert [(one.file.name, one.error) for one in written] == [("double.pt2", 0.0)]
    assert (tmp_path / "note.txt").read_text() == "hello\n"
    assert "`note.txt`" in (tmp_path / "README.md").read_text()


def test_what_does_not_equal_the_student_is_not_written(run: Run, tmp_path: Path) -> None:
    with pytest.raises(FewstepError, match=r"double\.pt2 does not equal the student: it is off by up to 2"):
        export_run(offering(run, Doubling(), 3.0), ["torch"], tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_graph_whose_lengths_are_not_shown_to_vary_is_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(FewstepError, match="examples of one shape"):
        export_run(offering(run, Doubling(), 2.0, rows=(2, 2)), ["torch"], tmp_path)


class Looking(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def test_a_module_that_looks_at_its_values_is_refused_with_what_to_do(run: Run, tmp_path: Path) -> None:
    with pytest.raises(FewstepError, match=r"(?s)'double' cannot become double\.pt2.*safetensors"):
        export_run(offering(run, Looking(), 1.0), ["torch"], tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_student_that_needs_the_truth_is_refused(run: Run) -> None:
    def draw(roles: Roles, batch: Batch, step: Step) -> Iterator[State]:
        yield State(batch.x + 1, torch.zeros(1))

    product = replace(run.product, contenders={"student": Sampler(draw, ())})
    with pytest.raises(FewstepError, match="cannot be drawn from noise and conditions alone"):
        traced(product, run.shelf, Key(0))


def test_keys_that_are_told_give_back_what_was_noted() -> None:
    noted = Noted(1)
    like: Any = torch.zeros(2, 3)
    first, second = noted.at("a").normal(like), noted.at("b", 2).uniform((4,))
    assert torch.equal(first, Key(1).at("a").normal(like))
    told = Told(9, given=iter(x for _, x in noted.drawn))
    assert told.at("anything").normal(like) is first
    assert told.uniform((1,)) is second
