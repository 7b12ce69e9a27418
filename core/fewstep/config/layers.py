"""Layers of settings: nested dictionaries whose every leaf knows where it was written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from fewstep.errors import FewstepError

Path_: TypeAlias = tuple[str, ...]


class _Loader(yaml.SafeLoader):
    """YAML that reads 1e-4 as a number, as people mean it, and refuses a key written twice."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d[\d_]*)(\.[\d_]*)?[eE][-+]?\d+$"), list("-+0123456789")
)


@dataclass
class Layers:
    """Settings merged so far.

    Args:
        values: the nested values.
        origins: path of a leaf -> where it was written: "default", "preset smoke", "file.yaml:12", "-s".
    """

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[Path_, str] = field(default_factory=dict)

    def put(self, path: Path_, value: Any, origin: str) -> None:
        """Write one value over what stands there; a mapping is written leaf by leaf.

        A part that names another ``kind`` than the one below it replaces it whole: the fields of a score
        distillation mean nothing to a consistency objective. A bare word is short for ``kind: word``.
        """
        if path[-1] == "kind" and len(path) > 1 and isinstance(value, str):
            self._replaced(path[:-1], value)
        below = self._at(path)
        if isinstance(value, str) and isinstance(below, Mapping) and "kind" in below:
            value = {"kind": value}
        if not isinstance(value, Mapping):
            self._set(path, value, origin)
            return
        if not value:
            self._set(path, {}, origin)
        for name, inner in sorted(value.items(), key=lambda item: item[0] != "kind"):
            self.put((*path, str(name)), inner, origin)

    def origin(self, path: Path_) -> str:
        """Where the value at a path, or the nearest part around or inside it, was written."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.origins:
                return self.origins[path[:length]]
        inside = [origin for name, origin in self.origins.items() if name[: len(path)] == path]
        return inside[-1] if inside else "default"

    def _replaced(self, part: Path_, kind: str) -> None:
        below = self._at(part)
        if isinstance(below, Mapping) and below.get("kind") not in (None, kind):
            self._set(part, {}, "")

    def _at(self, path: Path_) -> Any:
        here: Any = self.values
        for name in path:
            if not isinstance(here, Mapping) or name not in here:
                return None
            here = here[name]
        return here

    def _set(self, path: Path_, value: Any, origin: str) -> None:
        here = self.values
        for name in path[:-1]:
            inner = here.get(name)
            if isinstance(inner, str):
                inner = {"kind": inner}
            here[name] = inner if isinstance(inner, dict) else {}
            here = here[name]
        here[path[-1]] = value
        self.origins = {name: where for name, where in self.origins.items() if name[: len(path)] != path}
        if value != {}:
            self.origins[path] = origin


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping whose dotted names became nested mappings."""
    layers = Layers()
    for name, value in flat.items():
        layers.put(tuple(name.split(".")), value, "")
    return layers.values


def leaves(values: Mapping[str, Any], before: Path_ = ()) -> Iterator[tuple[Path_, Any]]:
    """(path, value) of every leaf, in order."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, (*before, name))
        else:
            yield (*before, name), value


def flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted name -> value of every leaf, in order."""
    return {".".join(path): value for path, value in leaves(values)}


def read_yaml(file: Path) -> list[tuple[Path_, Any, str]]:
    """(path, value, "file:line") of every leaf of a settings file.

    Raises:
        FewstepError: the file is absent, is not YAML, is not a mapping, or writes one name twice.
    """
    try:
        root = yaml.compose(file.read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        raise FewstepError(
            f"cannot read the settings file {file}: {error.strerror or error}",
            "a YAML file",
            "correct the path after -c",
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise FewstepError(
            f"{file} is not YAML: {_where(error)}", "name: value, one per line", "mend that line"
        ) from error
    if root is None:
        return []
    if not isinstance(root, yaml.MappingNode):
        raise FewstepError(f"{file}:1 is not a mapping", "name: value, one per line", "write it so")
    return list(_leaf_nodes(root, (), file))


def parse_sets(sets: Sequence[str]) -> list[tuple[Path_, Any, str]]:
    """(path, value, "-s") of each ``a.b=value``; the value is read as YAML.

    Raises:
        FewstepError: listing every entry that is not of that form.
    """
    found, wrong = [], []
    for entry in sets:
        name, equals, text = entry.partition("=")
        if not equals or not all(name.strip().split(".")):
            wrong.append(f"-s {entry}")
            continue
        try:
            value = yaml.load(text, Loader=_Loader)
        except yaml.YAMLError:
            value = text
        found.append((tuple(name.strip().split(".")), value, "-s"))
    if wrong:
        raise FewstepError(
            "\n".join(wrong) + ": not a setting", "-s name=value or -s part.name=value", "write it so"
        )
    return found


def _leaf_nodes(node: yaml.MappingNode, before: Path_, file: Path) -> Iterator[tuple[Path_, Any, str]]:
    seen: dict[str, int] = {}
    for key, value in node.value:
        name, line = str(key.value), key.start_mark.line + 1
        if name in seen:
            raise FewstepError(
                f"{file}:{line} writes {name!r} again; it stands in line {seen[name]} already",
                "",
                "remove one",
            )
        seen[name] = line
        path = (*before, *name.split("."))
        if isinstance(value, yaml.MappingNode) and value.value:
            yield from _leaf_nodes(value, path, file)
        else:
            yield path, _Loader("").construct_document(value), f"{file.name}:{line}"


def _where(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    return f"line {mark.line + 1}: {problem}" if mark is not None else str(problem)
