"""Bounds that a design must meet to get files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

from pydantic import model_validator

from fewstep.config import Settings, setting


class Bound(NamedTuple):
    """An option and what it bounds: the column of a design's row, from below ("least") or above ("most")."""

    column: str
    side: str


BOUNDS = {
    "min_valid": Bound("valid_bonds", "least"),
    "max_clashes": Bound("clashes", "most"),
    "min_right_handed": Bound("right_handed", "least"),
    "min_helix": Bound("helix", "least"),
    "max_helix": Bound("helix", "most"),
    "min_strand": Bound("strand", "least"),
    "max_strand": Bound("strand", "most"),
    "max_rg_ratio": Bound("rg_ratio", "most"),
    "min_contact_order": Bound("contact_order", "least"),
    "max_mpnn_nll": Bound("mpnn_nll", "most"),
}


class Filters(Settings):
    """What a design must be like; without bounds every design with finite coordinates passes."""

    min_valid: float | None = setting(
        None, "least share of CA-CA distances in 3.6 to 4.0 angstrom", ge=0, le=1
    )
    max_clashes: float | None = setting(None, "most pairs closer than 3.8 angstrom per residue", ge=0)
    min_right_handed: float | None = setting(None, "least share of right-handed turns", ge=0, le=1)
    min_helix: float | None = setting(None, "least share of residues in helices", ge=0, le=1)
    max_helix: float | None = setting(None, "largest share of residues in helices", ge=0, le=1)
    min_strand: float | None = setting(None, "least share of residues in strands", ge=0, le=1)
    max_strand: float | None = setting(None, "largest share of residues in strands", ge=0, le=1)
    max_rg_ratio: float | None = setting(
        None, "largest gyration radius, over that of a compact chain of this length", gt=0
    )
    min_contact_order: float | None = setting(
        None, "least mean separation of contacts over the length", ge=0, le=1
    )
    max_mpnn_nll: float | None = setting(
        None, "most nats per residue that ProteinMPNN gives a sequence of its own; needs its weights", gt=0
    )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        wrong = [
            f"min-{what} {low:g} is above max-{what} {high:g}"
            for what in ("helix", "strand")
            if (low := getattr(self, f"min_{what}")) is not None
            and (high := getattr(self, f"max_{what}")) is not None
            and low > high
        ]
        if (self.min_helix or 0) + (self.min_strand or 0) > 1:
            wrong.append("min-helix and min-strand are more than 1 together")
        if wrong:
            raise ValueError("; ".join(wrong))
        return self


def failures(filters: Filters, row: Mapping[str, float | None]) -> list[str]:
    """Why a design does not pass, such as "clashes 0.31 > 0.1"; empty if it does.

    A number that the design lacks (the handedness of a chain without turns) fails its bound: nobody vouches for it.
    """
    reasons = ["exploded"] if row.get("exploded") else []
    for option, (column, side) in BOUNDS.items():
        bound, value = getattr(filters, option), row.get(column)
        if bound is None:
            continue
        if value is None or math.isnan(value):
            reasons.append(f"{column} unknown")
        elif value < bound if side == "least" else value > bound:
            reasons.append(f"{column} {value:.3g} {'<' if side == 'least' else '>'} {bound:g}")
    return reasons


def missed(record: Mapping[str, Any]) -> list[str]:
    """What a record says that was missed, without the numbers; empty if it passes."""
    return [part.split(" ")[0] for part in record["reason"].split(", ") if part]
