"""The table of operations for the conformity tests: how to call each, and how far from the float64 reference it may be.

A case is one call on given numbers. Its judge is the same call by the reference in float64 on the same numbers, after
these were rounded to the dtype under test. The tolerances are those that the package promises for float32; judge.py has
what follows for the other dtypes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

import compvae_fast
from compvae_fast.registry import COUPLINGS, RECORDS, Record

from .sets import Sizes

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
WIDTH = 67  # two blocks of coordinates, the second one not full
SEED = 5


@dataclass(frozen=True)
class Operation:
    """A record of the registry with the error allowed to it.

    allowed(case, expected) gives that of each output; gradient_allowed(case, expected gradients) that of each gradient,
    by its norm over the parts of each set, [B, D], or not by_norm element by element.
    """

    record: Record
    allowed: tuple[Callable, ...]
    gradient_allowed: Callable
    by_norm: bool = True

    @property
    def name(self) -> str:
        return self.record.operation

    @property
    def sides(self) -> tuple[tuple[str, ...], ...]:
        return self.record.sides

    @property
    def outputs(self) -> tuple[str, ...]:
        return self.record.outputs

    @property
    def coupled(self) -> bool:
        return self.record.coupled

    @property
    def draws(self) -> bool:
        return self.record.draws

    @property
    def arguments(self) -> tuple[str, ...]:
        return self.record.differentiable

    @property
    def function(self) -> Callable:
        return self.record.function


@dataclass
class Case:
    """One call: ragged rows [N, D] by argument, sizes of the sets, keywords that do not depend on the layout."""

    operation: Operation
    sizes: Sizes
    rows: dict[str, Tensor]
    keywords: dict = field(default_factory=dict)
    device: str = "cpu"

    def call(self, layout: str, wide: bool = False):
        """(outputs as ragged rows or [B, ...], gradients as ragged rows, padding of both) of a random upstream."""
        rows = {name: x.double() if wide else x for name, x in self.rows.items()}
        device = "cpu" if wide else self.device
        inputs = {name: self.sizes.laid_out(x, layout).detach().to(device).requires_grad_() for name, x in rows.items()}
        keywords = {name: value.to(device) if isinstance(value, Tensor) else value
                    for name, value in (self.sizes.keywords(layout) | self.keywords).items()}
        outputs = self.operation.function(*inputs.values(), **keywords)
        outputs = tuple(o.cpu() for o in (outputs if isinstance(outputs, tuple) else (outputs,)))
        flat = [self.sizes.rows_of(o, layout) if kind == "parts" else o
                for o, kind in zip(outputs, self.operation.outputs)]
        upstream = [u.to(o.dtype) for u, o in zip(self.upstream(), flat)]
        gradients = [g.cpu() for g in torch.autograd.grad(flat, list(inputs.values()), upstream)]
        parts = [o for o, kind in zip(outputs, self.operation.outputs) if kind == "parts"]
        padding = [self.sizes.padding_of(x, layout) for x in (*parts, *gradients)]
        return [o.detach() for o in flat], [self.sizes.rows_of(g, layout) for g in gradients], padding

    def upstream(self) -> list[Tensor]:
        """Random gradients of the outputs, in numbers that every dtype holds."""
        generator = torch.Generator().manual_seed(11)
        count, width = len(self.sizes.sizes), next(iter(self.rows.values())).shape[-1]
        sums, parts = (count, width), (self.sizes.rows, width)
        shapes = {"sum": sums, "moment": sums, "number": (count,), "parts": parts}
        return [torch.randn(shapes[kind], generator=generator, dtype=torch.float64).to(torch.bfloat16).double()
                .nan_to_num() for kind in self.operation.outputs]

    def expected(self):
        """Outputs and gradients by the reference in float64."""
        with compvae_fast.use_backend("reference"):
            outputs, gradients, _ = self.call("ragged", wide=True)
        return outputs, gradients


# What may be expected of float32, times `strictness`.


def number(case: Case, expected: Tensor) -> Tensor:
    """1e-5, relative above 1."""
    return 1e-5 * expected.abs().clamp(min=1)


def own_norm(case: Case, expected: list[Tensor]) -> list[Tensor]:
    """Each input's gradient: 1e-4 of its norm plus 1e-6 of the joint norm, for each set and coordinate, [B, D].

    And 1e-14: the judge itself takes differences of terms about 1.
    """
    squares = [case.sizes.total(g.square()) for g in expected]
    joint = sum(squares).sqrt()
    return [1e-4 * s.sqrt() + 1e-6 * joint + 1e-14 for s in squares]


class Correlated:
    """Standard deviations of the correlated Gaussian, of parts and of their sum, by sums that do not cancel."""

    def __init__(self, case: Case):
        rows = {name.removesuffix("_q"): x.double() for name, x in case.rows.items()}
        self.case, self.unit = case, case.keywords["coupling"] == "unit"
        self.mean = rows["mu"]
        logvars, logits = (rows[name].split(case.sizes.sizes) for name in ("logvar", "rho_logits"))
        deviations = [self._of_set(lv.exp().sqrt(), nu) for lv, nu in zip(logvars, logits)]
        self.parts = torch.cat([parts for parts, _ in deviations])
        self.whole = torch.stack([whole for _, whole in deviations])

    def _of_set(self, sigma: Tensor, nu: Tensor):
        parts = len(sigma)
        if not parts:
            return sigma, sigma.new_zeros(sigma.shape[1])
        peak = nu.amax(0).clamp(min=0)
        weight = torch.exp(nu - peak)
        total = torch.exp(-peak) + weight.sum(0)
        rho, left = weight / total, torch.exp(-peak) / total
        complement = (torch.exp(-peak) + without_self(weight)) / total
        if not self.unit:
            own = (complement * sigma).square() + rho.square() * without_self(sigma.square())
            return own.sqrt(), left * sigma.square().sum(0).sqrt()
        own = sigma * torch.sqrt(complement.square() + (parts - 1) * rho.square())
        # sigma_k - sum_i rho_i sigma_i = sigma_k (1 - sum rho) + sum_i rho_i (sigma_k - sigma_i), differences taken
        # from the one part whose rho may be nearly 1
        apart = sigma - sigma.gather(0, nu.argmax(0, keepdim=True))
        gaps = left * sigma + apart * rho.sum(0) - (rho * apart).sum(0)
        return own, gaps.square().sum(0).sqrt()


def without_self(x: Tensor) -> Tensor:
    """sum_{j != i} x_j along dimension 0."""
    before, after = x.cumsum(0), x.flip(0).cumsum(0).flip(0)
    zero = torch.zeros_like(x[:1])
    return torch.cat([zero, before[:-1]]) + torch.cat([after[1:], zero])


def sum_of_parts(case: Case, expected: Tensor) -> Tensor:
    """1e-4 of its noise's standard deviation, and the rounding of the means."""
    return 1e-4 * Correlated(case).whole + 3e-7 * case.sizes.total(Correlated(case).mean.abs())


