"""The problems' data and the measures of generated wholes."""

from . import dots, households, metrics, sines
from .problem import Batch, Description, Problem, problem, problems

__all__ = ["Batch", "Description", "Problem", "dots", "households", "metrics", "problem", "problems", "sines"]
