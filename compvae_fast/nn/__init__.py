"""Layers and layouts that models are built from."""

from .gaussian import GaussianHead, GaussianTable, bounded_logvar, start_constant
from .graph import GraphBlock
from .residual import Residual
from .sets import Sets

__all__ = [
    "GaussianHead",
    "GaussianTable",
    "GraphBlock",
    "Residual",
    "Sets",
    "bounded_logvar",
    "start_constant",
]
