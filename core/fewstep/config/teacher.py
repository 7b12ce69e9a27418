"""Teachers by ``kind``: weights are data here, and no code is ever run from a data file."""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from fewstep.config.model import TeacherConfig
from fewstep.errors import FewstepError
from fewstep.protocol import Cond, Key, Shelf, Stage


def load_teacher(config: TeacherConfig, make: Callable[[], nn.Module]) -> nn.Module | None:
    """The teacher that ``config`` names, frozen, or None when the recipe has to train it.

    Args:
        config: where it comes from.
        make: the recipe's own teacher with fresh weights; a checkpoint is loaded into it. For kind "diffusers"
            the loaded network replaces its ``net``; for kind "import" the callable's module replaces the whole
            or, when it is not a denoiser, its ``net``.

    Raises:
        FewstepError: the file is absent, unreadable, or fits another network; the code cannot be imported.
    """
    if config.kind == "train":
        return None
    if config.kind == "checkpoint":
        return _frozen(_filled(make(), Path(str(config.path))))
    found = _from_diffusers(config) if config.kind == "diffusers" else _from_code(str(config.target))
    return _frozen(_seated(found, make))


@dataclass(frozen=True)
class Given:
    """A task that puts ready modules on the shelf, where later stages and samplers find them like trained ones."""

    modules: Mapping[str, nn.Module]

    def run(self, shelf: Shelf, key: Key) -> Shelf:
        """The modules, frozen."""
        return {name: _frozen(module) for name, module in self.modules.items()}


def given_stage(teacher: nn.Module, **beside: nn.Module) -> Stage:
    """The stage "teacher" of a plan whose teacher is ready, exact or loaded, as is what else such a stage leaves."""
    return Stage("teacher", lambda _: Given({"teacher": teacher, **beside}))


def left_beside(config: TeacherConfig, role: str, make: Callable[[], nn.Module]) -> nn.Module | None:
    """Another role that the stage "teacher" of a given run left, frozen; None where that is no run, or left no such.

    Raises:
        FewstepError: what it left is damaged, or fits another network.
    """
    file = Path(str(config.path)) / "stages" / "teacher" / f"{role}.safetensors"
    return _frozen(_filled(make(), file)) if config.kind == "checkpoint" and file.is_file() else None


