"""Every operation in plain PyTorch, memory as it comes: the definition that the other backends are held to.

Arguments arrive validated. Inputs of any float dtype are computed in float64 and the results rounded once;
gradients are torch's own.
"""

from compvae_fast.reference.correlated_normal_log_prob import correlated_normal_log_prob
from compvae_fast.reference.correlated_normal_rsample import correlated_normal_rsample
from compvae_fast.reference.diag_normal_kl import diag_normal_kl
from compvae_fast.reference.discretized_logistic_nll import discretized_logistic_nll
from compvae_fast.reference.gaussian_nll import gaussian_nll
from compvae_fast.reference.multiset_kl import multiset_kl
from compvae_fast.reference.posterior_sum_and_kl import posterior_sum_and_kl
from compvae_fast.reference.posterior_sum_and_log_ratio import posterior_sum_and_log_ratio
from compvae_fast.reference.prior_sum import prior_sum
from compvae_fast.reference.product_of_experts import product_of_experts
from compvae_fast.reference.sum_minus_self import sum_minus_self

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
