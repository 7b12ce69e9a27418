"""A speaker that left the house: the graphs equal the student, and they speak where fewstep cannot be imported."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from fewstep.protocol import Cond
from fewstep.runs import Run
from fewstep.runs.export import export_run
from fewstep_audio.sound.mel import MelContract, mel_filters
from fewstep_audio.speech.layout import aligned
from fewstep_audio.speech.portable import laid

ALONE = """
import runpy, sys
class Block:
    def find_spec(self, name, *_):
        if name.partition(".")[0].startswith("fewstep"):
            raise ImportError(name)
sys.meta_path.insert(0, Block())
folder, *sys.argv = sys.argv[1:]
sys.path.insert(0, folder)
runpy.run_path(sys.argv[0], run_name="__main__")
assert not [name for name in sys.modules if name.startswith("fewstep")]
"""


@pytest.fixture(scope="module")
def exported(speaking: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    # The graphs are made in another process: here annotations are checked, which a tracer cannot follow.
    out = tmp_path_factory.mktemp("exported")
    words = [sys.executable, "-m", "fewstep.cli", "export", str(speaking.folder), "--out", str(out)]
    words += ["--format", "torch", "--format", "onnx"]
    subprocess.run(words, check=True, capture_output=True)
    return out


@pytest.fixture
def alone(exported: Path) -> Callable[..., str]:
    def run(program: str, *words: str) -> str:
        told = [sys.executable, "-I", "-c", ALONE, str(exported), str(exported / program), *words]
        return subprocess.run(told, check=True, capture_output=True, text=True).stdout

    return run


def test_the_length_regulator_of_the_graph_is_that_of_training() -> None:
    frames = torch.tensor([[3, 1, 4, 0], [1, 1, 1, 1], [9, 0, 0, 0]])
    mine, theirs = laid(frames, 9), aligned(frames, 9)
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


@pytest.mark.slow
def test_every_graph_was_compared_before_it_was_written(exported: Path) -> None:
    told = json.loads((exported / "graphs.json").read_text())
    assert set(told["errors"]) == {"durations.pt2", "durations.onnx", "speech.pt2", "speech.onnx"}
    assert max(told["errors"].values()) < 1e-4
    assert told["graphs"]["speech"]["inputs"]["noise"]["shape"] == [None, 80, None]
    assert not [file for file in exported.iterdir() if file.name.startswith(".export")]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["torch", "onnx"])
def test_the_examples_run_without_fewstep(alone: Callable[..., str], kind: str) -> None:
    lines = alone("run.py", kind).splitlines()
    errors = [float(line.rpartition(" ")[2]) for line in lines]
    assert len(errors) == 2
    assert max(errors) < 1e-4


@pytest.mark.slow
def test_the_graph_says_another_text_as_the_student_does(exported: Path, speaking: Run) -> None:
    import onnxruntime

    asked = speaking.product.options(text="Nobody has seen this sentence before.")
    drawn = speaking.drawn(asked, seed=7)
    frames = speaking.shelf["durations"].frames(drawn.batch.cond)
    key = speaking.setup.site.key.at("sample", 7).at("draw").at("noise")
    noise = key.normal(torch.zeros(1, 80, int(frames.sum())))
    session = onnxruntime.InferenceSession(str(exported / "speech.onnx"))
    data = {name: x.numpy() for name, x in drawn.batch.cond.data.items()}
    given = {"noise": noise.numpy(), **data, "frames": frames.numpy()}
    mel = session.run(None, {port.name: given[port.name] for port in session.get_inputs()})[0]
    np.testing.assert_allclose(mel, drawn.x["mel"].numpy(), atol=1e-4)


@pytest.mark.slow
def test_a_program_of_numpy_speaks_from_phones(alone: Callable[..., str], tmp_path: Path) -> None:
    for kind in ("torch", "onnx"):
        file = tmp_path / f"{kind}.wav"
        alone("speak.py", "--ipa", "həlˈoʊ ðˈɛɹ", "--seed", "3", "--kind", kind, "--out", str(file))
    (mine, rate), (other, _) = (soundfile.read(tmp_path / f"{kind}.wav") for kind in ("torch", "onnx"))
    assert rate == 22050
    assert len(mine) == len(other) > 0
    assert abs(mine - other).max() < 1e-3


@pytest.mark.slow
def test_the_programs_tables_and_filters_are_ours(
    exported: Path, speaking: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(exported))
    import speak  # type: ignore[import-not-found]

    from fewstep_audio.speech.phones import pronounce

    try:
        np.testing.assert_allclose(speak.filters(), mel_filters(MelContract()).numpy(), atol=1e-8)
        phones, stress = speak.numbered("ɡˈʊd mˈɔːɹnɪŋ")
        said = pronounce(["Good morning."])[0]
        assert phones[0].tolist() == said.phones.tolist()
        assert stress[0].tolist() == said.stress.tolist()
        frames = speaking.shelf["durations"].frames(
            Cond({"phones": said.phones[None], "stress": said.stress[None]})
        )
        assert speak.spoken(phones, stress, kind="torch").shape == (80, int(frames.sum()))
    finally:
        for name in ("speak", "run"):
            sys.modules.pop(name, None)


def test_weights_are_read_back_and_put_to_use(speaking: Run, tmp_path: Path) -> None:
    written = export_run(speaking, ["safetensors"], tmp_path)
    assert [one.file.name for one in written] == ["student.safetensors", "teacher.safetensors"]
    assert all(one.error == 0 for one in written)
    assert (tmp_path / "config.yaml").read_text() == (speaking.folder / "config.yaml").read_text()
