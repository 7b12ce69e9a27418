"""The conformance fixture for plugin authors. Imported by every pytest run, so it imports nothing heavy.

A plugin's test module says ``PLUGIN = "circle"`` and one test::

    def test_conformance(conformance):
        conformance()

and gets one test per law and component. ``EXPECTED_FAILURES = {"law": "reason"}`` turns known ones into strict
expected failures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from fewstep.testing.checks import Check


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test per check of the plugin that the module names."""
    if "conformance" not in metafunc.fixturenames:
        return
    from fewstep.testing.plugin_checks import check_plugin

    name = getattr(metafunc.module, "PLUGIN", None)
    if name is None:
        raise pytest.UsageError("a module that uses `conformance` must say PLUGIN = '<name>'")
    excused: dict[str, str] = getattr(metafunc.module, "EXPECTED_FAILURES", {})
    checks = list(check_plugin(name))
    unknown = sorted(set(excused) - {check.name for check in checks})
    if unknown:
        raise pytest.UsageError(f"EXPECTED_FAILURES names checks that do not exist: {', '.join(unknown)}")
    metafunc.parametrize("conformance", [_case(check, excused) for check in checks], indirect=True)


@pytest.fixture
def conformance(request: pytest.FixtureRequest) -> Callable[[], None]:
    """The law of this test; call it."""
    check: Check = request.param
    return check.run


def _case(check: Check, excused: dict[str, str]) -> object:
    reason = excused.get(check.name)
    marks = [pytest.mark.xfail(reason=reason, strict=True)] if reason else []
    return pytest.param(check, id=check.name, marks=marks)
