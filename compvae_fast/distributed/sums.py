"""Sums over sets whose parts are spread over processes, and their gradients."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compvae_fast import ops
from compvae_fast.distributed.shards import opened
from compvae_fast.distributed.wire import Wire
from compvae_fast.ops import _checks


class _Complete(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values, wire):
        ctx.wire = wire
        return values.view_as(values)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        return ctx.wire.sum(gradient), None


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values, wire):
        return wire.sum(values)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        return gradient, None


class _OfOtherRanks(torch.autograd.Function):
    """The sum over the other ranks' values; never the total minus one's own, which cancels."""

    @staticmethod
    def forward(ctx, values, wire):
        ctx.wire = wire
        return _of_others(values, wire)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        return _of_others(gradient, ctx.wire), None


def _of_others(values: Tensor, wire: Wire) -> Tensor:
    every = wire.gathered(values)
    every[wire.rank] = 0
    return every.sum(0)


class _Tanh(torch.autograd.Function):
    """tanh whose derivative keeps its digits where it is small: 1 - tanh^2 = 4 e / (1 + e)^2, e = exp(-2 |x|)."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.tanh(x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        e = torch.exp(x.abs().mul_(-2))
        return gradient * (4 * e / (1 + e).square_())


def sum_gradients(values: Tensor, group: Any = None) -> Tensor:
    """``values``, whose gradient is summed over the ranks.

    For what all ranks hold alike and each uses in a way of its own: weights that meet only this rank's parts, or a
    sharded operation's result where ranks go on with different losses, whose sum then is what is differentiated.

    Args:
        values: the same on all ranks.
        group: a process group, default that of all processes.
    """
    return _Complete.apply(values, Wire(group))


def total(values: Tensor, group: Any = None) -> Tensor:
    """The sum over the ranks of each one's values, on all of them.

    The gradient is passed on as it is: it must be the same on all ranks, as it is where each computes the same loss.
    """
    return _Total.apply(values, Wire(group))


def sum_minus_self(
    h: Tensor,
    *,
    group: Any = None,
    offsets: Tensor | None = None,
    lengths: Tensor | None = None,
    pre: str | None = None,
    post: str | None = None,
    reduce: str = "sum",
) -> Tensor:
    """`compvae_fast.ops.sum_minus_self` of sets whose parts are spread over the ranks of a group.

    What goes over the wire is each rank's own sum, [B, D] in float64, forward and backward.

    Args:
        h: this rank's parts, [B, K_r, D] or, with offsets, [N_r, D]; or a DTensor sharded along the set dimension.
        group: a process group, default that of all processes.
        offsets, lengths: of this rank's parts.
        pre, post, reduce: as `compvae_fast.ops.sum_minus_self` takes them.

    Returns:
        Like h, this rank's parts; reduce="mean" divides by the whole set's K - 1.

    Raises:
        TypeError, ValueError: on every rank, where one is given what it cannot use or ranks disagree.
    """
    _checks.one_of("pre", pre, None, "elu")
    _checks.one_of("post", post, None, "tanh")
    _checks.one_of("reduce", reduce, "sum", "mean")
    flags = {"pre": int(pre is not None), "post": int(post is not None), "reduce": int(reduce == "mean")}
    door = opened("sum_minus_self", {"h": h}, (("h",),), group, offsets, lengths, flags=flags)
    h = door.tensors["h"]
    here = ops.sum_minus_self(h, offsets=offsets, lengths=lengths, pre=pre)
    others = _OfOtherRanks.apply(_own_sum(h, here, offsets, door.own, pre), door.wire)
    wide = torch.float64 if h.dtype == torch.float64 else torch.float32
    if reduce == "mean":
        divisor = (door.counts - 1).clamp(min=1)[:, None]
        here, others = here / _at_parts(divisor.to(wide), h, offsets, door.own), others / divisor
    out = (here + _at_parts(others.to(wide), h, offsets, door.own)).to(h.dtype)
    if lengths is not None:
        out = torch.where(torch.arange(h.shape[1], device=h.device)[:, None] < lengths[:, None, None], out, 0)
    return door.sharded(_Tanh.apply(out) if post else out)


