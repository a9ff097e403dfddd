"""The correlated Gaussian over the parts of a set as torch.distributions has its own, with its KL divergences."""

from compvae_fast.distributions import kl as kl  # registers the divergences
from compvae_fast.distributions.correlated_normal import CorrelatedNormal
from compvae_fast.distributions.parts_given_sum import PartsGivenSum

__all__ = ["CorrelatedNormal", "PartsGivenSum"]
