"""Pyro: a guide for wholes that are sums of parts, as full covariance matrices and as the correlated Gaussian.

A whole x is the sum of K parts with standard normal priors, seen through noise; given x the parts are correlated. Both
guides hold the same family; one of them as D covariance matrices of K x K numbers for each whole.

    python examples/pyro_guide.py
"""

from __future__ import annotations

import pyro
import torch
from comparison import Side, arguments, equal, faster
from pyro import distributions as dist
from pyro.infer import Trace_ELBO
from torch import Tensor

from compvae_fast.pyro import CorrelatedNormal

NOISE = 0.3


def model(x: Tensor, parts: int) -> None:
    wholes, width = x.shape
    with pyro.plate("wholes", wholes):
        w = pyro.sample("w", dist.Normal(torch.zeros(parts, width), 1).to_event(2))
        pyro.sample("x", dist.Normal(w.sum(-2), NOISE).to_event(1), obs=x)


class Transposed(dist.transforms.Transform):
    """[D, K] to [K, D]."""

    bijective = True
    domain = codomain = dist.constraints.independent(dist.constraints.real, 2)

    def _call(self, x: Tensor) -> Tensor:
        return x.mT

    _inverse = _call

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return x.new_zeros(x.shape[:-2])

    def forward_shape(self, shape: torch.Size) -> torch.Size:
        return torch.Size((*shape[:-2], shape[-1], shape[-2]))

    inverse_shape = forward_shape


def before(loc: Tensor, scale: Tensor, logits: Tensor):
    rho = torch.softmax(torch.cat([logits, torch.zeros_like(logits[:, :1])], 1), 1)[:, :-1].mT
    mixing = (torch.eye(loc.shape[1], dtype=loc.dtype) - rho[..., None]) * scale.mT[..., None, :]
    columns = dist.MultivariateNormal(loc.mT, mixing @ mixing.mT).to_event(1)
    return dist.TransformedDistribution(columns, Transposed())


def after(loc: Tensor, scale: Tensor, logits: Tensor):
    return CorrelatedNormal(loc, scale, logits)


def main() -> None:
    given = arguments(__doc__)
    wholes, parts, width = (3, 4, 2) if given.small else (32, 16, 64)
    torch.manual_seed(0)
    x = torch.randn(wholes, width)
    shape = wholes, parts, width
    parameters = [torch.randn(shape), torch.rand(shape) + 0.5, torch.randn(shape) - 1]
    parameters = [parameter.requires_grad_() for parameter in parameters]

    # In float64: in float32 the Cholesky factors of the matrices lose digits that the closed form keeps.
    wide = [parameter.detach().double().requires_grad_() for parameter in parameters]
    w = torch.randn(shape, dtype=torch.float64)
    equal("densities and gradients of the guides",
          *(Side(lambda guide=guide: guide(*wide).log_prob(w), wide) for guide in (before, after)))

    def step(guide, particles: int = 1):
        def sampled(x: Tensor, parts: int) -> None:
            with pyro.plate("wholes", wholes):
                pyro.sample("w", guide(*parameters))

        elbo = Trace_ELBO(num_particles=particles, vectorize_particles=particles > 1, max_plate_nesting=1)
        return lambda: elbo.differentiable_loss(model, sampled, x, parts)

    with torch.no_grad():
        losses = [float(step(guide, particles=64)()) for guide in (before, after)]
    print("loss with each guide's own noise, 64 particles: " + " and ".join(f"{loss:.1f}" for loss in losses))
    sides = [Side(step(guide), parameters) for guide in (before, after)]
    faster("a step of variational inference", *sides, given.seconds)


if __name__ == "__main__":
    main()
