"""A control for every kind of option, and what was typed as the model wants it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from fewstep.config import Settings, setting
from fewstep.runs.forms import form, typed
from fewstep.runs.handle import examined


class Wanted(Settings):
    text: str = setting("This is a whole sentence.", "what to say")
    name: str = setting("", "of a file")
    number: int | None = setting(None, "which", ge=0, lt=10)
    pace: float = setting(1.0, "how fast", gt=0, le=2, unit="times")
    loud: bool = setting(False, "shout")
    voice: Literal["low", "high"] = setting("high", "who")
    sizes: tuple[int, ...] = setting((1, 2), "how large")
    reference: Path | None = setting(None, "a file of yours")


CONTROLS = {control.name: control for control in form(Wanted)}


@pytest.mark.parametrize(
    ("name", "kind", "value"),
    [
        ("text", "text", "This is a whole sentence."),
        ("name", "line", ""),
        ("number", "number", ""),
        ("pace", "number", "1.0"),
        ("loud", "switch", "False"),
        ("voice", "choice", "high"),
        ("sizes", "data", "[1, 2]"),
        ("reference", "line", ""),
    ],
)
def test_every_type_has_its_control_with_the_default_in_it(name: str, kind: str, value: str) -> None:
    assert (CONTROLS[name].kind, CONTROLS[name].value) == (kind, value)


def test_bounds_choices_and_help_reach_the_page() -> None:
    assert CONTROLS["number"].attributes == {"step": "1", "min": "0", "max": "9"}
    assert CONTROLS["pace"].attributes == {"step": "any", "min": "0", "max": "2"}
    assert CONTROLS["pace"].bounds == "0 < value <= 2"
    assert (CONTROLS["pace"].unit, CONTROLS["pace"].about) == ("times", "how fast")
    assert CONTROLS["voice"].choices == ("low", "high")
    assert [name for name, control in CONTROLS.items() if control.optional] == [
        "number", "pace", "loud", "voice", "sizes", "reference",
    ]  # fmt: skip


def test_what_a_page_sends_becomes_the_model() -> None:
    sent = {
        "text": "Hi.",
        "number": "",
        "pace": "1.5",
        "loud": True,
        "voice": "low",
        "sizes": "[3]",
        "reference": "",
    }
    asked, wrong = examined(Wanted, typed(Wanted, sent))
    assert not wrong
    assert (asked.text, asked.number, asked.pace, asked.loud, asked.voice) == ("Hi.", None, 1.5, True, "low")
    assert (asked.sizes, asked.reference) == ((3,), None)


def test_all_that_is_wrong_is_named() -> None:
    sent = {"number": "11", "pace": "fast", "voice": "shrill", "sizes": "[1", "speed": "2"}
    asked, wrong = examined(Wanted, typed(Wanted, sent))
    assert asked is None
    assert {name for name, _ in wrong} == {"number", "pace", "voice", "sizes", "speed"}


def test_an_empty_text_is_a_text() -> None:
    assert typed(Wanted, {"text": "", "number": ""}) == {"text": ""}
