"""Telling plugins how a run goes. A plugin that fails is no longer told; the run goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from fewstep.plugins.registry import Plugin

_log = logging.getLogger(__name__)


class RunHooks:
    """The life-of-run hooks of all loaded plugins, for one run.

    Args:
        plugins: whom to tell, in this order.
        strict: raise a plugin's error instead of logging it.
    """

    def __init__(self, plugins: Iterable[Plugin], *, strict: bool = False) -> None:
        self._listening = {plugin.name: plugin for plugin in plugins if plugin.status == "loaded"}
        self._strict = strict

    @property
    def listening(self) -> tuple[str, ...]:
        """Names of the plugins that are still told."""
        return tuple(self._listening)

    def run_started(self, run: Any) -> None:
        """The run begins or goes on."""
        self._tell("fewstep_run_started", run=run)

    def step_logged(self, run: Any, step: int, metrics: Mapping[str, float]) -> None:
        """A line of metrics was written."""
        self._tell("fewstep_step_logged", run=run, step=step, metrics=metrics)

    def checkpoint_saved(self, run: Any, path: Path) -> None:
        """A checkpoint is complete at ``path``."""
        self._tell("fewstep_checkpoint_saved", run=run, path=path)

    def run_finished(self, run: Any, status: str) -> None:
        """The run ended: ``"done"``, ``"stopped"`` or ``"failed"``."""
        self._tell("fewstep_run_finished", run=run, status=status)

    def _tell(self, hook: str, **told: object) -> None:
        for plugin in tuple(self._listening.values()):
            call = plugin.call.get(hook)
            if call is not None:
                self._tell_one(plugin, hook, call, told)

    def _tell_one(
        self, plugin: Plugin, hook: str, call: Callable[..., Any], told: Mapping[str, object]
    ) -> None:
        try:
            call(**told)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if self._strict:
                raise
            del self._listening[plugin.name]
            _log.warning(
                "plugin %r failed in %s and is not told any more in this run: %r",
                plugin.name, hook, error, exc_info=error,
            )  # fmt: skip
