"""Forms for a page, made from a settings class: a control for every option, and what was typed as values."""

from __future__ import annotations

import json
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from fewstep.config.fields import bounds

TYPED = ("text", "line")
"""Kinds whose empty string is a value."""

SHORT = 16
"""Characters of a default that fits on a line."""

_BOUNDS = ("ge", "gt", "le", "lt")


@dataclass(frozen=True)
class Control:
    """One option as a page shows it.

    Args:
        name: of the option.
        kind: "text", "line" for a short one, "number", "switch", "choice", or "data" for what is typed as JSON.
        value: its default as text.
        about: one sentence.
        bounds: such as "0.5 <= value <= 2".
        unit: as printed.
        attributes: of the element: min, max, step.
        choices: for a choice.
        optional: may be left empty.
    """

    name: str
    kind: str
    value: str
    about: str
    bounds: str = ""
    unit: str = ""
    attributes: Mapping[str, str] | None = None
    choices: tuple[str, ...] = ()
    optional: bool = False

    @property
    def label(self) -> str:
        """The name as words."""
        words = self.name.replace("_", " ")
        return words[:1].upper() + words[1:]


def form(model: type[BaseModel]) -> list[Control]:
    """A control for every field."""
    return list(_controls(model))


def typed(model: type[BaseModel], given: Mapping[str, Any]) -> dict[str, Any]:
    """What was typed, ready for the model: empty optional controls are left out, data is read as JSON."""
    known = {control.name: control for control in form(model)}
    values: dict[str, Any] = {}
    for name, value in given.items():
        control = known.get(name)
        if value == "" and control is not None and (control.optional or control.kind not in TYPED):
            continue
        values[name] = _read(value) if control is not None and control.kind == "data" else value
    return values


def _controls(model: type[BaseModel]) -> Iterator[Control]:
    for name, info in model.model_fields.items():
        annotation, optional = _inner(info.annotation)
        default = info.get_default(call_default_factory=True)
        kind = _kind(annotation, default)
        empty = default is PydanticUndefined or default is None
        extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
        yield Control(
            name,
            kind,
            "" if empty else json.dumps(default) if kind == "data" else str(default),
            info.description or "",
            bounds(info),
            str(extra.get("unit", "")),
            _attributes(annotation, info) if kind == "number" else None,
            tuple(map(str, get_args(annotation))) if kind == "choice" else (),
            optional or (default is not PydanticUndefined and kind not in TYPED),
        )


def _inner(annotation: Any) -> tuple[Any, bool]:
    """The type without None, and whether None was among it."""
    if get_origin(annotation) in (Union, types.UnionType):
        parts = [part for part in get_args(annotation) if part is not type(None)]
        return (parts[0] if len(parts) == 1 else annotation), len(parts) < len(get_args(annotation))
    return annotation, False


def _kind(annotation: Any, default: Any) -> str:
    if get_origin(annotation) is Literal:
        return "choice"
    if annotation is str:  # a default that is a word or nothing asks for no more
        return "line" if isinstance(default, str | None) and len(default or "") < SHORT else "text"
    plain = {bool: "switch", int: "number", float: "number", Path: "line"}
    return plain.get(annotation, "data")


def _attributes(annotation: Any, info: FieldInfo) -> dict[str, str]:
    """Bounds that a browser knows; open ones are the model's to tell, except of whole numbers."""
    whole = 1 if annotation is int else 0
    found: dict[str, float] = {}
    for item in info.metadata:
        found |= {name: value for name in _BOUNDS if (value := getattr(item, name, None)) is not None}
    low = found.get("ge", found["gt"] + whole if "gt" in found else None)
    high = found.get("le", found["lt"] - whole if "lt" in found else None)
    limits = {"step": "1" if whole else "any"}
    return (
        limits | ({} if low is None else {"min": f"{low:g}"}) | ({} if high is None else {"max": f"{high:g}"})
    )


def _read(value: Any) -> Any:
    """JSON where it is some; else the text itself, which the model may still understand or refuse."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value
