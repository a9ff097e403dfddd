"""The registry of operations: one record each, from which conformity tests, benchmarks and plug-ins are made."""

from __future__ import annotations

from torch import Tensor

from compvae_fast.registry import alternatives
from compvae_fast.registry.alternatives import Alternative, segment_reduce
from compvae_fast.registry.records import SEED, Record, Work
from compvae_fast.registry.shapes import LAYOUTS, Sampler, Shape, geometric

__all__ = ["COUPLINGS", "LAYOUTS", "RECORDS", "SEED", "Alternative", "Record", "Sampler", "Shape", "Work",
           "geometric", "matching"]

COUPLINGS = ({"coupling": "scaled"}, {"coupling": "unit"})
POSTERIOR, PRIOR, NORMAL = ("mu_q", "logvar_q", "rho_logits"), ("mu_p", "logvar_p"), ("mu", "logvar", "rho_logits")
TABLES = ("mu_table", "logvar_table")


def _gaussian(draw: Sampler, mu: str = "mu", logvar: str = "logvar") -> dict[str, Tensor]:
    return {mu: draw.normal(), logvar: draw.normal(-1.0, 0.5)}


def _correlated(draw: Sampler) -> dict[str, Tensor]:
    return _gaussian(draw) | {"rho_logits": draw.normal(-1.0)}


def _posterior_and_prior(draw: Sampler) -> dict[str, Tensor]:
    q = _gaussian(draw, "mu_q", "logvar_q") | {"rho_logits": draw.normal(-1.0)}
    return q | _gaussian(draw, "mu_p", "logvar_p")


def _tables(draw: Sampler) -> dict[str, Tensor]:
    size = (draw.shape.classes, draw.shape.width)
    return {"mu_table": draw.normal(size=size), "logvar_table": draw.normal(-1.0, 0.5, size)}


def _labels(draw: Sampler) -> dict[str, Tensor]:
    return {"labels": draw.integers(draw.shape.classes, draw.shape.leading)} | _tables(draw)


# Small enough for matrices of K x K numbers in every coordinate.
SMALL = Shape.dense(16, 16, 256)
SETS = tuple(Shape.dense(*sizes) for sizes in ((8, 256, 1024), (64, 16, 1024), (256, 16, 1024), (2, 20000, 256)))
RAGGED = (
    Shape(tuple(range(1, 65)), 1024, "ragged"),
    Shape.dense(32, 65, 1024),  # as many parts, dense
    Shape((*range(1, 65), 10**5), 128, "ragged"),
)
QUICK = (Shape.dense(8, 16, 256), Shape((1, 30, 2, 31), 256, "ragged"))
SWEEP = Shape.dense(16, 32, 256)

