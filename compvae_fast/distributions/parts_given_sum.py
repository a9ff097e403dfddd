"""The parts of a set given their sum."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from compvae_fast import ops
from compvae_fast.distributions._factors import subtraction
from compvae_fast.reference.correlated import mix

if TYPE_CHECKING:
    from compvae_fast.distributions.correlated_normal import CorrelatedNormal


class PartsGivenSum(Distribution):
    r"""The correlated Gaussian over the parts, conditioned on sum_i w_i = w~: a Gaussian on that plane.

    With T = exp(L) (w~ - sum mu), pi_i = sigma_i^2 / sum_k sigma_k^2, and in the "unit" coupling a_k = sigma_k -
    sum_i sigma_i rho_i, M = diag(sigma) (I - rho 1^T):

        scaled:  w_i = mu_i + (pi_i - rho_i) T + x_i - pi_i sum_j x_j,     x_i = sigma_i eps_i
        unit:    w = mu + M (a (w~ - sum mu) / |a|^2 + eps - a (a . eps) / |a|^2)

    which is Matheron's rule: a draw of the noise, corrected to have the sum asked for. In the "scaled" coupling the
    logits move the mean alone: the covariance is that of independent parts given their sum. T, and with it the parts,
    is large where w~ is improbable; their sum then holds w~ to the rounding of the largest of them.

    Made by `CorrelatedNormal.parts_given_sum`. There is no `log_prob`: on the plane of dimension (K - 1) D the
    distribution has no density over the parts.

    Args:
        prior: the distribution of the parts, batch shape [...], event shape [K, D].
        w_sum: their sum [..., D].

    >>> from compvae_fast.distributions import CorrelatedNormal
    >>> zero = torch.zeros(1, 3, 2, dtype=torch.float64)
    >>> given = CorrelatedNormal(zero, zero + 1, zero).parts_given_sum(torch.tensor([[6.0, -3.0]]))
    >>> given.mean[0, :, 0].round(decimals=6)
    tensor([2., 2., 2.], dtype=torch.float64)
    >>> given.rsample(seed=1).sum(1).round(decimals=6)
    tensor([[ 6., -3.]], dtype=torch.float64)
    """

    arg_constraints: dict[str, constraints.Constraint] = {}
    support = constraints.independent(constraints.real, 2)
    has_rsample = True

    def __init__(self, prior: CorrelatedNormal, w_sum: Tensor):
        self.prior, self.w_sum = prior, w_sum
        super().__init__(prior.batch_shape, prior.event_shape, validate_args=False)

    def expand(self, batch_shape, _instance=None) -> PartsGivenSum:
        """The same distribution with its batch dimensions expanded to batch_shape."""
        new = self._get_checked_instance(PartsGivenSum, _instance)
        new.prior = self.prior.expand(batch_shape)
        new.w_sum = self.w_sum.expand(*batch_shape, self.w_sum.shape[-1])
        super(PartsGivenSum, new).__init__(new.prior.batch_shape, new.prior.event_shape, validate_args=False)
        return new

    @property
    def mean(self) -> Tensor:
        """The means of the parts, [..., K, D]."""
        return self._mean().to(self.prior.loc.dtype)

    @property
    def mode(self) -> Tensor:
        """The mode, which is the mean, [..., K, D]."""
        return self.mean

    @property
    def covariance(self) -> Tensor:
        """The covariance of the parts at each coordinate, [..., D, K, K], of rank K - 1."""
        factors = self.prior._factors()
        if factors.coupling == "scaled":
            return self.prior._square(subtraction(factors.shares()) * factors.sigma.mT[..., None, :])
        direction = factors.sum_direction()[1].mT
        matrix = factors.matrix()
        return self.prior._square(matrix - (matrix @ direction[..., None]) * direction[..., None, :])

    @property
    def variance(self) -> Tensor:
        """The variances of the parts, [..., K, D], in K^2 operations."""
        return self.covariance.diagonal(dim1=-2, dim2=-1).mT

    def rsample(self, sample_shape: Sequence[int] = (), seed: int | Tensor | None = None) -> Tensor:
        """Draw the parts [*sample_shape, ..., K, D], differentiable in the parameters and in w_sum.

        The noise is that of `CorrelatedNormal.rsample` with the same seed: sample s of batch element b draws set
        s * B + b.

        Args:
            sample_shape: how many samples.
            seed: None (drawn with torch's default generator), an int, or a 0-d int64 tensor.
        """
        shape = self._extended_shape(torch.Size(sample_shape))
        factors = self.prior.expand(shape[:-2])._factors()
        layout = factors.layout
        zero = factors.mu.new_zeros(()).expand(math.prod(shape[:-2]), *shape[-2:])
        draw = ops.correlated_normal_rsample(zero, zero, zero - torch.inf, seed=seed)
        assert isinstance(draw, Tensor)
        eps = layout.padded(draw)
        if factors.coupling == "scaled":
            noise = mix(layout, factors.shares(), factors.sigma * eps)
        else:
            direction = factors.sum_direction()[1]
            noise = factors.apply(eps - direction * layout.expand(layout.sum(direction * eps)))
        return (self._mean() + layout.unpadded(noise).reshape(shape)).to(self.prior.loc.dtype)

    def sample(self, sample_shape: Sequence[int] = (), seed: int | Tensor | None = None) -> Tensor:
        """`rsample` without a gradient."""
        with torch.no_grad():
            return self.rsample(sample_shape, seed)

    def _mean(self) -> Tensor:
        """The means in float64, [..., K, D]."""
        factors = self.prior._factors()
        layout, rho = factors.layout, factors.rho
        missing = self.w_sum.double().reshape(-1, self.w_sum.shape[-1]) - factors.sum_mean()
        if factors.coupling == "unit":
            deviation, direction = factors.sum_direction()
            missing = missing / torch.where(deviation > 0, deviation, 1)  # 0: an empty set
            shift = factors.apply(direction * layout.expand(missing))
        else:
            pi = factors.shares()
            # of the part that may have rho and pi near 1, by 1 - pi and 1 - rho
            gain = torch.where(rho.top, rho.complement - pi.complement, pi.value - rho.value)
            shift = gain * layout.expand(missing * torch.exp(rho.log_total))
        return layout.unpadded(factors.mu + shift).reshape(*self.batch_shape, *self.event_shape)
