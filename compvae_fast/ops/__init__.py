"""The operations, differentiable, on dense, ragged, padded and nested sets."""

from compvae_fast.ops.correlated_normal_log_prob import correlated_normal_log_prob
from compvae_fast.ops.correlated_normal_rsample import correlated_normal_rsample
from compvae_fast.ops.diag_normal_kl import diag_normal_kl
from compvae_fast.ops.discretized_logistic_nll import discretized_logistic_nll
from compvae_fast.ops.gaussian_nll import gaussian_nll
from compvae_fast.ops.multiset_kl import multiset_kl
from compvae_fast.ops.posterior_sum_and_kl import posterior_sum_and_kl
from compvae_fast.ops.posterior_sum_and_log_ratio import posterior_sum_and_log_ratio
from compvae_fast.ops.prior_sum import prior_sum
from compvae_fast.ops.product_of_experts import product_of_experts
from compvae_fast.ops.sum_minus_self import sum_minus_self

__all__ = [
    "correlated_normal_log_prob",
    "correlated_normal_rsample",
    "diag_normal_kl",
    "discretized_logistic_nll",
    "gaussian_nll",
    "multiset_kl",
    "posterior_sum_and_kl",
    "posterior_sum_and_log_ratio",
    "prior_sum",
    "product_of_experts",
    "sum_minus_self",
]