_ALL = (
    Record(
        "posterior_sum_and_kl", _posterior_and_prior, (POSTERIOR, PRIOR), ("sum", "number"),
        (SMALL, *SETS, *RAGGED), QUICK, Work(18, 3, 1), Work(30, 3, 1), SWEEP, COUPLINGS,
        alternatives=(segment_reduce("posterior_sum_and_kl", True), alternatives.FULL_SUM_AND_KL,
                      alternatives.LOW_RANK_SUM_AND_KL),
    ),
    Record(
        "posterior_sum_and_log_ratio", _posterior_and_prior, (POSTERIOR, PRIOR), ("sum", "number"),
        SETS, QUICK, Work(24, 3, 1), Work(34, 3, 1), SWEEP, COUPLINGS, variants=({}, {"path": True}),
        alternatives=(segment_reduce("posterior_sum_and_log_ratio", True),),
    ),
    Record(
        "multiset_kl", _posterior_and_prior, (POSTERIOR, PRIOR), ("number",),
        (SMALL, *SETS, *RAGGED), QUICK, Work(15, 3), Work(26, 3), SWEEP, COUPLINGS,
        alternatives=(segment_reduce("multiset_kl", False), alternatives.FULL_KL),
    ),
    Record(
        "correlated_normal_rsample", _correlated, (NORMAL,), ("parts", "number"),
        (SMALL, *SETS, *RAGGED), QUICK, Work(6, 2, 1), Work(14, 2, 1), SWEEP, COUPLINGS,
        variants=({"with_log_prob": True}, {}),
        alternatives=(segment_reduce("correlated_normal_rsample", True), alternatives.FULL_RSAMPLE,
                      alternatives.LOW_RANK_RSAMPLE),
    ),
    Record(
        "correlated_normal_log_prob", lambda draw: {"w": draw.normal()} | _correlated(draw), (("w", *NORMAL),),
        ("number",), (SMALL, *SETS), QUICK, Work(12, 2), Work(22, 2), SWEEP, COUPLINGS,
        alternatives=(segment_reduce("correlated_normal_log_prob", False), alternatives.FULL_LOG_PROB),
    ),
    Record(
        "sum_minus_self", lambda draw: {"h": draw.normal()}, (("h",),), ("parts",),
        (Shape.dense(256, 16, 2048), Shape.dense(8, 256, 2048), *RAGGED), QUICK, Work(4, 2), Work(6, 2), SWEEP,
        options=({"pre": "elu", "post": "tanh"}, {}),
        variants=({}, {"pre": "elu", "post": "tanh"}, {"reduce": "mean"}, {"pre": "elu", "reduce": "mean"}),
        alternatives=(segment_reduce("sum_minus_self", False), alternatives.PYG_SUM_MINUS_SELF),
    ),
    Record(
        "prior_sum", _labels, (TABLES,), ("sum",),
        tuple(Shape.dense(1, parts, 1024) for parts in geometric(10**4, 10**6, 3)), QUICK, Work(2, 0, 1), Work(3, 0, 1),
        SWEEP, variants=({}, {"collapse": True}), alternatives=(alternatives.RANDN,),
    ),
    Record(
        "prior_sum", lambda draw: {"labels": None} | _tables(draw) | {"counts": draw.counts()}, (TABLES,), ("sum",),
        tuple(Shape.dense(1, parts, 1024) for parts in geometric(10, 10**12, 4)), (Shape.dense(4, 10**6, 256),),
        Work(4, 1, 1), Work(4, 1), variant="counts",
    ),
    Record(
        "product_of_experts", _gaussian, (("mu", "logvar"),), ("moment", "moment"),
        SETS + RAGGED, QUICK, Work(5, 1), Work(7, 1), SWEEP, variants=({}, {"prior": False}),
        alternatives=(segment_reduce("product_of_experts", False), alternatives.PYG_PRODUCT_OF_EXPERTS),
    ),
    Record(
        "diag_normal_kl", lambda draw: _gaussian(draw, "mu_q", "logvar_q") | _gaussian(draw, *PRIOR),
        (("mu_q", "logvar_q"), PRIOR), ("number",), (Shape.dense(256, 1, 1024), Shape.dense(256, 16, 1024)),
        (Shape.dense(8, 16, 256),), Work(8, 2), Work(9, 2), alternatives=(alternatives.DIAGONAL_KL,),
    ),
    Record(
        "gaussian_nll", lambda draw: {"x": draw.normal()} | _gaussian(draw), (("x",), ("mu", "logvar")), ("number",),
        (Shape.dense(256, 1, 200), Shape.dense(256, 3, 1024)), (Shape.dense(8, 3, 1024),), Work(5, 1), Work(6, 1),
        alternatives=(alternatives.NORMAL_LOG_PROB, alternatives.NLL_LOSS),
    ),
    Record(
        "discretized_logistic_nll",
        lambda draw: {"x": draw.levels(), "mu": draw.normal(0.5, 0.2), "log_scale": draw.normal(-1.5, 0.2)},
        (("x",), ("mu", "log_scale")), ("number",), (Shape.dense(256, 3, 1024),), (Shape.dense(8, 3, 1024),),
        Work(18, 6), Work(16, 4),
    ),
)
RECORDS: dict[str, Record] = {record.name: record for record in _ALL}


def matching(names: tuple[str, ...] | list[str]) -> tuple[Record, ...]:
    """The records of the named operations, of all where none is named.

    Raises ValueError for a name that is no operation.

    >>> [record.name for record in matching(["prior_sum"])]
    ['prior_sum', 'prior_sum_counts']
    """
    known = tuple(dict.fromkeys(record.operation for record in _ALL))
    for name in names:
        if name not in known and name not in RECORDS:
            raise ValueError(f"operation: expected one of {', '.join(known)}, got {name!r}")
    return tuple(record for record in _ALL if not names or record.operation in names or record.name in names)
