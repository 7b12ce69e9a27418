"""Students for elsewhere: weights as safetensors, and graphs that run without this library, compared before they count."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from fewstep import __version__
from fewstep.errors import FewstepError
from fewstep.plugins.specs import PROTOCOL
from fewstep.protocol import Denoiser, Graph, Portable, Shelf, Step, tensors
from fewstep.runs.folder import RunFolder, drafting, writing
from fewstep.runs.graphs import FORMATS
from fewstep.runs.tracing import traced

if TYPE_CHECKING:
    from fewstep.runs.handle import Run

WEIGHTS = "safetensors"
TOLERANCE = 1e-3
"""Largest error of an exported graph, in standard deviations of what it should give; integers must be equal.

onnxruntime takes cosines of float64 in float32, which moves two steps on a cosine schedule by 3e-4; a wrong graph errs by 1.
"""


@dataclass(frozen=True)
class Written:
    """A file that was compared.

    Args:
        file: where it lies.
        error: the largest difference of any number from the student's.
        about: what was compared.
    """

    file: Path
    error: float
    about: str


def export_run(
    run: Run, formats: Sequence[str], out: Path, say: Callable[[str], object] = str
) -> list[Written]:
    """Write the student in the given formats, and a program that shows how to use it.

    Everything is made and compared in a hidden folder first: what does not equal the student never gets its name.

    Args:
        run: finished.
        formats: out of "safetensors", "torch", "onnx".
        out: folder.
        say: told what is being done; by default nobody is.

    Raises:
        FewstepError: an unknown format, a missing package, a student that cannot be exported so, or one that is not equal.
    """
    chosen = _known(formats)
    for name in filter(FORMATS.__contains__, chosen):
        FORMATS[name].require()
    with drafting(out, "export") as draft, writing(out):
        found = _weights(run, draft) if WEIGHTS in chosen else []
        graphs = [name for name in chosen if name in FORMATS]
        if graphs:
            say("tracing the student")
            found += _graphs(run, graphs, draft, say)
        for file in sorted(draft.iterdir()):
            file.replace(out / file.name)
    return [Written(out / one.file.name, one.error, one.about) for one in found]


def _known(formats: Sequence[str]) -> list[str]:
    offered = (WEIGHTS, *FORMATS)
    unknown = [name for name in formats if name not in offered]
    if unknown or not formats:
        raise FewstepError(
            f"no format {', '.join(map(repr, unknown))}" if unknown else "no format was asked for",
            f"one or more of {', '.join(offered)}",
            "correct --format",
        )
    return list(dict.fromkeys(formats))


# --- weights ------------------------------------------------------------------------------------------------------
def export(folder: RunFolder, shelf: Shelf, student: str, out: Path | None = None) -> list[str]:
    """Write ``export/<name>.safetensors`` for the student and its teacher, and ``export/student.json``.

    Args:
        folder: the run's.
        shelf: what training left.
        student: shelf name of the student; it is exported under the name "student".
        out: another place than ``export`` in the run folder.

    Returns:
        The names that were written.
    """
    found = {"student": shelf.get(student), "teacher": shelf.get("teacher")}
    modules = {name: module for name, module in found.items() if isinstance(module, nn.Module)}
    if "student" not in modules:
        raise FewstepError(
            f"the product's student is {student!r}, which training did not leave as a module",
            f"one of {', '.join(map(repr, shelf)) or 'nothing'}",
            "correct Product.student, or the `leaves` of the stage that makes it",
        )
    header, place = _header(folder), out or folder.path / "export"
    with writing(place):
        place.mkdir(exist_ok=True)
        for name, module in modules.items():
            draft = place / f".{name}.draft"
            draft.write_bytes(_packed(name, module, header))
            draft.replace(place / f"{name}.safetensors")
        told = {**header, **_described(modules["student"])}
        (place / "student.json").write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", "utf-8")
    return list(modules)


def _weights(run: Run, out: Path) -> list[Written]:
    """Weights and settings, read back and put to use."""
    names = export(run.files, run.shelf, run.product.student, out)
    shutil.copyfile(run.folder / "config.yaml", out / "config.yaml")
    found = []
    for name in names:
        module = run.shelf[run.product.student if name == "student" else name]
        again = load_file(out / f"{name}.safetensors")
        own = {key: value.cpu() for key, value in module.state_dict().items()}
        error = max((_error([again[key]], [value]) for key, value in own.items()), default=0.0)
        told = f"{sum(p.numel() for p in module.parameters())} parameters read back"
        if name == "student":
            error = max(error, _samples_error(run, again))
            told += ", samples drawn with them"
        found.append(_equal(Written(out / f"{name}.safetensors", error, told), 0.0))
    return found


def _samples_error(run: Run, weights: Mapping[str, Tensor]) -> float:
    """Difference between samples of the student and of a student with the weights that were read back."""
    product, key = run.product, run.setup.site.key.at("export")
    name = next((n for n, s in product.contenders.items() if product.student in s.roles), None)
    if name is None:
        return 0.0
    twin = deepcopy(run.shelf[product.student])
    for parameter in twin.parameters():
        parameter.data.zero_()  # so that nothing of the original is left
    twin.load_state_dict(weights)
    batch = product.evaluation(2, key.at("batch"))
    with torch.no_grad():
        before, after = (
            list(product.contenders[name].fn({**run.shelf, product.student: who}, batch, Step.inference(key)))
            for who in (run.shelf[product.student], twin)
        )
    return _error(tensors(after[-1].x), tensors(before[-1].x))


def _header(folder: RunFolder) -> dict[str, str]:
    facts = folder.facts
    return {
        "fewstep": __version__,
        "protocol": ".".join(map(str, PROTOCOL)),
        "recipe": str(facts.get("recipe")),
        "config_hash": str(facts.get("config_hash")),
        "run": folder.path.name,
    }


def _packed(name: str, module: nn.Module, header: Mapping[str, str]) -> bytes:
    weights = {key: value.detach().cpu().clone().contiguous() for key, value in module.state_dict().items()}
    try:
        return save(weights, metadata={**header, "role": name})
    except (SafetensorError, ValueError) as error:
        raise FewstepError(
            f"the {name} cannot be exported: {error}", "a module whose state is tensors"
        ) from error


def _described(module: nn.Module) -> dict[str, Any]:
    """What one needs to put the weights to use elsewhere: class, process, prediction, start times of the steps."""
    inner = module.net if isinstance(module, Denoiser) else module
    known: dict[str, Any] = {"class": _name(module), "network": _name(inner)}
    if isinstance(module, Denoiser):
        known |= {"prediction": module.prediction, "process": repr(module.process)}
    for name in ("times", "rule"):
        value = getattr(module, name, None)
        if isinstance(value, (str, int, float, tuple, list)):
            known[name] = value
    known["parameters"] = sum(parameter.numel() for parameter in module.parameters())
    return known


def _name(module: nn.Module) -> str:
    return f"{type(module).__module__}:{type(module).__qualname__}"


# --- graphs -------------------------------------------------------------------------------------------------------
def _graphs(run: Run, formats: Sequence[str], out: Path, say: Callable[[str], object]) -> list[Written]:
    key = run.setup.site.key
    shelf = {
        name: deepcopy(part).cpu().eval() if isinstance(part, nn.Module) else part
        for name, part in run.shelf.items()
    }
    portable = (run.product.portable or _automatic(run))(shelf, key)
    found = []
    for graph in portable.graphs:
        _check_examples(graph)
        for name in formats:
            say(f"writing and comparing {graph.name}{FORMATS[name].suffix}")
            found.append(_compared(graph, name, out))
    _beside(run, portable, formats, found, out)
    return found


def _automatic(run: Run) -> Callable[[Shelf, Any], Portable]:
    return lambda shelf, key: traced(run.product, shelf, key)


def _compared(graph: Graph, form: str, out: Path) -> Written:
    """The graph as a file that gives every example's outputs."""
    file, kind = out / f"{graph.name}{FORMATS[form].suffix}", FORMATS[form]
    try:
        kind.write(graph, file)
        answer = kind.read(file)
        got = [answer(inputs) for inputs, _ in graph.examples]
    except FewstepError:
        raise
    except Exception as error:
        first: BaseException = error
        while first.__cause__ is not None:  # exporters wrap what they met, such as an operator that they lack
            first = first.__cause__
        said = str(first).strip().partition("\n")[0][:300]
        raise FewstepError(
            f"{graph.name!r} cannot become {file.name}: {type(first).__name__}: {said}",
            "a student that is a fixed sequence of tensor operations, whatever the length of its free axes",
            "take another --format (safetensors always works), or let the recipe offer Product.portable",
        ) from error
    worst = max(_error(mine, theirs) for mine, (_, theirs) in zip(got, graph.examples, strict=True))
    scale = max(float(x.double().std()) for _, theirs in graph.examples for x in theirs if x.numel() > 1)
    sizes = " and ".join("x".join(map(str, inputs[0].shape)) for inputs, _ in graph.examples)
    return _equal(
        Written(file, worst, f"samples of {len(graph.examples)} batches ({sizes})"), TOLERANCE * scale
    )


