"""Layers and layouts that models are built from."""

from .aggregation import Saturation
from .gaussian import GaussianHead, GaussianTable, bounded_logvar, start_constant
from .graph import GraphBlock
from .observation import GaussianObservation, LogisticObservation, Observation
from .radial import RadialFlow
from .residual import Residual
from .sets import Sets

__all__ = [
    "GaussianHead",
    "GaussianObservation",
    "GaussianTable",
    "GraphBlock",
    "LogisticObservation",
    "Observation",
    "RadialFlow",
    "Residual",
    "Saturation",
    "Sets",
    "bounded_logvar",
    "start_constant",
]
