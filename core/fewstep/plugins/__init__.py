"""How parts are found: hook specifications, descriptors, the loader and readiness. Imports no torch."""

from fewstep.plugins.hookspecs import hookimpl, hookspec
from fewstep.plugins.specs import PROTOCOL, CommandSpec, ComponentSpec, Gate, RecipeSpec, resolve

__all__ = [
    "PROTOCOL",
    "CommandSpec",
    "ComponentSpec",
    "Gate",
    "RecipeSpec",
    "hookimpl",
    "hookspec",
    "resolve",
]
