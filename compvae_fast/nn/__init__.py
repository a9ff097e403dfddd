"""Layers and layouts that models are built from."""

from .aggregation import Saturation
from .conditioned import conditioned_on_sum, sum_of_prior
from .gaussian import GaussianHead, GaussianTable, bounded_logvar, start_constant
from .graph import GraphBlock
from .hierarchical import HierarchicalObservation, NoiseVariance, optimal_logvar
from .observation import GaussianObservation, LogisticObservation, Observation
from .pyramid import Pyramid
from .radial import RadialFlow
from .residual import Residual
from .sets import Sets

__all__ = [
    "GaussianHead",
    "GaussianObservation",
    "GaussianTable",
    "GraphBlock",
    "HierarchicalObservation",
    "LogisticObservation",
    "NoiseVariance",
    "Observation",
    "Pyramid",
    "RadialFlow",
    "Residual",
    "Saturation",
    "Sets",
    "bounded_logvar",
    "conditioned_on_sum",
    "optimal_logvar",
    "start_constant",
    "sum_of_prior",
]