def each_part(case: Case, expected: Tensor) -> Tensor:
    return 1e-4 * Correlated(case).parts + 3e-7 * case.rows["mu"].double().abs()


def others(case: Case, expected: Tensor) -> Tensor:
    """1e-5 of the sum of the others' magnitudes."""
    h = case.rows["h"].double()
    return 1e-5 * _over_others(case, torch.where(h > 0, h, h.expm1()) if case.keywords.get("pre") else h)


def others_gradient(case: Case, expected: list[Tensor]) -> list[Tensor]:
    upstream = case.upstream()[0]
    slope = torch.ones_like(expected[0])
    if case.keywords.get("pre"):
        slope = torch.where(case.rows["h"] > 0, 1, case.rows["h"].double().exp())
    allowed = 1e-5 * _over_others(case, upstream) * slope
    if case.keywords.get("post"):
        allowed = allowed + 1e-6 * case.sizes.total(upstream.square()).sqrt()[case.sizes.owner]
    return [allowed]


def _over_others(case: Case, x: Tensor) -> Tensor:
    """sum_{j != i} |x_j|, over K - 1 for a mean."""
    sums = torch.cat([without_self(group) for group in x.abs().split(case.sizes.sizes)])
    if case.keywords.get("reduce") == "mean":
        sizes = torch.tensor(case.sizes.sizes)[case.sizes.owner]
        sums = sums / (sizes - 1).clamp(min=1)[:, None]
    return sums