def check_teacher(config: TeacherConfig) -> None:
    """Find a missing or corrupt teacher before anything is built.

    Raises:
        FewstepError: as ``load_teacher`` would, except for weights that do not fit.
    """
    if config.kind == "checkpoint":
        read_weights(Path(str(config.path)))
    elif config.kind == "diffusers":
        _pipeline(config)
    elif config.kind == "import":
        attribute(str(config.target), "teacher.target")


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, a .pt file (weights only) or a run folder's exported teacher.

    Raises:
        FewstepError: nothing is there, or it cannot be read.
    """
    file = _weights_file(path)
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError, OSError, ValueError) as error:
        # Torch's own text on code inside advises to run it; nobody should.
        coded = isinstance(error, pickle.UnpicklingError)
        why = "it is damaged, or holds code beside tensors" if coded else _first_line(error)
        raise FewstepError(
            f"the teacher's weights in {file} cannot be read: {why}",
            "a .safetensors file, or a .pt file that holds only tensors",
            "copy or download the file again; if it was saved with code inside, save its state_dict alone",
        ) from error
    return _tensors_of(loaded, file)


def _weights_file(path: Path) -> Path:
    if path.is_file():
        return path
    inside = [path / "export" / f"{name}.safetensors" for name in ("teacher", "student")]
    for file in inside:
        if file.is_file():
            return file
    what = "holds no exported teacher" if path.is_dir() else "does not exist"
    raise FewstepError(
        f"teacher.path = {path}: {what}",
        "a .safetensors or .pt file, or the folder of a finished run",
        "correct teacher.path, or use -s teacher=train to let the recipe train a small one",
    )


def _tensors_of(loaded: Any, file: Path) -> dict[str, Tensor]:
    if isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, Mapping) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise FewstepError(
            f"{file} holds {type(loaded).__name__}, not weights",
            "a mapping from parameter names to tensors",
            "save the network's state_dict() alone",
        )
    return dict(loaded)


def _filled(module: nn.Module, path: Path) -> nn.Module:
    weights, own = read_weights(path), module.state_dict()
    problems = [f"{name}: missing" for name in own if name not in weights]
    problems += [f"{name}: not part of the network" for name in weights if name not in own]
    problems += [
        f"{name}: shape {tuple(weights[name].shape)}, the network has {tuple(own[name].shape)}"
        for name in own
        if name in weights and weights[name].shape != own[name].shape
    ]
    if problems:
        more = f"\n  and {len(problems) - 6} more" if len(problems) > 6 else ""
        raise FewstepError(
            f"the weights in {path} belong to another network:\n  " + "\n  ".join(problems[:6]) + more,
            "the same names and shapes",
            "set the recipe's network fields to what the checkpoint was made with (its config.yaml says)",
        )
    module.load_state_dict(weights)
    return module


def _pipeline(config: TeacherConfig) -> None:
    """A whole pipeline will do for a recipe that knows its parts; others ask for one part when they load it."""
    if config.subfolder or not (Path(str(config.path)) / "model_index.json").is_file():
        _pipeline_part(config)


def _pipeline_part(config: TeacherConfig) -> Path:
    folder = Path(str(config.path)) / config.subfolder
    if not (folder / "config.json").is_file():
        raise FewstepError(
            f"{folder} is not a diffusers model folder: it has no config.json",
            "a local folder that save_pretrained wrote",
            "point teacher.path at the pipeline folder and teacher.subfolder at the network, such as 'unet'",
        )
    return folder


def _from_diffusers(config: TeacherConfig) -> nn.Module:
    folder = _pipeline_part(config)
    try:
        from diffusers import AutoModel
    except ImportError as error:
        raise FewstepError(
            "teacher.kind 'diffusers' needs the diffusers library, which is not installed",
            "",
            'pip install "fewstep[diffusers]"',
        ) from error
    try:
        return Keyworded(AutoModel.from_pretrained(str(folder), local_files_only=True, use_safetensors=True))
    except (OSError, ValueError, SafetensorError, RuntimeError) as error:
        raise FewstepError(
            f"diffusers cannot load {folder}: {_first_line(error)}",
            "a whole model folder with its safetensors weights",
            "save the model again with save_pretrained(folder)",
        ) from error


class Keyworded(nn.Module):
    """A network of diffusers as core calls one: its inputs beside state and time are ``cond.data``, by their names.

    Args:
        inner: called as ``inner(x, time, **cond.data)``, returns a tuple or an output that begins with the prediction.
    """

    def __init__(self, inner: nn.Module) -> None:
        """Wrap it."""
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, time: Tensor, cond: Cond) -> Tensor:
        """(B, ...), (B,) -> (B, ...)."""
        out: Tensor = self.inner(x, time, **(cond.data or {}), return_dict=False)[0]
        return out


def _from_code(target: str) -> nn.Module:
    made = attribute(target, "teacher.target")()
    if not isinstance(made, nn.Module):
        raise FewstepError(
            f"{target}() returned {type(made).__name__}", "a torch.nn.Module", "return the network itself"
        )
    return made


def attribute(target: str, field: str) -> Callable[[], Any]:
    """The callable that 'module:callable' names.

    Args:
        target: what to find.
        field: the setting that named it.

    Raises:
        FewstepError: it cannot be imported, or not called.
    """
    module, _, name = target.partition(":")
    try:
        found: Callable[[], Any] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise FewstepError(
            f"{field} = {target}: {_first_line(error)}",
            "'module:callable' that Python can import from here",
            "put its folder on PYTHONPATH or install it",
        ) from error
    if not callable(found):
        raise FewstepError(
            f"{target} is not callable", "a function or class without required arguments", "wrap it in one"
        )
    return found


def _seated(found: nn.Module, make: Callable[[], nn.Module]) -> nn.Module:
    """A found denoiser stands for itself; a bare network takes the seat of the recipe's own one."""
    from fewstep.protocol import Denoiser

    if isinstance(found, Denoiser):
        return found
    seat = make()
    if not isinstance(seat, Denoiser):
        return found
    seat.net = found
    return seat


def _frozen(module: nn.Module) -> nn.Module:
    return module.requires_grad_(False).eval()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
