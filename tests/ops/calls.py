"""Every operation as a function of tensors alone, for tests of how torch's machinery meets it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from compvae_fast.registry import RECORDS

SEED = 5
CLASSES = 3


@dataclass(frozen=True)
class Call:
    """One operation of the registry with its options.

    indices(sets, parts): its index arguments. Out of the registry come the names of its differentiable inputs,
    [B, K, D] or, of a table, [C, D]; whether it draws; and its function: looked up beforehand, not where a call is
    traced.
    """

    name: str
    options: dict
    indices: Callable[[int, int], dict[str, Tensor]] = lambda sets, parts: {}
    floats: tuple[str, ...] = field(init=False)
    draws: bool = field(init=False)
    function: Callable = field(init=False)

    def __post_init__(self):
        record = RECORDS[self.name]
        for name, value in (("floats", record.differentiable), ("draws", record.draws), ("function", record.function)):
            object.__setattr__(self, name, value)

    @property
    def table(self) -> bool:
        return self.name == "prior_sum"

    @property
    def on_sets(self) -> bool:
        """Whether it takes offsets and lengths beside float tensors of parts."""
        return RECORDS[self.name].sets and not self.table

    def inputs(self, sets: int, parts: int, width: int = 5, dtype=torch.float64, seed: int = 0) -> list[Tensor]:
        generator = torch.Generator().manual_seed(seed)
        shape = (CLASSES, width) if self.table else (sets, parts, width)
        return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) / 2 for _ in self.floats]

    def __call__(self, *inputs: Tensor, seed=SEED, **indices) -> tuple[Tensor, ...]:
        keywords = {**self.options, **indices, **({"seed": seed} if self.draws else {})}
        if self.table:
            keywords.setdefault("labels", None)
        outputs = self.function(**dict(zip(self.floats, inputs, strict=True)), **keywords)
        return outputs if isinstance(outputs, tuple) else (outputs,)

    def __str__(self) -> str:
        return "-".join([self.name, *(v if isinstance(v, str) else k for k, v in self.options.items())])


def _labels(sets: int, parts: int) -> dict[str, Tensor]:
    return {"labels": torch.arange(sets * parts).reshape(sets, parts) % CLASSES}


def _counts(sets: int, parts: int) -> dict[str, Tensor]:
    return {"counts": torch.arange(sets)[:, None] + parts * torch.arange(CLASSES)}


CALLS = [
    Call("correlated_normal_rsample", {"coupling": "unit", "with_log_prob": True}),
    Call("correlated_normal_rsample", {"coupling": "scaled"}),
    Call("correlated_normal_log_prob", {"coupling": "scaled"}),
    Call("multiset_kl", {"coupling": "unit"}),
    Call("posterior_sum_and_kl", {"coupling": "scaled"}),
    Call("posterior_sum_and_log_ratio", {"coupling": "unit"}),
    Call("posterior_sum_and_log_ratio", {"coupling": "scaled", "path": True}),
    Call("sum_minus_self", {"pre": "elu", "post": "tanh", "reduce": "mean"}),
    Call("prior_sum", {}, indices=_labels),
    Call("prior_sum", {"collapse": True}, indices=_counts),
    Call("product_of_experts", {"prior": False}),
    Call("diag_normal_kl", {}),
    Call("gaussian_nll", {}),
    Call("discretized_logistic_nll", {}),
]
