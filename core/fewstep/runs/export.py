"""Weights for elsewhere: safetensors whose header says what they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save
from torch import nn

from fewstep import __version__
from fewstep.errors import FewstepError
from fewstep.plugins.specs import PROTOCOL
from fewstep.protocol import Denoiser, Shelf
from fewstep.runs.folder import RunFolder, writing


def export(folder: RunFolder, shelf: Shelf, student: str) -> list[str]:
    """Write ``export/<name>.safetensors`` for the student and its teacher, and ``export/student.json``.

    Args:
        folder: the run's.
        shelf: what training left.
        student: shelf name of the student; it is exported under the name "student".

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
    facts = folder.facts
    header = {
        "fewstep": __version__,
        "protocol": ".".join(map(str, PROTOCOL)),
        "recipe": str(facts.get("recipe")),
        "config_hash": str(facts.get("config_hash")),
        "run": folder.path.name,
    }
    with writing(folder.path / "export"):
        (folder.path / "export").mkdir(exist_ok=True)
        for name, module in modules.items():
            draft = folder.path / "export" / f".{name}.draft"
            draft.write_bytes(_packed(name, module, header))
            draft.replace(folder.path / "export" / f"{name}.safetensors")
    folder.write_json("export/student.json", {**header, **_described(modules["student"])})
    return list(modules)


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