def _error(mine: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    """The largest difference; infinite for another shape, a number that is none, or an integer that differs."""
    worst = 0.0
    for a, b in zip(mine, theirs, strict=True):
        a, b = a.detach().cpu(), b.detach().cpu()
        if a.shape != b.shape or (not b.is_floating_point() and not torch.equal(a, b)):
            return float("inf")
        gap = float((a.double() - b.double()).abs().max()) if b.numel() else 0.0
        worst = max(worst, gap if gap == gap else float("inf"))
    return worst


def _equal(found: Written, allowed: float) -> Written:
    if found.error > allowed:
        off = (
            f"is off by up to {found.error:.3g}"
            if found.error < float("inf")
            else "gives no such numbers at all"
        )
        raise FewstepError(
            f"{found.file.name} does not equal the student: it {off}",
            f"at most {allowed:.3g} ({found.about})",
            "nothing was written; take another --format, and please report it with the command and the recipe",
        )
    return found


def _check_examples(graph: Graph) -> None:
    shapes = {tuple(x.shape for x in inputs) for inputs, _ in graph.examples}
    if len(shapes) < 2:
        raise FewstepError(
            f"the graph {graph.name!r} has {len(graph.examples)} examples of one shape",
            "two of different shapes, which say what may vary",
            "correct Product.portable",
        )


def _beside(
    run: Run, portable: Portable, formats: Sequence[str], found: Sequence[Written], out: Path
) -> None:
    """Description, examples, the program that runs them, and the product's own files."""
    told = {
        graph.name: {
            "inputs": _ports(graph.inputs, [x for x, _ in graph.examples]),
            "outputs": _ports(graph.outputs, [x for _, x in graph.examples]),
        }
        for graph in portable.graphs
    }
    errors = {one.file.name: one.error for one in found}
    header = {**_header(run.files), "errors": errors, "graphs": told}
    (out / "graphs.json").write_text(json.dumps(header, indent=2, ensure_ascii=False) + "\n", "utf-8")
    for graph in portable.graphs:
        inputs, outputs = graph.examples[-1]
        named = zip([*graph.inputs, *graph.outputs], [*inputs, *outputs], strict=True)
        np.savez(out / f"{graph.name}.example.npz", allow_pickle=False, **{n: x.numpy() for n, x in named})
    here = Path(__file__).parent / "templates"
    shutil.copyfile(here / "portable.txt", out / "run.py")
    suffixes = ", ".join(f"`{graph.name}{FORMATS[f].suffix}`" for graph in portable.graphs for f in formats)
    text = (here / "portable.md").read_text("utf-8")
    more = "".join(f"- `{name}`\n" for name in portable.files)
    told_text = text.format(recipe=header["recipe"], run=header["run"], files=suffixes, more=more)
    for name, content in {"README.md": told_text, **portable.files}.items():
        (out / name).write_text(content, "utf-8")


def _ports(about: Mapping[str, str], examples: Sequence[Sequence[Tensor]]) -> dict[str, Any]:
    """Name -> what it is, its type, and its shape with None where any length will do."""
    ports = {}
    for (name, words), *same in zip(about.items(), *examples, strict=True):
        lengths = zip(*(x.shape for x in same), strict=True)
        shape = [sizes[0] if len(set(sizes)) == 1 else None for sizes in lengths]
        ports[name] = {"about": words, "dtype": str(same[0].dtype).partition(".")[2], "shape": shape}
    return ports
