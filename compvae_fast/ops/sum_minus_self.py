"""For each part of a set, the sum over the others."""

from __future__ import annotations

from torch import Tensor

from compvae_fast.ops import _checks, _library
from compvae_fast.ops._sets import layout_check, parts_of_sets

OPERATION = _library.Operation(
    name="sum_minus_self",
    inputs=_library.parts("h"),
    # pre and post are the empty string where there is none
    arguments=_library.SETS + tuple(_library.Argument(name, "text") for name in ("pre", "post", "reduce")),
    outputs=("part",),
    saved=(),
    describe=lambda values, save: [(values[0].shape, values[0].dtype)],
    check_values=layout_check("h"),
)


def sum_minus_self(
    h: Tensor,
    *,
    offsets: Tensor | None = None,
    lengths: Tensor | None = None,
    pre: str | None = None,
    post: str | None = None,
    reduce: str = "sum",
) -> Tensor:
    r"""For each part of a set, an aggregate of the others: out_i = post(sum_{j != i} pre(h_j)).

    Exact to rounding of the true sum: h_i, however large, does not enter its own output.

    Args:
        h: [B, K, D] or, with offsets, [N, D]; float32, float64, bfloat16 or float16; or a jagged nested tensor.
        offsets: [B + 1] int32 or int64, non-decreasing from 0 to N: ragged sets.
        lengths: [B] int32 or int64 in [0, K]: padded sets.
        pre: None or "elu", applied to each part before the sum.
        post: None or "tanh", applied after it.
        reduce: "sum", or "mean": the sum over K - 1; a lone part gives post(0) either way.

    Returns:
        Like h, zero beyond lengths.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.

    Source: Berger & Sebag 2020, appendix A; Berger's thesis, section 9.2.3 and eq. 9.13 (mean).

    >>> import torch
    >>> sum_minus_self(torch.tensor([[[1.0], [2.0], [4.0]]])).flatten()
    tensor([6., 5., 3.])
    """
    tensors, offsets, _, nest = parts_of_sets(dict(h=h), offsets, lengths)
    _checks.one_of("pre", pre, None, "elu")
    _checks.one_of("post", post, None, "tanh")
    _checks.one_of("reduce", reduce, "sum", "mean")
    return nest(OPERATION(tensors["h"], offsets, lengths, pre or "", post or "", reduce)[0])
