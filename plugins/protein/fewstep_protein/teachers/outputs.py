"""Names for what a network predicts and for its unit. Importing this module does not import torch."""

from __future__ import annotations

from typing import Literal, get_args

Output = Literal["x1", "v", "eps", "score"]
"""x1: the clean chain; v: data minus noise, per unit of t; eps: the standard normal noise; score: of the law of x_t."""
Unit = Literal["nm", "angstrom"]
OUTPUTS: tuple[Output, ...] = get_args(Output)
UNITS: tuple[Unit, ...] = get_args(Unit)
