"""The operations as one writes them in plain PyTorch: what the fused ones are timed against.

Straight from the formulas, in the dtype of the inputs, for eager mode and for torch.compile; not stable at the edges,
which is what `compvae_fast.reference` is for. `randn` draws the noise like a tensor, torch.randn_like unless told.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import elu, logsigmoid

Randn = Callable[[Tensor], Tensor]


class Sets(NamedTuple):
    """Sums over sets, and the way back, as plain PyTorch does them in each layout.

    batch: B; size: the number of parts of its set, broadcast over the parts; mask: [B, K, 1] of padded sets; owner:
    [N], the set of each row of a ragged tensor; offsets: [B + 1] where its sums go by torch.segment_reduce rather than
    by index_add.
    """

    batch: int
    size: Tensor
    mask: Tensor | None = None
    owner: Tensor | None = None
    offsets: Tensor | None = None

    @staticmethod
    def of(x: Tensor, offsets: Tensor | None, lengths: Tensor | None, segment_reduce: bool = False) -> Sets:
        if offsets is not None:
            sizes = offsets.diff()
            owner = torch.repeat_interleave(sizes, output_size=x.shape[0])
            return Sets(sizes.shape[0], sizes[owner][:, None], owner=owner, offsets=offsets if segment_reduce else None)
        if lengths is None:
            return Sets(x.shape[0], x.new_full((1, 1, 1), x.shape[1]))
        mask = (torch.arange(x.shape[1], device=x.device) < lengths[:, None])[..., None]
        return Sets(x.shape[0], lengths[:, None, None], mask=mask)

    def sum(self, x: Tensor) -> Tensor:
        """[B, ...], the sum over the parts of each set."""
        if self.offsets is not None:
            return torch.segment_reduce(x, "sum", offsets=self.offsets, axis=0)
        if self.owner is not None:
            return x.new_zeros(self.batch, *x.shape[1:]).index_add(0, self.owner, x)
        return self.only_parts(x).sum(1)

    def only_parts(self, x: Tensor) -> Tensor:
        """x with 0 in the slots of a padded tensor that hold no part."""
        return x if self.mask is None else x.masked_fill(~self.mask, 0)

    def spread(self, x: Tensor) -> Tensor:
        """x [B, ...] at each part of its set."""
        return x[:, None] if self.owner is None else x[self.owner]

    def rho(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """rho_i = exp(nu_i) / (1 + sum_j exp(nu_j)), and log(1 - sum rho) [B, D]: a softmax with one more logit, 0."""
        if self.owner is None:
            logits = logits if self.mask is None else logits.masked_fill(~self.mask, -math.inf)
            log_rho = torch.log_softmax(torch.cat([logits, torch.zeros_like(logits[:, :1])], 1), 1)
            return log_rho[:, :-1].exp(), log_rho[:, -1]
        start = logits.new_zeros(self.batch, logits.shape[1])
        peak = start.scatter_reduce(0, self.owner[:, None].expand_as(logits), logits.detach(), "amax")
        terms = torch.exp(logits - self.spread(peak))
        total = self.sum(terms) + torch.exp(-peak)
        return terms / self.spread(total), -peak - torch.log(total)


def correlated_normal_rsample(
    mu, logvar, rho_logits, *, offsets=None, lengths=None, coupling="scaled", randn: Randn = torch.randn_like,
    segment_reduce=False,
):
    sets = Sets.of(mu, offsets, lengths, segment_reduce)
    rho, _ = sets.rho(rho_logits)
    return sets.only_parts(mu + _noise(sets, coupling, torch.exp(logvar / 2), rho, randn(mu)))


def correlated_normal_log_prob(
    w, mu, logvar, rho_logits, *, offsets=None, lengths=None, coupling="scaled", segment_reduce=False
):
    sets = Sets.of(mu, offsets, lengths, segment_reduce)
    rho, log_rest = sets.rho(rho_logits)
    sigma = torch.exp(logvar / 2)
    if coupling == "unit":
        u = (w - mu) / sigma
        eps = u + rho * sets.spread(sets.sum(u) * torch.exp(-log_rest))
    else:
        eps = (w - mu + rho * sets.spread(sets.sum(w - mu) * torch.exp(-log_rest))) / sigma
    return _log_density(sets, log_rest, logvar, eps)


def multiset_kl(
    mu_q, logvar_q, rho_logits, mu_p, logvar_p, *, offsets=None, lengths=None, coupling="scaled", segment_reduce=False
):
    sets = Sets.of(mu_q, offsets, lengths, segment_reduce)
    return _kl(sets, coupling, *sets.rho(rho_logits), mu_q, logvar_q, mu_p, logvar_p)


def posterior_sum_and_kl(
    mu_q, logvar_q, rho_logits, mu_p, logvar_p, *, offsets=None, lengths=None, coupling="scaled",
    randn: Randn = torch.randn_like, segment_reduce=False,
):
    sets = Sets.of(mu_q, offsets, lengths, segment_reduce)
    rho, log_rest = sets.rho(rho_logits)
    sigma, eps = torch.exp(logvar_q / 2), randn(mu_q)
    if coupling == "unit":
        w_sum = sets.sum(mu_q + sigma * eps) - sets.sum(sigma * rho) * sets.sum(eps)
    else:
        w_sum = sets.sum(mu_q) + torch.exp(log_rest) * sets.sum(sigma * eps)
    return w_sum, _kl(sets, coupling, rho, log_rest, mu_q, logvar_q, mu_p, logvar_p)


def posterior_sum_and_log_ratio(
    mu_q, logvar_q, rho_logits, mu_p, logvar_p, *, offsets=None, lengths=None, coupling="scaled",
    randn: Randn = torch.randn_like, segment_reduce=False,
):
    sets = Sets.of(mu_q, offsets, lengths, segment_reduce)
    rho, log_rest = sets.rho(rho_logits)
    eps = randn(mu_q)
    w = mu_q + _noise(sets, coupling, torch.exp(logvar_q / 2), rho, eps)
    log_p = -0.5 * sets.sum((w - mu_p).square() * torch.exp(-logvar_p) + logvar_p + math.log(2 * math.pi)).sum(-1)
    return sets.sum(w), log_p - _log_density(sets, log_rest, logvar_q, eps)


def sum_minus_self(
    h, *, offsets=None, lengths=None, pre=None, post=None, reduce="sum", segment_reduce=False
):
    sets = Sets.of(h, offsets, lengths, segment_reduce)
    g = elu(h) if pre == "elu" else h
    out = sets.spread(sets.sum(g)) - g
    if reduce == "mean":
        out = out / (sets.size - 1).clamp(min=1)
    return sets.only_parts(torch.tanh(out) if post == "tanh" else out)


def prior_sum(
    labels, mu_table, logvar_table, *, counts=None, offsets=None, lengths=None, collapse=False,
    randn: Randn = torch.randn_like, segment_reduce=False,
):
    if counts is not None:
        weights = counts.to(mu_table.dtype)
        mean, variance = weights @ mu_table, weights @ torch.exp(logvar_table)
        return mean + variance.sqrt() * randn(mean)
    mu, logvar = mu_table[labels], logvar_table[labels]
    sets = Sets.of(mu, offsets, lengths, segment_reduce)
    if collapse:
        mean = sets.sum(mu)
        return mean + sets.sum(torch.exp(logvar)).sqrt() * randn(mean)
    return sets.sum(mu + torch.exp(logvar / 2) * randn(mu))


def product_of_experts(
    mu, logvar, *, offsets=None, lengths=None, mask=None, prior=True, segment_reduce=False
):
    sets = Sets.of(mu, offsets, lengths, segment_reduce)
    sets = sets if mask is None else sets._replace(mask=mask[..., None])
    precision = torch.exp(-logvar)
    total = sets.sum(precision) + prior
    return sets.sum(mu * precision) / total, -torch.log(total)


def diag_normal_kl(mu_q, logvar_q, mu_p, logvar_p):
    terms = logvar_p - logvar_q + ((mu_q - mu_p).square() + torch.exp(logvar_q)) * torch.exp(-logvar_p) - 1
    return 0.5 * terms.flatten(1).sum(1)


def gaussian_nll(x, mu, logvar):
    terms = math.log(2 * math.pi) + logvar + (x - mu).square() * torch.exp(-logvar)
    return 0.5 * terms.flatten(1).sum(1)


def discretized_logistic_nll(x, mu, log_scale):
    rate = torch.exp(-log_scale)
    upper, lower = (x + 1 / 510 - mu) * rate, (x - 1 / 510 - mu) * rate
    inside = torch.log((torch.sigmoid(upper) - torch.sigmoid(lower)).clamp(min=1e-12))
    log_mass = torch.where(x < 1 / 510, logsigmoid(upper), torch.where(x > 1 - 1 / 510, logsigmoid(-lower), inside))
    return -log_mass.flatten(1).sum(1)


def _noise(sets: Sets, coupling: str, sigma: Tensor, rho: Tensor, eps: Tensor) -> Tensor:
    """w - mu."""
    if coupling == "unit":
        return sigma * (eps - rho * sets.spread(sets.sum(eps)))
    scaled = sigma * eps
    return scaled - rho * sets.spread(sets.sum(scaled))


def _kl(sets: Sets, coupling: str, rho, log_rest, mu_q, logvar_q, mu_p, logvar_p) -> Tensor:
    inverse, variance = torch.exp(-logvar_p), torch.exp(logvar_q)
    if coupling == "unit":
        trace = (1 - 2 * rho + sets.size * rho.square()) * variance
    else:
        trace = (1 - 2 * rho) * variance + rho.square() * sets.spread(sets.sum(variance))
    terms = logvar_p - logvar_q + ((mu_q - mu_p).square() + trace) * inverse - 1
    return (0.5 * sets.sum(terms) - log_rest).sum(-1)


def _log_density(sets: Sets, log_rest, logvar, eps) -> Tensor:
    """log q(w) at the w that eps makes."""
    return (-0.5 * sets.sum(eps.square() + logvar + math.log(2 * math.pi)) - log_rest).sum(-1)
