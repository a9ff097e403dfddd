"""A page to play with a trained model: parts in, the distribution of their whole out, at once.

``multiset`` holds what the user has put together, ``distribution`` what the model makes of it; neither knows of the
page, which ``page`` builds of Bokeh's widgets (the extra ``explore``) and ``server`` serves: ``controls`` beside a view
of wholes that are ``curves`` or ``images``. A problem says itself what its labels are called (``data.Problem``).
"""

from .distribution import Distribution, distribution, true_distribution
from .multiset import MOST, Multiset, Part

__all__ = ["MOST", "Distribution", "Multiset", "Part", "distribution", "true_distribution"]
