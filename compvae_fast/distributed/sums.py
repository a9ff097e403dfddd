"""Sums over sets whose parts are spread over processes, and their gradients."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compvae_fast import ops
from compvae_fast.distributed.shards import Door, opened
from compvae_fast.distributed.wire import Wire
from compvae_fast.ops import _checks

_NUMBERS = 1 << 20  # at a time


class _Complete(torch.autograd.Function):
    """Values as they are, whose gradients are summed over the ranks, by one collective for all."""

    @staticmethod
    def forward(ctx, wire, *values):
        ctx.wire = wire
        return tuple(value.view_as(value) for value in values)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, *gradients):
        wanted = [g for g, need in zip(gradients, ctx.needs_input_grad[1:]) if need]
        flat = ctx.wire.sum(torch.cat([g.reshape(-1) for g in wanted]))
        summed = iter(flat.split([g.numel() for g in wanted]))
        return None, *(next(summed).view(g.shape).to(g.dtype) if need else None
                       for g, need in zip(gradients, ctx.needs_input_grad[1:]))


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values, wire):
        return wire.sum(values)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        return gradient, None


class _SumMinusSelf(torch.autograd.Function):
    @staticmethod
    def forward(ctx, h, door: Door, pre, post, reduce):
        out = _aggregated(h, door, pre, reduce)
        ctx.door, ctx.reduce, ctx.pre, ctx.post = door, reduce, pre, post
        if post and not ctx.needs_input_grad[0]:
            return out.tanh_()
        ctx.save_for_backward(h if pre else None, out if post else None)
        return torch.tanh(out) if post else out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        h, before_tanh = ctx.saved_tensors
        if before_tanh is not None:  # 1 - tanh^2 = 4 e / (1 + e)^2, which keeps its digits where it is small
            e = before_tanh.abs().mul_(-2).exp_()
            gradient = e.mul(4).div_((1 + e).square_()).mul_(gradient)
        out = _aggregated(gradient, ctx.door, None, ctx.reduce)
        if h is not None:
            out.mul_(torch.exp(h.clamp(max=0)))
        return out, None, None, None, None


def _aggregated(x: Tensor, door: Door, pre: str | None, reduce: str) -> Tensor:
    """Sum over all parts of the whole set but one's own. What other ranks have is added to what the kernel makes, in
    place; it is a sum over them, never the total minus one's own, which cancels."""
    offsets, lengths = door.shard.offsets, door.shard.lengths
    here = ops.sum_minus_self(x, offsets=offsets, lengths=lengths, pre=pre)
    every = door.wire.gathered(_own_sum(x, here, offsets, door.own, pre))
    every[door.wire.rank] = 0
    out = here if here.dtype in (torch.float32, torch.float64) else here.float()
    others = every.sum(0)
    divisor = (door.counts - 1).clamp(min=1).double()[:, None] if reduce == "mean" else None
    if divisor is not None:
        _at_parts(out, (1 / divisor).expand_as(others).to(out.dtype), door, Tensor.mul_)
        others = others / divisor
    _at_parts(out, others.to(out.dtype), door, Tensor.add_)
    if lengths is not None:
        out = torch.where(torch.arange(x.shape[1], device=x.device)[:, None] < lengths[:, None, None], out, 0)
    return out.to(x.dtype)


def _at_parts(x: Tensor, values: Tensor, door: Door, in_place: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Changes each part of x by its set's row of values [B, D], some rows at a time."""
    if door.shard.offsets is None:
        in_place(x, values[:, None])
        return
    rows = max(_NUMBERS // max(x.shape[-1], 1), 1)
    sets = torch.repeat_interleave(door.own, output_size=x.shape[0])
    for some, of_set in zip(x.split(rows), sets.split(rows)):
        in_place(some, values[of_set])


def sum_gradients(values: Tensor, group: Any = None) -> Tensor:
    """``values``, whose gradient is summed over the ranks.

    For what all ranks hold alike and each uses in a way of its own: weights that meet only this rank's parts, or a
    sharded operation's result where ranks go on with different losses, whose sum then is what is differentiated.

    Args:
        values: the same on all ranks.
        group: a process group, default that of all processes.
    """
    return _Complete.apply(Wire(group), values)[0]


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
    return door.sharded(_SumMinusSelf.apply(door.tensors["h"], door, pre, post, reduce))


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
    weights = dict(block.named_parameters())
    shared = _Complete.apply(wire, *weights.values(), *(() if context is None else (context,)))
    options = {"offsets": offsets, "lengths": lengths, "aggregate": functools.partial(sum_minus_self, group=group)}
    if context is not None:
        options["context"] = shared[-1]
    return torch.func.functional_call(block, dict(zip(weights, shared)), (h,), options)


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
    mu, logvar = _Complete.apply(door.wire, mu_table, logvar_table)
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
