"""A page to play with a trained model: parts in, the distribution of their whole out, at once.

``multiset`` holds what the user has put together, ``distribution`` what the model makes of it; neither knows of the
page, which ``page`` builds of Bokeh's widgets (the extra ``explore``) and ``server`` serves.
"""

from .distribution import Distribution, distribution
from .multiset import MOST, Multiset

__all__ = ["MOST", "Distribution", "Multiset", "distribution"]
