"""What established libraries offer for an operation, called as their users call it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.distributions import Independent, LowRankMultivariateNormal, MultivariateNormal, Normal, kl_divergence
from torch.nn.functional import gaussian_nll_loss

from compvae_fast.registry import baselines
from compvae_fast.registry.shapes import Shape

# [B, D, K, K] float32 matrices beyond this many numbers are not asked of torch.distributions.
MATRIX_NUMBERS = 2**21


@dataclass(frozen=True)
class Alternative:
    """Another way to compute an operation.

    call: takes the arguments of the public function without the seed; serves: whether it can take a shape;
    same: whether it gives the same numbers, so that they are compared; where not, note says what differs.
    """

    name: str
    call: Callable
    serves: Callable[[Shape], bool]
    same: bool = True
    note: str = ""


def _small(shape: Shape) -> bool:
    return shape.layout == "dense" and shape.elements * shape.parts <= MATRIX_NUMBERS


def _ragged(shape: Shape) -> bool:
    return shape.layout == "ragged"


def _with_pyg(shape: Shape) -> bool:
    return _ragged(shape) and importlib.util.find_spec("torch_geometric") is not None


def segment_reduce(name: str, draws: bool) -> Alternative:
    """The plain formula with torch.segment_reduce for its sums over ragged sets."""
    plain = getattr(baselines, name)
    return Alternative("torch.segment_reduce", lambda **arguments: plain(**arguments, segment_reduce=True), _ragged,
                       same=not draws, note="its own noise" if draws else "")


def full_covariance(mu, logvar, rho_logits, coupling: str) -> MultivariateNormal:
    """Batch [B, D] of K x K covariances A A^T, w = mu + A eps."""
    mu, logvar, rho_logits = mu.mT, logvar.mT, rho_logits.mT
    rho = torch.softmax(torch.cat([rho_logits, torch.zeros_like(rho_logits[..., :1])], -1), -1)[..., :-1]
    shift = torch.eye(mu.shape[-1], device=mu.device, dtype=mu.dtype) - rho[..., None]
    sigma = torch.exp(logvar / 2)
    matrix = shift * (sigma[..., None] if coupling == "unit" else sigma[..., None, :])
    return MultivariateNormal(mu, matrix @ matrix.mT, validate_args=False)


def _diagonal(mu, logvar) -> MultivariateNormal:
    return MultivariateNormal(mu.mT, scale_tril=torch.diag_embed(torch.exp(logvar.mT / 2)), validate_args=False)


def _full_kl(mu_q, logvar_q, rho_logits, mu_p, logvar_p, coupling="scaled"):
    return kl_divergence(full_covariance(mu_q, logvar_q, rho_logits, coupling), _diagonal(mu_p, logvar_p)).sum(-1)


def _full_log_prob(w, mu, logvar, rho_logits, coupling="scaled"):
    return full_covariance(mu, logvar, rho_logits, coupling).log_prob(w.mT).sum(-1)


def _full_rsample(mu, logvar, rho_logits, coupling="scaled"):
    return full_covariance(mu, logvar, rho_logits, coupling).rsample().mT


def _full_sum_and_kl(mu_q, logvar_q, rho_logits, mu_p, logvar_p, coupling="scaled"):
    q = full_covariance(mu_q, logvar_q, rho_logits, coupling)
    return q.rsample().sum(-1), kl_divergence(q, _diagonal(mu_p, logvar_p)).sum(-1)


def _low_rank(mu, logvar, rho_logits) -> LowRankMultivariateNormal:
    return LowRankMultivariateNormal(mu.mT, rho_logits.mT[..., None], torch.exp(logvar.mT), validate_args=False)


def _low_rank_rsample(mu, logvar, rho_logits, coupling="scaled"):
    return _low_rank(mu, logvar, rho_logits).rsample().mT


def _low_rank_sum_and_kl(mu_q, logvar_q, rho_logits, mu_p, logvar_p, coupling="scaled"):
    q, p = _low_rank(mu_q, logvar_q, rho_logits), _low_rank(mu_p, logvar_p, torch.zeros_like(rho_logits))
    return q.rsample().sum(-1), kl_divergence(q, p).sum(-1)


_FULL, _LOW_RANK = "MultivariateNormal", "LowRankMultivariateNormal"
_POSITIVE = "rank 1 with positive correlations: another distribution of the same size"

FULL_KL = Alternative(_FULL, _full_kl, _small)
FULL_LOG_PROB = Alternative(_FULL, _full_log_prob, _small)
FULL_RSAMPLE = Alternative(_FULL, _full_rsample, _small, same=False, note="its own noise")
FULL_SUM_AND_KL = Alternative(_FULL, _full_sum_and_kl, _small, same=False, note="its own noise")
LOW_RANK_RSAMPLE = Alternative(_LOW_RANK, _low_rank_rsample, _small, same=False, note=_POSITIVE)
LOW_RANK_SUM_AND_KL = Alternative(_LOW_RANK, _low_rank_sum_and_kl, _small, same=False, note=_POSITIVE)


def _everywhere(shape: Shape) -> bool:
    return True


def _normal(mu, logvar) -> Independent:
    return Independent(Normal(mu, torch.exp(logvar / 2), validate_args=False), mu.dim() - 1)


DIAGONAL_KL = Alternative(
    "torch.distributions.Normal",
    lambda mu_q, logvar_q, mu_p, logvar_p: kl_divergence(_normal(mu_q, logvar_q), _normal(mu_p, logvar_p)), _everywhere)
NORMAL_LOG_PROB = Alternative(
    "torch.distributions.Normal", lambda x, mu, logvar: -_normal(mu, logvar).log_prob(x), _everywhere)
NLL_LOSS = Alternative(
    "gaussian_nll_loss",
    lambda x, mu, logvar: gaussian_nll_loss(mu, x, torch.exp(logvar), full=True, reduction="none").flatten(1).sum(1),
    _everywhere)


def _pyg_sum_minus_self(h, *, offsets, pre=None, post=None, reduce="sum"):
    from torch_geometric.nn.aggr import SumAggregation

    g = torch.nn.functional.elu(h) if pre == "elu" else h
    owner = torch.repeat_interleave(offsets.diff(), output_size=h.shape[0])
    out = SumAggregation()(g, ptr=offsets)[owner] - g
    return torch.tanh(out) if post == "tanh" else out


def _pyg_product_of_experts(mu, logvar, *, offsets):
    from torch_geometric.nn.aggr import SumAggregation

    add, precision = SumAggregation(), torch.exp(-logvar)
    total = add(precision, ptr=offsets) + 1
    return add(precision * mu, ptr=offsets) / total, -torch.log(total)


PYG_SUM_MINUS_SELF = Alternative("torch_geometric", _pyg_sum_minus_self, _with_pyg)
PYG_PRODUCT_OF_EXPERTS = Alternative("torch_geometric", _pyg_product_of_experts, _with_pyg)


def _randn(labels, mu_table, logvar_table, lengths=None, offsets=None):
    # In pieces, so that its memory does not count: this is the price of the noise alone.
    left = labels.numel() * mu_table.shape[1]
    piece = torch.empty(min(left, 2**22), device=mu_table.device)
    while left > 0:
        torch.randn(min(left, piece.numel()), out=piece[: min(left, piece.numel())])
        left -= piece.numel()
    return piece


RANDN = Alternative("torch.randn", _randn, _everywhere, same=False, note="the noise alone")
