"""The conformance kit on this plugin."""

from __future__ import annotations

from collections.abc import Callable

import pytest

PLUGIN = "audio"
pytestmark = pytest.mark.slow  # carries the smoke profile through once


def test_conformance(conformance: Callable[[], None]) -> None:
    conformance()