def moment(case: Case, expected: Tensor) -> Tensor:
    """1e-6 of the largest mean, or relative; infinities must agree."""
    mu = case.rows["mu"].double().abs()
    largest = torch.stack([m.amax(0) if len(m) else m.new_zeros(m.shape[1]) for m in mu.split(case.sizes.sizes)])
    return 1e-6 * (largest + expected.abs().nan_to_num(posinf=0) + 1)


def promised(record: Record) -> Operation:
    """What a record's operation promises, by the kinds of its outputs."""
    of_others = record.operation == "sum_minus_self"
    allowed = {"number": number, "sum": sum_of_parts, "moment": moment, "parts": others if of_others else each_part}
    return Operation(record, tuple(allowed[kind] for kind in record.outputs),
                     others_gradient if of_others else own_norm, by_norm=not of_others)


# The operations whose float arguments lie in a layout; those over tables and plain tensors have tests of their own.
OPERATIONS = {record.operation: promised(record) for record in RECORDS.values()
              if record.sets and record.operation != "prior_sum"}


def variants() -> list[tuple[str, dict]]:
    """(operation, keywords) of every option and coupling."""
    return [(o.name, {**option, **coupling, **({"seed": SEED} if o.draws else {})})
            for o in OPERATIONS.values() for option in o.record.variants
            for coupling in (COUPLINGS if o.coupled else ({},))]


def label(variant: tuple[str, dict]) -> str:
    name, keywords = variant
    return "-".join([name, *(str(v) if isinstance(v, str) else k for k, v in keywords.items() if k != "seed")])


def make(variant, sizes: tuple[int, ...], dtypes, width: int = WIDTH, extreme: bool = False, means: bool = True,
         scales: float = 1.0) -> Case:
    """A case with random numbers; dtypes of the two sides. The scatter of log-variances is multiplied by `scales`."""
    name, keywords = variant
    operation, sizes = OPERATIONS[name], Sizes(sizes)
    generator = torch.Generator().manual_seed(3)
    rows = {}
    for side, dtype in zip(operation.sides, dtypes):
        for argument in side:
            x = torch.randn(sizes.rows, width, generator=generator)
            if argument == "w":
                x = x / 8
            elif argument.startswith("logvar"):
                x = scales * _logvar(x, argument, rows, extreme, generator)
            elif argument == "rho_logits":
                # The gradient of the density at any w but a draw grows as exp(2 nu), beyond what float32 holds.
                narrow = name == "correlated_normal_log_prob" and dtype != torch.float64
                # L = logsumexp(0, nu) up to 85 is promised
                peak = 20 if narrow else min(80, 85 - math.log(max(*sizes.sizes, 1)))
                x = _logits(x, peak, extreme, generator)
            elif argument.startswith("mu") and not means:
                x = torch.zeros_like(x)
            rows[argument] = x.to(dtype)
    return Case(operation, sizes, rows, keywords)


def _logvar(x: Tensor, argument: str, rows: dict, extreme: bool, generator) -> Tensor:
    if not extreme:
        return x
    if argument != "logvar_p":
        return 4 * x
    return rows["logvar_q"].float() + math.log(1e6) * (2 * torch.rand(x.shape, generator=generator) - 1)


def _logits(x: Tensor, peak: float, extreme: bool, generator) -> Tensor:
    """Logits about -1; where extreme, scattered by up to `peak`, another amount and another shape at each coordinate:
    one part far above the others, near ties, all far below. Some are off."""
    x = 2 * x - 1
    if extreme and len(x):
        scale, shape = torch.linspace(-80, peak, x.shape[1]), 8 * torch.rand(x.shape[1], generator=generator)
        x = (x + scale * torch.rand(x.shape, generator=generator).pow(shape)).clamp(-80, peak)
    x[torch.rand(x.shape, generator=generator) < 0.05] = -math.inf
    return x
