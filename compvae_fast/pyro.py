"""The correlated Gaussian as a Pyro distribution; needs Pyro (pip install compvae-fast[pyro])."""

from __future__ import annotations

try:
    from pyro.distributions.torch_distribution import TorchDistributionMixin
except ImportError as error:
    raise ImportError(f"compvae_fast.pyro needs Pyro (pip install compvae-fast[pyro]): {error}") from error

from compvae_fast import distributions

__all__ = ["CorrelatedNormal"]


class CorrelatedNormal(distributions.CorrelatedNormal, TorchDistributionMixin):  # type: ignore[misc]
    """`compvae_fast.distributions.CorrelatedNormal` for `pyro.sample`, with the same arguments.

    `pyro.infer.TraceMeanField_ELBO` takes its divergence to `Normal(...).to_event(2)` in closed form. Draws follow
    `pyro.set_rng_seed`.

    >>> import pyro, torch
    >>> zero = torch.zeros(5, 3, 2)
    >>> with pyro.plate("wholes", 5):
    ...     w = pyro.sample("w", CorrelatedNormal(zero, zero + 1, zero))
    >>> w.shape
    torch.Size([5, 3, 2])
    """
