"""The laws that core relies on, held against the text plugin: one test per law."""

from __future__ import annotations

from collections.abc import Callable

import pytest

PLUGIN = "text"
pytestmark = pytest.mark.slow  # carries the smoke profile through, one update per stage


def test_conformance(conformance: Callable[[], None]) -> None:
    conformance()
