"""Layers and layouts that models are built from."""

from .gaussian import GaussianHead, GaussianTable, bounded_logvar, start_constant
from .graph import GraphBlock
from .radial import RadialFlow
from .residual import Residual
from .sets import Sets

__all__ = [
    "GaussianHead",
    "GaussianTable",
    "GraphBlock",
    "RadialFlow",
    "Residual",
    "Sets",
    "bounded_logvar",
    "start_constant",
]
