"""The laws that core relies on: one test per law."""

PLUGIN = "tabular"


def test_conformance(conformance) -> None:
    conformance()
