"""The ``fewstep`` program: finds the commands, and turns errors into a message and an exit code.

Exit codes: 0 done; 1 what was asked about is not well (prove: a gate failed; plugins, check, doctor: something is broken);
2 the request cannot be served as it was made; 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import pkgutil
import sys
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from fewstep import __version__, commands
from fewstep.errors import FewstepError

if TYPE_CHECKING:
    from fewstep.plugins.registry import Plugin
    from fewstep.plugins.specs import CommandSpec

_ORDER = (
    "plugins", "recipes", "show", "run", "prove", "sample", "eval", "report", "compare", "export", "serve",
    "schema", "new_plugin", "check", "doctor",
)  # fmt: skip
"""Order in the help: the way one goes. Commands that are not named here follow by name."""


class _PluginCommands(TyperGroup):
    """``fewstep <plugin> ...``: the commands of one plugin, imported when this group is used."""

    def __init__(self, plugin: Plugin) -> None:
        about = f"Commands of the {plugin.name} plugin ({plugin.distribution})."
        super().__init__(name=plugin.name, help=about, no_args_is_help=True, rich_markup_mode="rich")
        self._plugin = plugin
        self._specs = {spec.name.partition("/")[2]: spec for spec in plugin.commands}

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self._specs)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self._specs:
            return None
        spec = self._specs[cmd_name]
        single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        single.command(cmd_name, help=spec.summary)(_function(self._plugin, spec))
        return typer.main.get_command(single)


class _Commands(TyperGroup):
    """Our own commands, then a group for each plugin that brings some."""

    def list_commands(self, ctx: Any) -> list[str]:
        own = super().list_commands(ctx)
        return [*own, *(plugin.name for plugin in _with_commands() if plugin.name not in own)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        return next((_PluginCommands(plugin) for plugin in _with_commands() if plugin.name == cmd_name), None)


def _with_commands() -> list[Plugin]:
    """Plugins that bring commands."""
    from fewstep.plugins.loader import registry

    return [plugin for plugin in registry().plugins if plugin.commands]


def _function(plugin: Plugin, spec: CommandSpec) -> Callable[..., Any]:
    """What a plugin's command runs; when that cannot be had, a function that says why."""
    from fewstep.plugins.readiness import readiness
    from fewstep.plugins.specs import resolve

    state = readiness(plugin.distribution, spec.extra)
    if not state.ready:
        return _unavailable(f"the command {spec.name!r} {state}", state.install or "fewstep doctor")
    try:
        found: Callable[..., Any] = resolve(spec.target)
    except (ImportError, AttributeError) as error:
        told = f"the command {spec.name!r} names {spec.target!r}, which cannot be imported: {error}"
        return _unavailable(told, f"report it to the authors of {plugin.distribution}")
    return found


def _unavailable(what: str, todo: str) -> Callable[[], None]:
    """A command that can only say why it is not there."""

    def command() -> None:
        raise FewstepError(what, todo=todo)

    return command


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"fewstep {__version__}")
        raise typer.Exit


def _top(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Turn slow many-step generative teachers into few-step students, in any modality.

    The way one goes: fewstep recipes, fewstep show RECIPE, fewstep run RECIPE; then, with what the run left (RUN is its
    folder, or the recipe's name for its newest run): fewstep sample RUN, fewstep compare RUN RUN, fewstep export RUN.

    Exit codes: 0 done; 1 prove, check, plugins or doctor found something wrong; 2 it cannot be done as asked; 130 Ctrl-C.
    """


def application() -> typer.Typer:
    """The program with every command of ``fewstep.commands``."""
    app = typer.Typer(
        cls=_Commands, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich"
    )
    app.callback()(_top)
    names = [
        module.name for module in pkgutil.iter_modules(commands.__path__) if not module.name.startswith("_")
    ]
    for name in sorted(names, key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name)):
        module = import_module(f"{commands.__name__}.{name}")
        context = getattr(module, "CONTEXT", None)
        app.command(name.replace("_", "-"), context_settings=context)(getattr(module, name))
    return app


def main() -> None:
    """Run the program."""
    try:
        application()()
    except FewstepError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
