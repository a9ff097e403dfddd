"""Kullback-Leibler divergences of the correlated Gaussian, registered with torch.distributions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Independent, Normal, register_kl

from compvae_fast import ops
from compvae_fast.distributions._factors import Factors
from compvae_fast.distributions.correlated_normal import CorrelatedNormal


@register_kl(CorrelatedNormal, Independent)
def _to_independent(q: CorrelatedNormal, p: Independent) -> Tensor:
    """KL(q || Independent(Normal, 2)) [...] in nats, by `ops.multiset_kl`.

    In float64, so that scales near the ends of float32, whose squares are not float32 numbers, are served.
    """
    base = _independent_normal(p)
    _same_events(q, p)
    batch = torch.broadcast_shapes(q.batch_shape, p.batch_shape)
    mu_q, sigma_q, logits, mu_p, sigma_p = (
        _as_sets(t, batch, q.event_shape) for t in (q.loc, q.scale, q.rho_logits, base.loc, base.scale))
    kl = ops.multiset_kl(mu_q, 2 * sigma_q.log(), logits, mu_p, 2 * sigma_p.log(), coupling=q.coupling)
    return _result(kl, batch, q)


@register_kl(Independent, CorrelatedNormal)
def _from_independent(q: Independent, p: CorrelatedNormal) -> Tensor:
    """KL(Independent(Normal, 2) || p): independent parts are correlated ones with rho = 0."""
    base = _independent_normal(q)
    _same_events(q, p)
    logits = torch.full_like(base.loc, -torch.inf)
    return _to_correlated(CorrelatedNormal(base.loc, base.scale, logits, validate_args=False), p)


@register_kl(CorrelatedNormal, CorrelatedNormal)
def _to_correlated(q: CorrelatedNormal, p: CorrelatedNormal) -> Tensor:
    r"""KL(q || p) [...] in nats, of either coupling each, in K operations a coordinate.

    With w = mu_q + M_q eps and log |M| = sum log sigma - L, at each coordinate

        1/2 (|M_p^-1 M_q|_F^2 + |M_p^-1 (mu_q - mu_p)|^2 - K) + log |M_p| - log |M_q|

    M^-1 is (I + exp(nu) 1^T) diag(1/sigma) in the "unit" coupling and diag(1/sigma) (I + exp(nu) 1^T) in the "scaled"
    one, so that M_p^-1 M_q is a diagonal matrix plus one of rank two; see `_transfer`.
    """
    _same_events(q, p)
    batch = torch.broadcast_shapes(q.batch_shape, p.batch_shape)
    of_q, of_p = (d.expand(batch)._factors() for d in (q, p))
    layout = of_q.layout
    terms = (_transfer(of_q, of_p) + _whitened(of_p, of_q.mu - of_p.mu).square() - 1) / 2
    per_coordinate = layout.sum(terms + of_p.log_sigma - of_q.log_sigma) + of_q.rho.log_total - of_p.rho.log_total
    return _result(per_coordinate.sum(-1), batch, q)


def _whitened(p: Factors, x: Tensor) -> Tensor:
    """M_p^-1 x, [B, K, D]."""
    weight, inverse = torch.exp(p.logits), torch.exp(-p.log_sigma)
    if p.coupling == "unit":
        x = x * inverse
    x = x + weight * p.layout.expand(p.layout.sum(x))
    return x if p.coupling == "unit" else x * inverse


def _transfer(q: Factors, p: Factors) -> Tensor:
    r"""The squared norm of each row of G = M_p^-1 M_q, [B, K, D].

    In every pair of couplings, with eta = exp(nu_p), rho of q and weights a, b, v that are 1, sigma_q or 1/sigma_p,

        G_ij = a_i b_j (d_ij v_i - v_i rho_i + eta_i c_j),   c_j = v_j - sum_k v_k rho_k

    The diagonal has v_i (1 - rho_i) + eta_i c_i. The others' squares are summed about the weighted mean of the c_j,
    c_j = mean + e_j, with the part itself left out, so that none of them is the small difference of large numbers.
    """
    layout, rho = q.layout, q.rho
    zero = torch.zeros_like(q.mu)
    log_v = (q.log_sigma if q.coupling == "unit" else zero) - (p.log_sigma if p.coupling == "unit" else zero)
    row = torch.exp(-2 * p.log_sigma) if p.coupling == "scaled" else torch.ones_like(zero)
    column = torch.exp(2 * q.log_sigma) if q.coupling == "scaled" else torch.ones_like(zero)
    v, eta = torch.exp(log_v), torch.exp(p.logits)
    # c_j = excess_j + v_m exp(-L) - sum_i rho_i excess_i, excess_j = v_j - v_m, m the part of the largest logit
    log_top = layout.expand(layout.sum(torch.where(rho.top, log_v, 0)))
    excess = torch.exp(log_top) * torch.expm1(log_v - log_top)
    common = torch.exp(log_top - layout.expand(rho.log_total)) - layout.expand(layout.sum(rho.value * excess))
    weight = layout.sum(column)
    middle = layout.expand(layout.sum(column * excess) / torch.where(weight > 0, weight, 1))
    e = excess - middle
    others = (ops.sum_minus_self(torch.where(layout.mask, column * x, 0)) for x in (torch.ones_like(e), e, e.square()))
    count, first, second = others
    centre = eta * (common + middle) - v * rho.value
    own = v * rho.complement + eta * (common + excess)
    return row * (column * own.square() + centre.square() * count + 2 * centre * eta * first + eta.square() * second)


def _independent_normal(d: Independent) -> Normal:
    if not isinstance(d.base_dist, Normal) or d.reinterpreted_batch_ndims != 2:
        raise NotImplementedError(
            f"kl_divergence of CorrelatedNormal: expected Independent(Normal, 2), got "
            f"Independent({type(d.base_dist).__name__}, {d.reinterpreted_batch_ndims})")
    return d.base_dist


def _same_events(q, p) -> None:
    if q.event_shape != p.event_shape:
        raise ValueError(f"kl_divergence: expected one event shape, got {list(q.event_shape)} "
                         f"and {list(p.event_shape)}")


def _as_sets(t: Tensor, batch: torch.Size, event: torch.Size) -> Tensor:
    """A parameter in float64, [B, K, D] with the sets of batch."""
    return t.double().expand(*batch, *event).reshape(batch.numel(), *event)


def _result(kl: Tensor, batch: torch.Size, q: CorrelatedNormal) -> Tensor:
    return kl.reshape(batch).to(torch.promote_types(q.loc.dtype, torch.float32))
