"""Writes a new plugin from templates: small, whole, and passing the conformance kit from its first minute."""

from __future__ import annotations

import keyword
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from string import Template

from fewstep.errors import FewstepError
from fewstep.plugins.loader import registry

PLACES: Mapping[str, str] = {
    "pyproject.toml.tmpl": "pyproject.toml",
    "README.md.tmpl": "README.md",
    "plugin.py.tmpl": "$PACKAGE/plugin.py",
    "recipe.py.tmpl": "$PACKAGE/recipe.py",
    "test_conformance.py.tmpl": "tests/test_conformance.py",
}
"""Template -> where it goes."""


def write_plugin(name: str, folder: Path) -> list[Path]:
    """Write the plugin ``name`` into ``folder``; returns the files.

    Raises:
        FewstepError: the name cannot be a plugin's name, or the folder holds something already.
    """
    _check(name, folder)
    words = {"NAME": name, "PACKAGE": f"fewstep_{name}"}
    written = []
    for template, place in PLACES.items():
        text = files("fewstep").joinpath("skeleton", template).read_text()
        target = folder / Template(place).substitute(words)
        written.append(_write(target, Template(text).substitute(words)))
    package = folder / words["PACKAGE"] / "__init__.py"
    return [*written, _write(package, f'"""{name} for fewstep."""\n')]


def _check(name: str, folder: Path) -> None:
    plain = name.isascii() and name.isidentifier() and len(name) <= 64
    if not plain or name != name.lower() or keyword.iskeyword(name):
        raise FewstepError(
            f"{name!r} cannot name a plugin",
            "up to 64 lower case letters (a to z), digits and underscores, such as 'circle'",
            "choose another",
        )
    if name in {plugin.name for plugin in registry().plugins}:
        raise FewstepError(
            f"a plugin named {name!r} is installed already",
            "a name of its own: two plugins of one name cannot both be loaded",
            "choose another",
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FewstepError(
            f"{folder} exists already", "a folder that is new or empty", "choose another folder"
        )


def _write(path: Path, text: str) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except OSError as error:
        raise FewstepError(
            f"{path} cannot be written: {error.strerror}", "a writable folder", "choose another folder"
        ) from error
    return path
