"""How data is corrupted: Gaussian processes from one table, masked tokens, products, and time laws."""

from fewstep.processes.gaussian import Gaussian, edm, flow, trig, vp
from fewstep.processes.laws import (
    Law,
    RectifiedFlow,
    Trigonometric,
    VarianceExploding,
    VariancePreserving,
)
from fewstep.processes.masked import Masked
from fewstep.processes.product import Product, ProductGeometry
from fewstep.processes.times import Grid, Karras, LogitNormal, LogNormal, TimeLaw, Uniform

__all__ = [
    "Gaussian",
    "Grid",
    "Karras",
    "Law",
    "LogNormal",
    "LogitNormal",
    "Masked",
    "Product",
    "ProductGeometry",
    "RectifiedFlow",
    "TimeLaw",
    "Trigonometric",
    "Uniform",
    "VarianceExploding",
    "VariancePreserving",
    "edm",
    "flow",
    "trig",
    "vp",
]
