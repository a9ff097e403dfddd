"""The problems' data and the measures of generated wholes."""

from . import metrics, sines

__all__ = ["metrics", "sines"]
