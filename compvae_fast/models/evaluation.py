"""Bounds on the log-likelihood of wholes given their labels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .. import ops
from ..random import Stream, fold

if TYPE_CHECKING:
    from .compvae import CompVAE


def elbo(
    model: CompVAE,
    x: Tensor,
    labels: Tensor,
    *,
    offsets: Tensor | None = None,
    lengths: Tensor | None = None,
    features: Tensor | None = None,
    context: Tensor | None = None,
    samples: int = 1,
    seed: int,
) -> Tensor:
    """Evidence lower bound on log p(x | {l_i}): minus the mean total loss over ``samples`` posterior draws.

    Args:
        x: [B, *shape]; labels, offsets, lengths, features, context: as ``CompVAE.loss`` takes them.
        samples: posterior draws per set, >= 1.
        seed: of the draws.

    Returns:
        [B], nats. Source: paper eq. 4.
    """
    draws = _draw_seeds("samples", samples, seed)
    total = x.new_zeros(())
    where: dict[str, Any] = {"offsets": offsets, "lengths": lengths, "features": features, "context": context}
    for s in draws:
        total = total + model.loss(x, labels, **where, seed=s).total
    return -total / samples


def iw_bound(
    model: CompVAE,
    x: Tensor,
    labels: Tensor,
    *,
    k: int,
    offsets: Tensor | None = None,
    lengths: Tensor | None = None,
    features: Tensor | None = None,
    context: Tensor | None = None,
    seed: int,
) -> Tensor:
    """Importance-weighted bound: E log 1/k sum_s p(x, latents_s) / q(latents_s | x), one estimate of it.

    Not below the ELBO on average, and rising with k towards log p(x | {l_i}). The parts' densities come
    from the noise they were drawn with, never from the inverse of the draw.

    Args:
        x: [B, *shape]; labels, offsets, lengths, features, context: as ``CompVAE.loss`` takes them.
        k: posterior draws, >= 1; their noise is that of ``elbo`` with the same seed.
        seed: of the draws.

    Returns:
        [B], nats. Source: Burda, Grosse, Salakhutdinov, "Importance weighted autoencoders", 2016.
    """
    where: dict[str, Any] = {"offsets": offsets, "lengths": lengths, "features": features, "context": context}
    draws = _draw_seeds("k", k, seed)
    weights = torch.stack([model.log_weight(x, labels, **where, seed=s) for s in draws])
    return weights.logsumexp(0) - math.log(k)


def bits_of_parts(
    model: CompVAE,
    x: Tensor,
    labels: Tensor,
    *,
    offsets: Tensor | None = None,
    lengths: Tensor | None = None,
    features: Tensor | None = None,
    context: Tensor | None = None,
    seed: int,
) -> Tensor:
    """What q says of each part alone, in bits: KL of its marginal to p(w_i | l_i).

    Where inference goes part by part, the KL of q(w_i | what came before); these add up to the loss's w. Those of a
    correlated q do not: what it knows of the parts together, their sum above all, is in none of them.

    Args:
        x: [B, *shape]; labels, offsets, lengths, features, context: as ``CompVAE.loss`` takes them.
        seed: of the posterior draw.

    Returns:
        Like labels; 0 in padding.
    """
    given = model._given(labels, offsets, lengths, features, context)
    (mu, logvar, logits), (m, prior_logvar) = model._posterior(x, given, seed)[2:]
    sets, variance = given.sets, logvar.exp()
    odds = logits.clamp(max=80).exp()
    rho = odds / (1 + sets.to_parts(sets.sum(odds)))
    if model.config.coupling == "unit":
        k = sets.to_parts(sets.counts.to(mu.dtype).unsqueeze(-1))
        variance = variance * (1 - 2 * rho + k * rho.square())
    else:
        variance = variance * (1 - 2 * rho) + rho.square() * sets.to_parts(sets.sum(variance))
    rows = (values.flatten(0, -2) for values in (mu, variance.log(), m, prior_logvar))
    bits = ops.diag_normal_kl(*rows).view(labels.shape) / math.log(2)
    return bits if sets.mask is None else torch.where(sets.mask, bits, 0)


def _draw_seeds(name: str, draws: int, seed: int) -> list[int]:
    if not isinstance(draws, int) or draws < 1:
        raise ValueError(f"{name}: expected a positive integer, got {draws!r}")
    seed = fold(seed, Stream.EVALUATION)
    return [fold(seed, draw) for draw in range(draws)]
