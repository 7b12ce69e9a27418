PLUGIN = "tabular"


def test_conformance(conformance) -> None:
    conformance()
