"""Reading configuration classes: which class stands at a path, and a table of all fields."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined


@dataclass(frozen=True)
class FieldRow:
    """One field as ``fewstep show`` prints it."""

    name: str
    type: str
    default: str
    unit: str
    bounds: str
    description: str
    paper: str = ""


def describe(model: type[BaseModel], before: str = "", given: BaseModel | None = None) -> Iterator[FieldRow]:
    """Every field of a class and of the groups inside it, dotted.

    Args:
        model: the class.
        before: put before every name.
        given: show the values of this instance instead of the defaults.
    """
    for name, info in model.model_fields.items():
        dotted = f"{before}{name}"
        inner = _models(info.annotation)
        default = info.get_default(call_default_factory=True) if given is None else getattr(given, name)
        if isinstance(default, BaseModel):
            choices = " | ".join(kind for option in inner if (kind := kind_of(option)))
            if choices and len(inner) > 1:
                yield _row(dotted, info, choices, kind_of(type(default)) or "")
            yield from describe(type(default), f"{dotted}.", default if given is not None else None)
        else:
            shown = "required" if default is PydanticUndefined else _plain(default)
            yield _row(dotted, info, type_name(info.annotation), shown)


def walk(values: Mapping[str, Any], location: Sequence[int | str]) -> tuple[str, ...]:
    """A validator's location as a path in the data: union tags and function names are left out."""
    path: list[str] = []
    here: Any = values
    for position, part in enumerate(location):
        last = position == len(location) - 1
        known = isinstance(here, Mapping) and part in here
        inside = isinstance(here, Sequence) and not isinstance(here, str) and isinstance(part, int)
        if known or inside:
            here = here[part]
        elif not (last and isinstance(here, Mapping) and not _is_tag(here, part)):
            continue
        path.append(str(part))
    return tuple(path)


def model_at(
    model: type[BaseModel], values: Mapping[str, Any], path: Sequence[str]
) -> type[BaseModel] | None:
    """The class whose fields stand at ``path``; among the parts of a union, the one that ``kind`` names."""
    here, data = model, values
    for name in path:
        info = here.model_fields.get(name)
        data = data.get(name, {}) if isinstance(data, Mapping) else {}
        options = _models(info.annotation) if info else []
        if not options:
            return None
        kind = data.get("kind") if isinstance(data, Mapping) else None
        here = next((option for option in options if kind_of(option) == kind), options[0])
    return here


def kind_of(model: type[BaseModel]) -> str | None:
    """The word by which a part of a union is chosen, if it has exactly one."""
    info = model.model_fields.get("kind")
    words = get_args(info.annotation) if info and get_origin(info.annotation) is Literal else ()
    return str(words[0]) if len(words) == 1 else None


def type_name(annotation: Any) -> str:
    """A type as people read it."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_name(inner[0])
    if origin is Literal:
        return " | ".join(str(word) for word in inner)
    if origin in (Union, types.UnionType):
        return " | ".join("none" if part is type(None) else type_name(part) for part in inner)
    name = getattr(origin or annotation, "__name__", str(annotation))
    return f"{name}[{', '.join('...' if p is ... else type_name(p) for p in inner)}]" if inner else name


def bounds(info: FieldInfo) -> str:
    """The bounds of a field as "0 <= value < 1"."""
    found = {
        name: getattr(item, name)
        for item in info.metadata
        for name in ("ge", "gt", "le", "lt")
        if hasattr(item, name)
    }
    low = [
        f"{found[name]:g} {sign} "
        for name, sign in (("ge", "<="), ("gt", "<"))
        if found.get(name) is not None
    ]
    high = [
        f" {sign} {found[name]:g}"
        for name, sign in (("le", "<="), ("lt", "<"))
        if found.get(name) is not None
    ]
    return f"{''.join(low)}value{''.join(high)}" if low or high else ""


def _row(name: str, info: FieldInfo, type_: str, default: str) -> FieldRow:
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    return FieldRow(
        name,
        type_,
        default,
        str(extra.get("unit", "")),
        bounds(info),
        info.description or "",
        str(extra.get("paper", "")),
    )


def _plain(value: Any) -> str:
    return "none" if value is None else str(value)


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    inner = get_args(annotation)
    return [
        model
        for part in (inner[:1] if get_origin(annotation) is Annotated else inner)
        for model in _models(part)
    ]


def _is_tag(here: Mapping[str, Any], part: int | str) -> bool:
    return here.get("kind") == part or (isinstance(part, str) and part.endswith("]"))
