"""The networks that a model is made of, built by the name of their kind."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from torch import Tensor, nn

if TYPE_CHECKING:
    from .config import CompVAEConfig

KINDS = ("tables", "compact", "tables2d", "slots", "neighbourhood", "curves")


class KnownCoordinates(Protocol):
    """Coordinates [..., E] of a part that its label tells exactly; their sum stands in front of w~.

    Called with labels that count from 0, and features.
    """

    width: int

    def __call__(self, labels: Tensor, features: Tensor | None) -> Tensor: ...


@dataclass(frozen=True)
class Networks:
    """All networks of a CompVAE. ``Given`` says what parts and wholes are described by.

    Args:
        prior_w: (labels, features) -> mu, logvar of p(w_i | l_i), [..., D]; has ``table()`` where labels alone decide.
        features: (x, given) -> h [B, H], what both posteriors read in a whole.
        posterior_z: h -> mu, logvar of q(z | c, x), [B, Z].
        posterior_w: (h, z, given, prior, seed) -> mu, logvar, logits of q({w_i} | ..), [B, K, D] or [N, D]; its
            ``sees_z`` says whether it depends on z; ``seed`` is the loss's own, for nodes' noise.
        prior_z: (w~, context) -> mu, logvar of p(z | c, w~), [B, Z].
        observation: (w~, z, context) -> ``nn.Observation``.
        known: further coordinates of each part, or None.
    """

    prior_w: nn.Module
    features: nn.Module
    posterior_z: nn.Module
    posterior_w: nn.Module
    prior_z: nn.Module
    observation: nn.Module
    known: KnownCoordinates | None = None


def build(config: CompVAEConfig) -> Networks:
    """The networks of a configuration, by the ``build`` function of the module its ``network`` names."""
    return importlib.import_module(f".{config.network}", __package__).build(config)
