"""The problems' data and the measures of generated wholes."""

from . import households, metrics, sines

__all__ = ["households", "metrics", "sines"]