def graph_block(
    block: nn.Module,
    h: Tensor,
    *,
    group: Any = None,
    context: Tensor | None = None,
    offsets: Tensor | None = None,
    lengths: Tensor | None = None,
) -> Tensor:
    """`compvae_fast.nn.GraphBlock` of sets whose parts are spread over the ranks of a group.

    Args:
        block: the same on all ranks; its weights get their whole gradient on each.
        h: states of this rank's parts, [B, K_r, N] or, with offsets, [N_r, N].
        group: a process group, default that of all processes.
        context: [B, C], the same on all ranks, where the block has one; it gets its whole gradient on each.
        offsets, lengths: of this rank's parts.

    Returns:
        New states of this rank's parts.
    """
    wire = Wire(group)
    weights = {name: _Complete.apply(weight, wire) for name, weight in block.named_parameters()}
    options = {"offsets": offsets, "lengths": lengths, "aggregate": functools.partial(sum_minus_self, group=group)}
    if context is not None:
        options["context"] = _Complete.apply(context, wire)
    return torch.func.functional_call(block, weights, (h,), options)


def _own_sum(h: Tensor, without_self: Tensor, offsets: Tensor | None, own: Tensor, pre: str | None) -> Tensor:
    """The sum of this rank's parts of each set, float64 [B, D]: the first part's others and itself."""
    if offsets is None:
        first = (h[:, :1], without_self[:, :1])
        if not h.shape[1]:
            return h.new_zeros(h.shape[0], h.shape[2], dtype=torch.float64)
    else:
        if not h.shape[0]:
            return h.new_zeros(len(own), h.shape[1], dtype=torch.float64)
        rows = offsets[:-1].to(torch.int64).clamp(max=h.shape[0] - 1)
        first = (h[rows][:, None], without_self[rows][:, None])
    itself, others = (x.squeeze(1).double() for x in first)
    if pre == "elu":
        itself = F.elu(itself)
    return torch.where(own[:, None] > 0, itself + others, 0)


def _at_parts(values: Tensor, h: Tensor, offsets: Tensor | None, own: Tensor) -> Tensor:
    """[B, D] at each part of its set."""
    return values[:, None] if offsets is None else values.repeat_interleave(own, 0, output_size=h.shape[0])


def prior_sum(
    labels: Tensor,
    mu_table: Tensor,
    logvar_table: Tensor,
    *,
    group: Any = None,
    offsets: Tensor | None = None,
    lengths: Tensor | None = None,
    seed: int | Tensor | None = None,
    set_index: Tensor | None = None,
    part_start: Tensor | None = None,
) -> Tensor:
    """`compvae_fast.ops.prior_sum` of sets whose parts are spread over the ranks of a group.

    Args:
        labels: of this rank's parts, [B, K_r] or, with offsets, [N_r].
        mu_table, logvar_table: [C, D], the same on all ranks; each rank gets their whole gradient.
        group: a process group, default that of all processes.
        offsets, lengths: of this rank's parts.
        seed, set_index, part_start: those of the whole sets, the same on all ranks. seed=None takes rank 0's.

    Returns:
        w~ [B, D] of the whole sets, the same on all ranks.

    Raises:
        TypeError, ValueError: on every rank, where one is given what it cannot use or ranks disagree.
        IndexError: a label outside the tables, on the rank that has it; RuntimeError on the others.
    """
    dims = 1 if offsets is not None else 2
    wrong = not isinstance(labels, Tensor) or labels.dim() != dims
    problem = _problem_of_labels(labels, mu_table, logvar_table, lengths, wrong, dims)
    # The layout of labels is checked as that of the parts they stand for.
    parts = labels if problem else mu_table.new_zeros(()).expand(*labels.shape, mu_table.shape[-1])
    door = opened(
        "prior_sum", {"labels": parts}, (("labels",),), group, offsets, lengths, "scaled", seed, set_index, part_start,
        earlier=problem, flags={"classes": -1 if problem else mu_table.shape[0]},
    )
    shard = door.shard
    mu, logvar = (_Complete.apply(table, door.wire) for table in (mu_table, logvar_table))
    own = ops.prior_sum(labels, mu, logvar, offsets=offsets, lengths=lengths, seed=shard.seed, set_index=set_index,
                        part_start=shard.part_start)
    return _Total.apply(own.double(), door.wire).to(own.dtype)


def _problem_of_labels(labels, mu_table, logvar_table, lengths, wrong: bool, dims: int) -> Exception | None:
    try:
        _checks.tables(mu_table, logvar_table)
        _checks.labels(labels, mu_table)
        if wrong:
            raise ValueError(f"labels: expected {'[N] beside offsets' if dims == 1 else '[B, K]'}, "
                             f"got {list(labels.shape)}")
        _checks.label_values(labels, mu_table.shape[0], lengths)
    except (TypeError, ValueError, IndexError) as error:
        return error
    return None
