"""Draws and densities of parts that are spread over processes.

In float64 and chunk by chunk, so that scratch memory does not grow with K. The sums over a set follow those of
`compvae_fast.reference.correlated`: m, the part with the largest logit, is the only one whose rho may exceed 1/2, and
a difference from a weighted mean is taken relative to m's value where it does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from compvae_fast.distributed.shards import Door, opened
from compvae_fast.random import normal
from compvae_fast.reference.noise import normal_rows64

CHUNK = 1 << 20  # numbers at a time


def correlated_normal_rsample(
    mu: Tensor,
    logvar: Tensor,
    rho_logits: Tensor,
    *,
    group: Any = None,
    offsets: Tensor | None = None,
    lengths: Tensor | None = None,
    coupling: str = "scaled",
    seed: int | Tensor | None = None,
    with_log_prob: bool = False,
    set_index: Tensor | None = None,
    part_start: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """`compvae_fast.ops.correlated_normal_rsample` of sets whose parts are spread over the ranks of a group.

    Args:
        mu, logvar, rho_logits: this rank's parts, each [B, K_r, D] or, with offsets, [N_r, D]; or DTensors sharded
            along the set dimension of a one-dimensional mesh, which then is the group.
        group: a process group, default that of all processes.
        offsets, lengths: of this rank's parts.
        coupling, seed, with_log_prob, set_index, part_start: those of the whole sets, the same on all ranks.
            seed=None takes rank 0's.

    Returns:
        w, this rank's parts; with_log_prob=True: (w, log q(w) [B] of the whole sets, the same on all ranks).

    Raises:
        TypeError, ValueError: on every rank, where one is given what it cannot use or ranks disagree.
    """
    tensors = dict(mu=mu, logvar=logvar, rho_logits=rho_logits)
    door = opened("correlated_normal_rsample", tensors, (tuple(tensors),), group, offsets, lengths, coupling, seed,
                  set_index, part_start, flags={"with_log_prob": int(bool(with_log_prob))})
    w, log_q = _Sample.apply(*door.tensors.values(), door, with_log_prob)
    return (door.sharded(w), door.replicated(log_q)) if with_log_prob else door.sharded(w)


def correlated_normal_log_prob(
    w: Tensor,
    mu: Tensor,
    logvar: Tensor,
    rho_logits: Tensor,
    *,
    group: Any = None,
    offsets: Tensor | None = None,
    lengths: Tensor | None = None,
    coupling: str = "scaled",
) -> Tensor:
    """`compvae_fast.ops.correlated_normal_log_prob` of sets whose parts are spread over the ranks of a group.

    Args:
        w, mu, logvar, rho_logits: this rank's parts, each [B, K_r, D] or, with offsets, [N_r, D]; or DTensors sharded
            along the set dimension of a one-dimensional mesh, which then is the group.
        group: a process group, default that of all processes.
        offsets, lengths: of this rank's parts.
        coupling: the same on all ranks.

    Returns:
        [B], of the whole sets, the same on all ranks.

    Raises:
        TypeError, ValueError: on every rank, where one is given what it cannot use or ranks disagree.
    """
    tensors = dict(w=w, mu=mu, logvar=logvar, rho_logits=rho_logits)
    door = opened("correlated_normal_log_prob", tensors, (tuple(tensors),), group, offsets, lengths, coupling)
    return door.replicated(_Density.apply(*door.tensors.values(), door))


@dataclass
class _Rows:
    """This rank's parts as rows [N, D], some at a time."""

    door: Door
    width: int

    def flat(self, x: Tensor) -> Tensor:
        return x if self.door.shard.offsets is not None else x.reshape(-1, x.shape[-1])

    def chunks(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """(rows, their sets, their parts' indices in the noise)."""
        shard, own = self.door.shard, self.door.own
        assert shard.part_start is not None
        sets = torch.repeat_interleave(own)
        within = torch.arange(len(sets), device=own.device) - (own.cumsum(0) - own)[sets]
        if shard.offsets is not None:
            rows = torch.arange(len(sets), device=own.device)
        else:
            slots = next(iter(self.door.tensors.values())).shape[1]
            rows = sets * slots + within
        parts = shard.part_start.to(torch.int64)[sets] + within
        size = max(CHUNK // max(self.width, 1), 1)
        yield from zip(rows.split(size), sets.split(size), parts.split(size))

    def noise(self, sets: Tensor, parts: Tensor, wide: bool) -> Tensor:
        shard = self.door.shard
        index = sets if shard.set_index is None else shard.set_index.to(torch.int64)[sets]
        if wide:
            return normal_rows64(shard.seed.expand(len(index)), index, parts, self.width)
        columns = torch.arange(self.width, device=sets.device)
        return normal(shard.seed, index[:, None], parts[:, None], columns).double()


class _Rho:
    """rho of this rank's parts once L is known; m's rank and row."""

    def __init__(self, rows: _Rows, logits: Tensor):
        door, wire = rows.door, rows.door.wire
        shape = (len(door.own), rows.width)
        largest = torch.full(shape, -torch.inf, dtype=torch.float64, device=logits.device)
        for at, sets, _ in rows.chunks():
            of_set = sets[:, None].expand(-1, rows.width)
            largest = largest.scatter_reduce(0, of_set, logits[at].double(), "amax")
        self.largest = wire.largest(largest)
        self.ref = self.largest.clamp(min=0)
        # The first row with the largest logit, on the first rank that has one.
        claim = torch.full(shape, 2**62, dtype=torch.int64, device=logits.device)
        for at, sets, _ in rows.chunks():
            own = torch.where(logits[at].double() == self.largest[sets], (wire.rank << 48) + at[:, None], 2**62)
            claim = claim.scatter_reduce(0, sets[:, None].expand(-1, rows.width), own, "amin")
        first = wire.smallest(claim)
        self._row = torch.where((first == claim) & (claim < 2**62), claim & ((1 << 48) - 1), -1)
        others = torch.zeros_like(self.ref)
        for at, sets, _ in rows.chunks():
            e = torch.exp(logits[at].double() - self.ref[sets])
            others.index_add_(0, sets, torch.where(self.is_m(at, sets), 0, e))
        rest = torch.exp(-self.ref) + wire.sum(others)
        z = rest + torch.where(door.counts[:, None] > 0, torch.exp(self.largest - self.ref), 0)
        self.inverse_z, self.one_minus_rho_m = 1 / z, rest / z
        self.log_total = self.ref + torch.log(z)
        self.left = torch.exp(-self.log_total)
        self.high = self.one_minus_rho_m < 0.5

    def is_m(self, at: Tensor, sets: Tensor) -> Tensor:
        return self._row[sets] == at[:, None]

    def of(self, logits: Tensor, sets: Tensor) -> Tensor:
        return torch.exp(logits.double() - self.ref[sets]) * self.inverse_z[sets]


class _Sample(torch.autograd.Function):
    @staticmethod
    def forward(ctx, mu, logvar, rho_logits, door: Door, with_log_prob: bool):
        rows, wide = _Rows(door, mu.shape[-1]), mu.dtype == torch.float64
        flat_mu, flat_logvar, logits = map(rows.flat, (mu, logvar, rho_logits))
        rho = _Rho(rows, logits)
        noise, noise_m = torch.zeros_like(rho.ref), torch.zeros_like(rho.ref)
        terms = torch.zeros_like(rho.ref)
        for at, sets, parts in rows.chunks():
            eps = rows.noise(sets, parts, wide)
            y = eps if door.shard.coupling == "unit" else eps * torch.exp(flat_logvar[at].double() / 2)
            m = rho.is_m(at, sets)
            noise.index_add_(0, sets, torch.where(m, 0, y))
            noise_m.index_add_(0, sets, torch.where(m, y, 0))
            if with_log_prob:
                terms.index_add_(0, sets, eps.square() + flat_logvar[at].double() + math.log(2 * math.pi))
        sums = door.wire.sum(torch.stack([noise, noise_m, terms]))
        others, total = sums[0], sums[0] + sums[1]
        w = torch.zeros(flat_mu.shape, dtype=mu.dtype, device=mu.device)
        for at, sets, parts in rows.chunks():
            eps, sigma = rows.noise(sets, parts, wide), torch.exp(flat_logvar[at].double() / 2)
            y = eps if door.shard.coupling == "unit" else sigma * eps
            r, m = rho.of(logits[at], sets), rho.is_m(at, sets)
            part = torch.where(m, rho.one_minus_rho_m[sets] * y - r * others[sets], y - r * total[sets])
            if door.shard.coupling == "unit":
                part = sigma * part
            w[at] = (flat_mu[at].double() + part).to(w.dtype)
        ctx.save_for_backward(mu, logvar, rho_logits)
        ctx.rows, ctx.rho, ctx.sums = rows, rho, (others, total)
        density = torch.where(door.counts[:, None] > 0, rho.log_total - sums[2] / 2, 0).sum(1)
        wide_dtype = torch.float64 if wide else torch.float32
        return w.view(mu.shape), density.to(wide_dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_w, grad_density):
        mu, logvar, rho_logits = ctx.saved_tensors
        rows, rho, (others, total) = ctx.rows, ctx.rho, ctx.sums
        door, wide = rows.door, mu.dtype == torch.float64
        unit = door.shard.coupling == "unit"
        flat_logvar, logits, grad_w = map(rows.flat, (logvar, rho_logits, grad_w))

        def upstream(at: Tensor) -> Tensor:
            a = grad_w[at].double()
            return a * torch.exp(flat_logvar[at].double() / 2) if unit else a

        # a_i - sum_j rho_j a_j, taken relative to a_m where rho_m > 1/2
        of_m = torch.zeros_like(rho.ref)
        for at, sets, _ in rows.chunks():
            of_m.index_add_(0, sets, torch.where(rho.is_m(at, sets) & rho.high[sets], upstream(at), 0))
        reference = door.wire.sum(of_m)
        centre = torch.zeros_like(rho.ref)
        for at, sets, _ in rows.chunks():
            centre.index_add_(0, sets, rho.of(logits[at], sets) * (upstream(at) - reference[sets]))
        offset = reference * rho.left - door.wire.sum(centre)
        g = grad_density.double()[:, None]
        out = [torch.zeros(flat_logvar.shape, dtype=mu.dtype, device=mu.device) for _ in range(3)]
        for at, sets, parts in rows.chunks():
            eps, sigma = rows.noise(sets, parts, wide), torch.exp(flat_logvar[at].double() / 2)
            r, a = rho.of(logits[at], sets), upstream(at)
            centred = (a - reference[sets]) + offset[sets]
            if unit:
                m = rho.is_m(at, sets)
                own = torch.where(m, rho.one_minus_rho_m[sets] * eps - r * others[sets], eps - r * total[sets])
                to_logvar = a * own / 2
            else:
                to_logvar = sigma * eps * centred / 2
            out[0][at] = grad_w[at].to(mu.dtype)
            out[1][at] = (to_logvar - g[sets] / 2).to(mu.dtype)
            out[2][at] = (r * (g[sets] - total[sets] * centred)).to(mu.dtype)
        needs = ctx.needs_input_grad
        return *(x.view(mu.shape) if need else None for x, need in zip(out, needs)), None, None


class _Density(torch.autograd.Function):
    """u = (w - mu) / sigma (unit) or w - mu (scaled); eps = u + rho exp(L) sum u, over sigma in "scaled"."""

    @staticmethod
    def forward(ctx, w, mu, logvar, rho_logits, door: Door):
        rows = _Rows(door, mu.shape[-1])
        flat = tuple(map(rows.flat, (w, mu, logvar, rho_logits)))
        rho = _Rho(rows, flat[3])
        total = torch.zeros_like(rho.ref)
        for at, sets, _ in rows.chunks():
            total.index_add_(0, sets, _residual(flat, at, door)[0])
        total = door.wire.sum(total) * torch.exp(rho.log_total)
        squares, pull = torch.zeros_like(total), torch.zeros_like(total)
        for at, sets, _ in rows.chunks():
            r, _, inverse, eps = _noise_of(flat, at, sets, rho, total, door)
            squares.index_add_(0, sets, eps.square() + flat[2][at].double() + math.log(2 * math.pi))
            pull.index_add_(0, sets, r * eps * inverse)
        sums = door.wire.sum(torch.stack([squares, pull]))
        ctx.save_for_backward(w, mu, logvar, rho_logits)
        ctx.rows, ctx.rho, ctx.total, ctx.pull = rows, rho, total, sums[1] * torch.exp(rho.log_total)
        density = torch.where(door.counts[:, None] > 0, rho.log_total - sums[0] / 2, 0).sum(1)
        return density.to(torch.float64 if mu.dtype == torch.float64 else torch.float32)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        rows, rho = ctx.rows, ctx.rho
        door = rows.door
        flat = tuple(map(rows.flat, ctx.saved_tensors))
        out = [torch.zeros(flat[0].shape, dtype=x.dtype, device=x.device) for x in flat]
        g_sets = gradient.double()[:, None]
        for at, sets, _ in rows.chunks():
            r, u, inverse, eps = _noise_of(flat, at, sets, rho, ctx.total, door)
            g, pull, total = g_sets[sets], ctx.pull[sets], ctx.total[sets]
            if door.shard.coupling == "unit":
                to_w = -(eps + pull) / torch.exp(flat[2][at].double() / 2)
                to_logvar = u * (eps + pull) - 1
            else:
                to_w, to_logvar = -(eps * inverse + pull), eps.square() - 1
            values = (g * to_w, -g * to_w, g * to_logvar / 2, g * r * (1 - eps * total * inverse))
            for x, value in zip(out, values):
                x[at] = value.to(x.dtype)
        shape = ctx.saved_tensors[0].shape
        return *(x.view(shape) if need else None for x, need in zip(out, ctx.needs_input_grad)), None


def _residual(flat, at: Tensor, door: Door) -> tuple[Tensor, Tensor]:
    """u, and what eps is divided by sigma through: 1 in "unit", 1 / sigma in "scaled"."""
    w, mu, logvar, _ = flat
    difference, inverse = w[at].double() - mu[at].double(), torch.exp(-logvar[at].double() / 2)
    if door.shard.coupling == "unit":
        return difference * inverse, torch.ones_like(inverse)
    return difference, inverse


def _noise_of(flat, at: Tensor, sets: Tensor, rho: _Rho, total: Tensor, door: Door):
    """rho, u, the inverse of `_residual`, and eps of some rows."""
    u, inverse = _residual(flat, at, door)
    r = rho.of(flat[3][at], sets)
    return r, u, inverse, (u + r * total[sets]) * inverse
