"""The laws that core relies on, held against the 3d plugin: one test per law."""

from __future__ import annotations

from collections.abc import Callable

import pytest

PLUGIN = "3d"
pytestmark = pytest.mark.slow  # carries the smoke profile through, one update per stage


def test_conformance(conformance: Callable[[], None]) -> None:
    conformance()
