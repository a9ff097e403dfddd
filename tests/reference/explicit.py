"""Independent judges: the plain definitions with explicit K x K matrices, in float64 and in 100 digits."""

import math

import mpmath
import torch
from torch.distributions import MultivariateNormal

COUPLINGS = ("unit", "scaled")


def rho(logits: torch.Tensor) -> torch.Tensor:
    """exp(nu_i) / (1 + sum_j exp(nu_j)), over the last dimension."""
    return torch.softmax(torch.cat([logits, torch.zeros_like(logits[..., :1])], -1), -1)[..., :-1]


def matrix(coupling: str, logvar: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """A with w = mu + A eps, [..., K, K], for logvar and logits [..., K]."""
    parts = logvar.shape[-1]
    scale = torch.diag_embed(torch.exp(logvar / 2))
    shift = torch.eye(parts, dtype=logvar.dtype) - rho(logits)[..., None] * torch.ones(parts, dtype=logvar.dtype)
    return scale @ shift if coupling == "unit" else shift @ scale


def normal(coupling: str, mu: torch.Tensor, logvar: torch.Tensor, logits: torch.Tensor) -> MultivariateNormal:
    """The correlated Gaussian of one coordinate, arguments [..., K]."""
    a = matrix(coupling, logvar, logits)
    return MultivariateNormal(mu, a @ a.mT)


class Digits:
    """The plain definitions of one coordinate of one set in arbitrary precision; arguments are lists of K numbers."""

    def __init__(self, coupling: str, digits: int = 130):
        self.coupling = coupling
        self.mp = mpmath.mp.clone()
        self.mp.dps = digits

    def numbers(self, values):
        return [self.mp.mpf(float(v)) if math.isfinite(v) else self.mp.mpf(str(float(v))) for v in values]

    def matrix(self, logvar, logits):
        mp, parts = self.mp, len(logvar)
        weights = [mp.exp(v) for v in logits]
        total = 1 + sum(weights)
        scale = [mp.exp(v / 2) for v in logvar]
        a = mp.matrix(parts, parts)
        for i in range(parts):
            for j in range(parts):
                column_scale = scale[i] if self.coupling == "unit" else scale[j]
                a[i, j] = column_scale * ((1 if i == j else 0) - weights[i] / total)
        return a

    def sample(self, mu, logvar, logits, eps):
        a = self.matrix(logvar, logits)
        return [m + sum(a[i, j] * eps[j] for j in range(len(mu))) for i, m in enumerate(mu)]

    def sum(self, mu, logvar, logits, eps):
        return sum(self.sample(mu, logvar, logits, eps), self.mp.mpf(0))

    def part_variances(self, logvar, logits):
        a, parts = self.matrix(logvar, logits), len(logvar)
        return [sum(a[i, j] ** 2 for j in range(parts)) for i in range(parts)]

    def sum_variance(self, logvar, logits):
        a, parts = self.matrix(logvar, logits), len(logvar)
        return sum(sum(a[i, j] for i in range(parts)) ** 2 for j in range(parts))

    def log_prob(self, w, mu, logvar, logits):
        mp, parts = self.mp, len(mu)
        a = self.matrix(logvar, logits)
        eps = mp.lu_solve(a, mp.matrix([w[i] - mu[i] for i in range(parts)])) if parts else []
        return -sum(e**2 for e in eps) / 2 - mp.log(abs(mp.det(a))) - parts * mp.log(2 * mp.pi) / 2

    def log_prior(self, w, mu, logvar):
        mp = self.mp
        terms = ((x - m) ** 2 * mp.exp(-v) + v + mp.log(2 * mp.pi) for x, m, v in zip(w, mu, logvar))
        return -sum(terms) / 2

    def kl(self, mu_q, logvar_q, logits, mu_p, logvar_p):
        mp, parts = self.mp, len(mu_q)
        variances = self.part_variances(logvar_q, logits)
        inside = sum(
            (variances[i] + (mu_q[i] - mu_p[i]) ** 2) * mp.exp(-logvar_p[i]) + logvar_p[i] for i in range(parts)
        )
        return (inside - parts) / 2 - mp.log(abs(mp.det(self.matrix(logvar_q, logits))))

    def log_ratio(self, mu_q, logvar_q, logits, mu_p, logvar_p, eps):
        w = self.sample(mu_q, logvar_q, logits, eps)
        return self.log_prior(w, mu_p, logvar_p) - self.log_prob(w, mu_q, logvar_q, logits)

    def path_ratio(self, held):
        """log_ratio whose density of q keeps the parameters ``held``, so that q's score is no part of the gradient."""

        def ratio(mu_q, logvar_q, logits, mu_p, logvar_p, eps):
            w = self.sample(mu_q, logvar_q, logits, eps)
            return self.log_prior(w, mu_p, logvar_p) - self.log_prob(w, *held)

        return ratio

    def gradient(self, function, arguments, constants=()):
        """Central differences in every entry of every argument list; entries of -inf are constants."""
        step = self.mp.mpf(10) ** (-self.mp.dps // 3)
        result = []
        for index, values in enumerate(arguments):
            row = []
            for k, value in enumerate(values):
                if not self.mp.isfinite(value):
                    row.append(self.mp.mpf(0))
                    continue
                sides = []
                for sign in (1, -1):
                    moved = [list(v) for v in arguments]
                    moved[index][k] = value + sign * step
                    sides.append(function(*moved, *constants))
                row.append((sides[0] - sides[1]) / (2 * step))
            result.append(row)
        return result
