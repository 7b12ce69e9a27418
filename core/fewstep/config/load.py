"""From defaults, preset, file and command line to one configuration whose every value keeps its origin."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from fewstep.config.fields import model_at, walk
from fewstep.config.layers import Layers, Path_, leaves, nested, parse_sets, read_yaml
from fewstep.errors import FewstepError, nearest

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Resolved(Generic[M]):
    """A configuration and where each of its values came from.

    Args:
        config: validated and frozen.
        origins: dotted name -> "default", "preset smoke", "settings.yaml:12" or "-s".
    """

    config: M
    origins: Mapping[str, str]

    @property
    def values(self) -> dict[str, Any]:
        """The configuration as plain data, defaults included."""
        return self.config.model_dump(mode="json")

    @property
    def hash(self) -> str:
        """Identity of the configuration: SHA-256 of its canonical JSON."""
        return config_hash(self.values)


def config_hash(values: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of sorted, compact JSON."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def resolve(
    model: type[M],
    *,
    preset: Mapping[str, Any] | None = None,
    profile: str = "",
    file: Path | None = None,
    sets: Sequence[str] = (),
    arguments: Mapping[str, Any] | None = None,
) -> Resolved[M]:
    """Defaults < preset < file < ``-s`` < arguments of Python, validated once, with every error shown at once.

    Args:
        model: the recipe's configuration class.
        preset: the values of the profile, dotted or nested names.
        profile: its name, for origins.
        file: YAML settings.
        sets: ``a.b=value`` entries, later ones win.
        arguments: dotted or nested names given in Python.

    Raises:
        FewstepError: naming each wrong value, its origin, and the nearest field for an unknown name.
    """
    of_file = read_yaml(file) if file is not None else []
    written = [
        *_kinds_first(_entries(preset or {}, f"preset {profile}".strip())),
        *_kinds_first(of_file),
        *_kinds_first(parse_sets(sets)),
        *_kinds_first(_entries(arguments or {}, "argument")),
    ]
    return merge(model, written)


def restore(model: type[M], file: Path, origins: Mapping[str, str]) -> Resolved[M]:
    """The configuration that a run was made with.

    Args:
        model: the recipe's configuration class.
        file: the run's config.yaml.
        origins: the run's config.origin.json.

    Raises:
        FewstepError: the file is absent or does not fit the class any more.
    """
    found = resolve(model, file=file)
    return Resolved(found.config, {name: origins.get(name, "default") for name in found.origins})


def merge(model: type[M], written: Sequence[tuple[Path_, Any, str]]) -> Resolved[M]:
    """Put (path, value, origin) entries over the defaults and validate.

    Raises:
        FewstepError: as ``resolve``.
    """
    layers = _defaults(model)
    for path, value, origin in written:
        layers.put(path, value, origin)
    try:
        config = model.model_validate(layers.values)
    except ValidationError as error:
        raise FewstepError(_explain(model, layers, error.errors()), todo="") from error
    dumped = config.model_dump(mode="json")
    origins = {
        ".".join(path): layers.origins.get(path) or _origin(layers, path) for path, _ in leaves(dumped)
    }
    return Resolved(config, origins)


def _entries(values: Mapping[str, Any], origin: str) -> list[tuple[Path_, Any, str]]:
    return [(path, value, origin) for path, value in leaves(nested(values))]


def _kinds_first(written: Sequence[tuple[Path_, Any, str]]) -> list[tuple[Path_, Any, str]]:
    """Within one layer the order of lines means nothing, so the choice of a part comes before its fields."""
    return sorted(written, key=lambda entry: len(entry[0]) - (entry[0][-1] == "kind"))


def _origin(layers: Layers, path: Path_) -> str:
    """A leaf that nobody wrote is a default, unless it is an item of a value that was written whole."""
    for length in range(len(path) - 1, 0, -1):
        if path[:length] in layers.origins:
            return layers.origins[path[:length]]
    return "default"


def _defaults(model: type[BaseModel]) -> Layers:
    layers = Layers()
    for name, info in model.model_fields.items():
        if info.is_required():
            continue
        value = info.get_default(call_default_factory=True)
        layers.put((name,), value.model_dump() if isinstance(value, BaseModel) else value, "default")
    return layers


def _explain(model: type[BaseModel], layers: Layers, errors: Sequence[ErrorDetails]) -> str:
    lines = [_line(model, layers, error) for error in errors]
    head = "1 setting is wrong:" if len(lines) == 1 else f"{len(lines)} settings are wrong:"
    return "\n".join([head, *(f"  {line}" for line in dict.fromkeys(lines))])


def _line(model: type[BaseModel], layers: Layers, error: ErrorDetails) -> str:
    path = walk(layers.values, error["loc"])
    name = ".".join(path)
    message = _message(model, layers.values, path, error)
    origin = layers.origin(path)
    return f"{name} ({origin}): {message}" if origin != "default" else f"{name}: {message}"


def _message(model: type[BaseModel], values: Mapping[str, Any], path: Path_, error: ErrorDetails) -> str:
    kind = error["type"]
    if kind == "extra_forbidden":
        owner = model_at(model, values, path[:-1])
        return "no such field" + _offered(path[-1], list(owner.model_fields) if owner else [])
    if kind == "missing":
        return "must be given"
    if kind in ("literal_error", "enum", "union_tag_invalid"):
        context = error.get("ctx", {})
        expected = str(context.get("expected") or context.get("expected_tags", ""))
        given = context.get("tag", error["input"])
        names = [part.strip().strip("'") for part in expected.replace(" or ", ", ").split(",")]
        return f"{given!r} is none of {expected}" + nearest(str(given), names)
    text = error["msg"].removeprefix("Value error, ")
    shown = repr(error["input"])
    if error["input"] == "none":  # as `fewstep show` prints what is not set
        return f"{_lower(text)}, got 'none'; to leave it unset write null"
    return f"{_lower(text)}, got {shown}" if len(shown) < 60 and kind != "value_error" else _lower(text)


def _offered(name: str, fields: Sequence[str]) -> str:
    near = nearest(name, fields)
    return near or (f"; there are {', '.join(fields)}" if 0 < len(fields) <= 12 else "")


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
