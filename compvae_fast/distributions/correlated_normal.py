"""The correlated Gaussian over the parts of a set."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal, biject_to, constraints, transform_to
from torch.distributions.transforms import identity_transform

from compvae_fast import ops
from compvae_fast.distributions._factors import Factors
from compvae_fast.distributions.parts_given_sum import PartsGivenSum
from compvae_fast.ops import _checks


class _Logit(constraints.Constraint):
    """A real number or minus infinity."""

    def check(self, value: Tensor) -> Tensor:
        return value < math.inf


for _registry in (biject_to, transform_to):
    _registry.register(_Logit)(lambda constraint: identity_transform)


class CorrelatedNormal(Distribution):
    r"""A Gaussian over the K parts of a set, correlated coordinate by coordinate through the sum of their noise.

    With rho_i = exp(nu_i) / (1 + sum_j exp(nu_j)), L = logsumexp(0, nu_1..nu_K) and eps ~ N(0, I):

        scaled:  w_i = mu_i + sigma_i eps_i - rho_i sum_j sigma_j eps_j
        unit:    w_i = mu_i + sigma_i (eps_i - rho_i sum_j eps_j)

    Batch shape [...] (often [B]), event shape [K, D].

    Args:
        loc: means mu [..., K, D]; float32, float64, bfloat16 or float16.
        scale: sigma > 0, of loc's dtype; the scales of the noise, not the standard deviations of the parts.
        rho_logits: nu, -inf allowed (rho_i = 0), of loc's dtype. The three broadcast.
        coupling: "scaled" or "unit".
        validate_args: check values, as torch.distributions does; None takes torch's default.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.

    Source: Berger & Sebag 2020, eq. 6 ("unit"); Berger's thesis, eq. 9.6 ("scaled").

    >>> zero = torch.zeros(2, 4, 8)
    >>> q = CorrelatedNormal(zero, zero + 1, zero)
    >>> q.rsample(seed=1).shape, q.log_prob(zero).shape
    (torch.Size([2, 4, 8]), torch.Size([2]))
    >>> q.sum_distribution().base_dist.scale[0, 0]  # sqrt(4) / (1 + 4)
    tensor(0.4000)
    """

    arg_constraints = {
        "loc": constraints.independent(constraints.real, 2),
        "scale": constraints.independent(constraints.positive, 2),
        "rho_logits": constraints.independent(_Logit(), 2),
    }
    support = constraints.independent(constraints.real, 2)
    has_rsample = True

    def __init__(
        self,
        loc: Tensor,
        scale: Tensor,
        rho_logits: Tensor,
        coupling: str = "scaled",
        validate_args: bool | None = None,
    ):
        parameters = dict(loc=loc, scale=scale, rho_logits=rho_logits)
        for name, value in parameters.items():
            _checks.is_float(name, value)
            _checks.same_device(name, value, "loc", loc)
        _checks.same_dtype(tuple(parameters), parameters)
        _checks.coupling(coupling)
        try:
            shape = torch.broadcast_shapes(*(value.shape for value in parameters.values()))
        except RuntimeError:
            shapes = ", ".join(str(list(value.shape)) for value in parameters.values())
            raise ValueError(f"loc, scale, rho_logits: expected shapes that broadcast, got {shapes}") from None
        if len(shape) < 2:
            raise ValueError(f"loc, scale, rho_logits: expected shape [..., K, D], got {list(shape)} together")
        self.loc, self.scale, self.rho_logits = (value.expand(shape) for value in parameters.values())
        self.coupling = coupling
        super().__init__(shape[:-2], shape[-2:], validate_args=validate_args)

    def expand(self, batch_shape, _instance=None) -> CorrelatedNormal:
        """The same distribution with its batch dimensions expanded to batch_shape."""
        new = self._get_checked_instance(CorrelatedNormal, _instance)
        shape = torch.Size(batch_shape) + self.event_shape
        new.loc, new.scale, new.rho_logits = (t.expand(shape) for t in (self.loc, self.scale, self.rho_logits))
        new.coupling = self.coupling
        super(CorrelatedNormal, new).__init__(shape[:-2], self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def __repr__(self) -> str:
        return f"{type(self).__name__}(loc: {tuple(self.loc.shape)}, coupling: {self.coupling!r})"

    def rsample(self, sample_shape: Sequence[int] = (), seed: int | Tensor | None = None) -> Tensor:
        """Draw w [*sample_shape, ..., K, D], differentiable in the parameters.

        Sample s of batch element b, both counted in row-major order, draws set s * B + b of the seed's noise.

        Args:
            sample_shape: how many samples.
            seed: None (drawn with torch's default generator), an int, or a 0-d int64 tensor.

        Raises:
            TypeError, ValueError: a seed that is none of these.
        """
        return self._draw(sample_shape, seed, with_log_prob=False)[0]

    def rsample_and_log_prob(
        self, sample_shape: Sequence[int] = (), seed: int | Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The draw of `rsample` and its log-density [*sample_shape, ...], computed from the noise.

        log q(w) = -1/2 sum eps^2 - sum log sigma + L - K/2 log 2 pi, free of the factor exp(L) by which `log_prob`
        magnifies the rounding of w.
        """
        return self._draw(sample_shape, seed, with_log_prob=True)

    def sample(self, sample_shape: Sequence[int] = (), seed: int | Tensor | None = None) -> Tensor:
        """`rsample` without a gradient."""
        with torch.no_grad():
            return self.rsample(sample_shape, seed)

    def _draw(self, sample_shape, seed, with_log_prob: bool):
        shape = self._extended_shape(torch.Size(sample_shape))
        # log(scale) in 8 or 11 bits would move the scale by per cents
        dtype = torch.promote_types(self.loc.dtype, torch.float32)
        mu, scale, logits = (_sets(t.to(dtype), shape) for t in (self.loc, self.scale, self.rho_logits))
        w, *log_q = _as_tuple(ops.correlated_normal_rsample(
            mu, 2 * scale.log(), logits, coupling=self.coupling, seed=seed, with_log_prob=with_log_prob))
        return w.reshape(shape).to(self.loc.dtype), *(x.reshape(shape[:-2]) for x in log_q)

    def log_prob(self, value: Tensor) -> Tensor:
        """log q(value) [*sample_shape, ...], summed over parts and coordinates.

        The noise is recovered from the value, which magnifies the value's rounding by up to exp(L); for the
        log-density of a draw prefer `rsample_and_log_prob`.

        Args:
            value: [*sample_shape, ..., K, D].

        Raises:
            ValueError: a value outside the support or of another event shape (with validation on).

        Source: Berger's thesis, eq. 9.9 and 9.10.
        """
        if self._validate_args:
            self._validate_sample(value)
        shape = torch.broadcast_shapes(value.shape, self.loc.shape)
        w, mu, scale, logits = (_sets(t.double(), shape) for t in (value, self.loc, self.scale, self.rho_logits))
        density = ops.correlated_normal_log_prob(w, mu, 2 * scale.log(), logits, coupling=self.coupling)
        return density.reshape(shape[:-2]).to(_wide(self.loc.dtype))

    def entropy(self) -> Tensor:
        """The differential entropy [...] in nats: sum log sigma - L + K/2 (1 + log 2 pi), summed over coordinates."""
        factors = self._factors()
        per_part = factors.log_sigma + (1 + math.log(2 * math.pi)) / 2
        return self._per_set(factors.layout.sum(per_part) - factors.rho.log_total).sum(-1).to(_wide(self.loc.dtype))

    @property
    def mean(self) -> Tensor:
        """The means of the parts, [..., K, D]."""
        return self.loc

    @property
    def mode(self) -> Tensor:
        """The mode, which is the mean, [..., K, D]."""
        return self.loc

    @property
    def variance(self) -> Tensor:
        """The variances of the parts, [..., K, D].

        scaled: (1 - 2 rho_i) sigma_i^2 + rho_i^2 sum_k sigma_k^2; unit: (1 - 2 rho_i + K rho_i^2) sigma_i^2.
        """
        factors = self._factors()
        return factors.layout.unpadded(factors.variance()).reshape(self.loc.shape).to(self.loc.dtype)

    @property
    def covariance(self) -> Tensor:
        """The covariance of the parts at each coordinate, [..., D, K, K], in K^3 operations a coordinate.

        scaled: d_ij sigma_i^2 - rho_j sigma_i^2 - rho_i sigma_j^2 + rho_i rho_j sum_k sigma_k^2
        unit:   sigma_i sigma_j (d_ij - rho_i - rho_j + K rho_i rho_j)
        """
        return self._square(self._factors().matrix())

    def sum_distribution(self) -> Independent:
        """The distribution of w~ = sum_i w_i: Independent(Normal, 1) with batch shape [...] and event shape [D].

        scaled: N(sum mu, exp(-2L) sum sigma^2); unit: N(sum mu, sum_k (sigma_k - sum_i sigma_i rho_i)^2), both by
        forms that stay exact as sum rho comes near 1. An empty set gives scale 0.
        """
        factors = self._factors()
        mean, deviation = (self._per_set(t).to(_wide(self.loc.dtype))
                           for t in (factors.sum_mean(), factors.sum_direction()[0]))
        # The scale may round to 0, which Normal's check would refuse.
        return Independent(Normal(mean, deviation, validate_args=False), 1, validate_args=self._validate_args)

    def parts_given_sum(self, w_sum: Tensor) -> PartsGivenSum:
        """The distribution of the parts given that they sum to w_sum [..., D]; see `PartsGivenSum`.

        Raises:
            TypeError, ValueError: naming the argument, what was expected and what came.
        """
        _checks.is_float("w_sum", w_sum)
        _checks.same_device("w_sum", w_sum, "loc", self.loc)
        if w_sum.dim() == 0 or w_sum.shape[-1] != self.event_shape[1]:
            raise ValueError(f"w_sum: expected shape [..., D = {self.event_shape[1]}], got {list(w_sum.shape)}")
        try:
            batch = torch.broadcast_shapes(w_sum.shape[:-1], self.batch_shape)
        except RuntimeError:
            raise ValueError(f"w_sum: expected a shape that broadcasts to {[*self.batch_shape, w_sum.shape[-1]]}, "
                             f"got {list(w_sum.shape)}") from None
        return PartsGivenSum(self.expand(batch), w_sum.expand(*batch, w_sum.shape[-1]))

    def _factors(self) -> Factors:
        loc, scale, logits = (_sets(t, t.shape) for t in (self.loc, self.scale, self.rho_logits))
        return Factors.of(loc, scale, logits, self.coupling)

    def _per_set(self, x: Tensor) -> Tensor:
        """[B, D] in this distribution's batch shape."""
        return x.reshape(*self.batch_shape, x.shape[-1])

    def _square(self, matrix: Tensor) -> Tensor:
        """matrix matrix^T, [..., D, K, K], of the slots that hold a part."""
        parts, width = self.event_shape
        product = (matrix @ matrix.mT)[..., :parts, :parts]
        return product.reshape(*self.batch_shape, width, parts, parts).to(self.loc.dtype)


def _sets(t: Tensor, shape) -> Tensor:
    """t expanded to shape [..., K, D], as [B, K, D]."""
    return t.expand(shape).reshape(math.prod(shape[:-2]), *shape[-2:])


def _wide(dtype: torch.dtype) -> torch.dtype:
    """The dtype of sums over a set."""
    return torch.promote_types(dtype, torch.float32)


def _as_tuple(results) -> tuple[Tensor, ...]:
    return results if isinstance(results, tuple) else (results,)
