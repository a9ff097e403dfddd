"""The 2D problem: colour anchors ("dots") that share out an image between them.

    x(p) = clamp((sum_i v_i(p) c_i)^(1/2.4), 0, 1),  v(p) = softmax_i(-a_i |p - loc_i|^2),  a ~ U(5, 10)

Pixels p lie at 2 i / 31 - 1, i = 0..31, the first coordinate of a location along the width. Labels are the colours,
0 red, 1 green, 2 blue, 3 black, 4 white; a part's features are its location, drawn from 1.8 u - 0.9; its intensity a
is its own variation. A whole of no parts is black. Source: paper section 4.2 and appendix B.2, whose list of colours
prints blue twice and no black.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..nn.sets import Sets
from ..random import Stream, fold, uniform
from .problem import Description, Problem

SIDE = 32
COLOURS = ("red", "green", "blue", "black", "white")
PALETTE = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
LEAST, MOST = 5.0, 10.0
GAMMA = 2.4
REACH = 0.9
# of the noise of a part's labels, whose own coordinates are 0 and 4
_LOCATION = 8


def intensities(
    labels: Tensor,
    *,
    offsets: Tensor | None = None,
    lengths: Tensor | None = None,
    seed: int | Tensor,
    set_start: int = 0,
    part_start: int = 0,
) -> Tensor:
    """The parts' own a ~ U(5, 10), float32 like ``labels``; only their shape matters.

    >>> intensities(torch.tensor([[0, 4]]), seed=0).shape
    torch.Size([1, 2])
    """
    of_set, of_part = Sets.of(labels, offsets, lengths).positions(labels.shape[-1])
    zero = torch.zeros((), dtype=torch.int64, device=labels.device)
    drawn = uniform(fold(seed, Stream.DATA), of_set + set_start, of_part + part_start, zero)
    return LEAST + (MOST - LEAST) * drawn.squeeze(-1).expand(labels.shape)


def render(
    labels: Tensor,
    locations: Tensor,
    intensity: Tensor,
    *,
    offsets: Tensor | None = None,
    lengths: Tensor | None = None,
) -> Tensor:
    """Images of dots.

    Args:
        labels: int64 in 0..4, [B, K], padded with lengths [B], or [N] with offsets [B+1].
        locations: like labels, with two numbers each; intensity: like labels.

    Returns:
        [B, 3, 32, 32] in [0, 1], of the dtype of ``locations``.

    >>> alone = render(torch.tensor([[2]]), torch.zeros(1, 1, 2), torch.full((1, 1), 7.0))
    >>> alone[0, :, 5, 9].tolist()  # a dot alone colours everything
    [0.0, 0.0, 1.0]
    """
    sets = Sets.of(labels, offsets, lengths)
    if offsets is not None:
        width = int(sets.counts.max()) if sets.batch else 0
        here = torch.arange(width, device=labels.device) < sets.counts[:, None]
        labels, locations, intensity = (_padded(values, here) for values in (labels, locations, intensity))
    else:
        here = torch.ones_like(labels, dtype=torch.bool) if sets.mask is None else sets.mask
    pixels = torch.arange(SIDE, device=labels.device, dtype=locations.dtype) * (2 / (SIDE - 1)) - 1
    across = (pixels - locations[..., :1]).square()
    down = (pixels - locations[..., 1:]).square()
    strength = -intensity[..., None, None] * (down.unsqueeze(-1) + across.unsqueeze(-2))
    strength = strength.masked_fill(~here[..., None, None], -torch.inf)
    shares = torch.softmax(strength, dim=1).nan_to_num(0.0)  # an empty set has none
    palette = torch.tensor(PALETTE, dtype=locations.dtype, device=labels.device)
    colours = palette[torch.where(here, labels, 0)]
    image = torch.einsum("bkhw,bkc->bchw", shares, colours)
    return image.pow(1 / GAMMA).clamp(0, 1)


def _padded(values: Tensor, here: Tensor) -> Tensor:
    """Values [N, ...] of ragged sets as [B, K, ...], 0 where ``here`` [B, K] says no part is."""
    padded = values.new_zeros(*here.shape, *values.shape[1:])
    padded[here] = values
    return padded


class Dots(Problem):
    """The 2D problem as models, trainer and report know it."""

    name = "dots"
    shape = (3, SIDE, SIDE)
    labels = (0, len(COLOURS) - 1)
    label_names = COLOURS
    label_colours = tuple("#" + "".join(f"{round(255 * value):02x}" for value in colour) for colour in PALETTE)
    features = 2
    feature_names = ("location across", "location down")
    feature_range = (-REACH, REACH)
    grows_with_parts = False
    true_up_to = 50

    def example(self):
        places = torch.tensor([[[-0.5, -0.5], [0.5, -0.4], [0.0, 0.55], [0.7, 0.6]]])
        return Description(torch.tensor([[0, 1, 2, 4]]), None, places)

    def wholes(
        self, labels, *, offsets=None, lengths=None, features=None, context=None, seed, set_start=0, part_start=0,
        **options,
    ):
        self.check(features, context)
        where = {"offsets": offsets, "lengths": lengths}
        own = intensities(labels, **where, seed=seed, set_start=set_start, part_start=part_start)
        return render(labels, features, own, **where, **options)

    def sample_features(self, labels, *, offsets=None, seed, set_start=0):
        of_set, of_part = Sets.of(labels, offsets).positions(labels.shape[-1])
        coordinates = torch.arange(_LOCATION, _LOCATION + 2, device=labels.device)
        drawn = uniform(fold(seed, Stream.LABELS), of_set + set_start, of_part, coordinates)
        return REACH * (2 * drawn - 1)


PROBLEM = Dots()
draw = PROBLEM.draw
