"""The problems' data and the measures of generated wholes."""

from . import households, metrics, sines
from .problem import Batch, Description, Problem, problem, problems

__all__ = ["Batch", "Description", "Problem", "households", "metrics", "problem", "problems", "sines"]
