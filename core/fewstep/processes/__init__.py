"""How data is corrupted: Gaussian processes from one table, masked tokens, products, and time laws."""

from fewstep.processes.chain import Chain, ddpm
from fewstep.processes.convert import Converted
from fewstep.processes.gaussian import Gaussian, cosine, edm, flow, trig, vp
from fewstep.processes.heat import HeatFlow
from fewstep.processes.laws import (
    Cosine,
    Law,
    RectifiedFlow,
    Trigonometric,
    VarianceExploding,
    VariancePreserving,
)
from fewstep.processes.masked import Masked
from fewstep.processes.matching import at_scale, carried, same_noise, within
from fewstep.processes.product import Product, ProductGeometry
from fewstep.processes.so3 import SO3, GeodesicFlow
from fewstep.processes.times import (
    Grid,
    Karras,
    LogitNormal,
    LogNormal,
    LogStudent,
    OfRatio,
    PerGroup,
    Shifted,
    TimeLaw,
    Uniform,
    Whole,
)

__all__ = [
    "Chain",
    "Converted",
    "Cosine",
    "Gaussian",
    "GeodesicFlow",
    "HeatFlow",
    "Grid",
    "Karras",
    "Law",
    "LogNormal",
    "LogStudent",
    "LogitNormal",
    "Masked",
    "OfRatio",
    "PerGroup",
    "Product",
    "ProductGeometry",
    "RectifiedFlow",
    "SO3",
    "Shifted",
    "TimeLaw",
    "Trigonometric",
    "Uniform",
    "VarianceExploding",
    "VariancePreserving",
    "Whole",
    "at_scale",
    "carried",
    "cosine",
    "ddpm",
    "edm",
    "flow",
    "same_noise",
    "trig",
    "vp",
    "within",
]
