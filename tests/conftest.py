"""The whole suite: recipes begin first, so that two workers end together; no test depends on how busy a machine is."""

from __future__ import annotations

import pytest
from hypothesis import settings

settings.register_profile(
    "suite", deadline=None
)  # the first call of an operation loads it: 0.3 s on a busy core
settings.load_profile("suite")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Recipes first; the sort is stable, so all else keeps its order."""
    items.sort(key=lambda item: item.get_closest_marker("recipe") is None)
