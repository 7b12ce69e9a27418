"""Order of the whole suite: recipes begin first, so that two workers end together."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Recipes first; the sort is stable, so all else keeps its order."""
    items.sort(key=lambda item: item.get_closest_marker("recipe") is None)
