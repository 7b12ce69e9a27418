"""The hooks that a plugin may implement. All are optional; an implementation may leave arguments out.

An entry module is imported whenever plugins are listed, so it imports nothing heavy: it returns descriptors whose
code is named as ``"module:attr"``. The cookbook takes its examples from these docstrings.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

from fewstep.plugins.specs import CommandSpec, ComponentSpec, RecipeSpec

if TYPE_CHECKING:
    from collections.abc import Callable

PROJECT = "fewstep"
"""The entry-point group is ``fewstep.plugins``; hook names begin with ``fewstep_``."""

hookspec: Callable[..., Any] = pluggy.HookspecMarker(PROJECT)
hookimpl: Callable[..., Any] = pluggy.HookimplMarker(PROJECT)


@hookspec
def fewstep_recipes() -> Iterable[RecipeSpec]:
    """Recipes of this plugin. Called once.

    >>> from fewstep.plugins import Gate, RecipeSpec, hookimpl
    >>> PROTOCOL = (0, 1)
    >>> @hookimpl
    ... def fewstep_recipes():
    ...     yield RecipeSpec(
    ...         name="circle/consistency",
    ...         summary="Draw angles in one step",
    ...         config="fewstep_circle.config:CircleConfig",
    ...         build="fewstep_circle.recipe:build",
    ...         gates=(Gate(metric="distance", control="teacher_1step", at_most=0.1),),
    ...     )
    >>> [recipe.name for recipe in fewstep_recipes()]
    ['circle/consistency']
    """
    return ()


@hookspec
def fewstep_components() -> Iterable[ComponentSpec]:
    """Parts of this plugin that other recipes may name. Called once.

    >>> from fewstep.plugins import ComponentSpec, hookimpl
    >>> @hookimpl
    ... def fewstep_components():
    ...     yield ComponentSpec(name="circle/wrapped", kind="process", target="fewstep_circle.process:Wrapped")
    >>> [part.kind for part in fewstep_components()]
    ['process']
    """
    return ()


@hookspec
def fewstep_commands() -> Iterable[CommandSpec]:
    """Commands of this plugin, shown as ``fewstep <plugin> <command>``. Called once.

    >>> from fewstep.plugins import CommandSpec, hookimpl
    >>> @hookimpl
    ... def fewstep_commands():
    ...     yield CommandSpec(name="circle/plot", summary="Plot angles", target="fewstep_circle.plot:main")
    >>> [command.name for command in fewstep_commands()]
    ['circle/plot']
    """
    return ()


@hookspec
def fewstep_run_started(run: Any) -> None:
    """A run begins (or goes on); ``run.folder`` exists and holds the resolved config.

    >>> from types import SimpleNamespace
    >>> from fewstep.plugins import hookimpl
    >>> @hookimpl
    ... def fewstep_run_started(run):
    ...     print("started", run.name)
    >>> fewstep_run_started(SimpleNamespace(name="circle-1"))
    started circle-1
    """


@hookspec
def fewstep_step_logged(run: Any, step: int, metrics: Mapping[str, float]) -> None:
    """A line of metrics was written; ``step`` counts cycles of the stage named in ``metrics``' keys.

    >>> from fewstep.plugins import hookimpl
    >>> @hookimpl
    ... def fewstep_step_logged(step, metrics):
    ...     print(step, *(f"{name}={value:.2f}" for name, value in metrics.items()))
    >>> fewstep_step_logged(10, {"student/loss": 0.25})
    10 student/loss=0.25
    """


@hookspec
def fewstep_checkpoint_saved(run: Any, path: Path) -> None:
    """A checkpoint is complete on disk at ``path``.

    >>> from pathlib import Path
    >>> from fewstep.plugins import hookimpl
    >>> @hookimpl
    ... def fewstep_checkpoint_saved(path):
    ...     print("saved", path.name)
    >>> fewstep_checkpoint_saved(Path("checkpoints/student-000100"))
    saved student-000100
    """


@hookspec
def fewstep_run_finished(run: Any, status: str) -> None:
    """A run ended; ``status`` is ``"done"``, ``"stopped"`` (resumable) or ``"failed"``.

    >>> from fewstep.plugins import hookimpl
    >>> @hookimpl
    ... def fewstep_run_finished(status):
    ...     print("the run is", status)
    >>> fewstep_run_finished("done")
    the run is done
    """
