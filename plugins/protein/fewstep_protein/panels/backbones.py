"""The sections of a backbone report, gathered."""

from __future__ import annotations

from collections.abc import Sequence

from fewstep.protocol import Metric, Panel
from fewstep_protein.panels.curves import curve_panels
from fewstep_protein.panels.maps import contacts, shapes
from fewstep_protein.panels.molecules import molecules
from fewstep_protein.panels.sizes import composition, sizes


def backbone_panels(metrics: Sequence[Metric] = ()) -> tuple[Panel, ...]:
    """All sections.

    Args:
        metrics: what is measured; some of them are drawn as curves over calls and noise scales.
    """
    return (
        Panel("Molecules", molecules),
        Panel("Secondary structure", composition),
        Panel("Angles and dihedrals", shapes),
        Panel("Contacts", contacts),
        Panel("Sizes", sizes),
        *(curve_panels(metrics) if metrics else ()),
    )
