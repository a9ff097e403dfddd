"""What each rank of the pool checks: its shard of an operation against the same on whole sets."""

from __future__ import annotations

import contextlib
import dataclasses
from unittest import mock

import emulation
import torch
from training.tiny import tiny_config

import compvae_fast
from compvae_fast import distributed, ops
from compvae_fast.distributed import joint
from compvae_fast.distributions import CorrelatedNormal
from compvae_fast.nn import GraphBlock, Sets
from compvae_fast.training.loop import advance
from compvae_fast.training.processes import Grid
from compvae_fast.training.state import TrainingState

SEED = 11
# Parts of each of three sets on ranks 0..4: uneven, with empty shards, and a set that nobody has parts of.
SIZES = [[3, 0, 40], [0, 0, 1], [2, 0, 0], [1, 0, 33], [4, 0, 7]]


def sizes_of(ranks: int) -> list[list[int]]:
    return SIZES[:ranks]


def whole_parts(names, ranks: int, width: int, dtype: torch.dtype, extreme: bool):
    """Ragged whole sets [N, D] and their offsets, the same on every rank."""
    generator = torch.Generator().manual_seed(ranks)
    sizes = torch.tensor(sizes_of(ranks)).sum(0)
    offsets = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
    parts = {name: torch.randn(int(offsets[-1]), width, generator=generator) for name in names}
    if "rho_logits" in parts:
        parts["rho_logits"] = parts["rho_logits"] * (20 if extreme else 2) - 1
        parts["rho_logits"][0] = -torch.inf
    for name in parts:
        if name.startswith("logvar") and extreme:
            parts[name] = parts[name] * 3
    return {name: value.to(dtype) for name, value in parts.items()}, offsets


def rows_of(rank: int, ranks: int, offsets) -> tuple[torch.Tensor, torch.Tensor]:
    """The rows of the whole sets that a rank has, and the offsets of its shard."""
    sizes = torch.tensor(sizes_of(ranks))
    before = sizes[:rank].sum(0)
    rows = [torch.arange(int(n)) + offsets[b] + before[b] for b, n in enumerate(sizes[rank])]
    return torch.cat(rows), torch.cat([torch.zeros(1, dtype=torch.int64), sizes[rank].cumsum(0)])


def close(found, expected, tolerance: float, name: str) -> None:
    scale = expected.double().norm().clamp(min=1)
    error = (found.double() - expected.double()).norm() / scale
    assert found.shape == expected.shape and found.dtype == expected.dtype, (name, found.shape, expected.shape)
    assert error <= tolerance, f"{name}: {error:.2e} beyond {tolerance:.0e}"


def compare(groups, rank: int, operation: str, names: list[str], ranks: int, dtype: str = "float64", width: int = 70,
            extreme: bool = False, backend: str | None = None, gathered: int = joint.GATHERED,
            negated: bool = False, **options) -> dict:
    """Values and gradients of an operation on shards against the same on whole sets.

    gathered: states of so many bytes are sent to every rank. negated: the memory of inputs, and of the gradients of
    outputs, holds the negatives of their numbers.
    """
    if rank >= ranks:
        return {}
    kind = getattr(torch, dtype)
    tolerance = {"float64": 1e-12, "float32": 3e-6, "bfloat16": 1e-2}[dtype]
    whole, offsets = whole_parts(names, ranks, width, kind, extreme)
    rows, own_offsets = rows_of(rank, ranks, offsets)
    if operation not in ("sum_minus_self", "correlated_normal_log_prob"):
        where = {"set_index": torch.tensor([5, 0, 2**40]), "part_start": torch.tensor([3, 0, 1])}
        options = {**options, **where, "seed": SEED}
    leaves = {name: value.clone().requires_grad_() for name, value in whole.items()}
    expected = _tuple(getattr(ops, operation)(*leaves.values(), offsets=offsets, **options))
    weights = [torch.randn(out.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(i)).to(out.dtype)
               for i, out in enumerate(expected)]
    sum((out * weight).sum() for out, weight in zip(expected, weights)).backward()

    shard = {name: value[rows].clone().requires_grad_() for name, value in whole.items()}
    with _chosen(backend), mock.patch.object(joint, "GATHERED", gathered):
        with distributed.traffic() as sent:
            inputs = [torch._neg_view(-value) if negated else value for value in shard.values()]
            found = _tuple(getattr(distributed, operation)(
                *inputs, group=groups[ranks], offsets=own_offsets, **options))
            of_parts = [other.dim() == 2 and len(other) == offsets[-1] for other in expected]  # N is none of 3 sets
            mine = [weight[rows] if of_part else weight for weight, of_part in zip(weights, of_parts)]
            sum((torch._neg_view(out) * -weight if negated else out * weight).sum()
                for out, weight in zip(found, mine)).backward()
    for i, (out, other, of_part) in enumerate(zip(found, expected, of_parts)):
        close(out, other[rows] if of_part else other, tolerance, f"output {i}")
    all_of_them = torch.stack([leaf.grad.double().norm() for leaf in leaves.values()]).norm().item()
    for name, leaf in shard.items():
        expected_grad = leaves[name].grad[rows]
        error = (leaf.grad.double() - expected_grad.double()).norm().item()
        bound = tolerance * 10 * (leaves[name].grad.double().norm().item() + 0.01 * all_of_them) + 1e-30
        assert leaf.grad.dtype == leaf.dtype and error <= bound, f"gradient of {name}: {error:.2e} beyond {bound:.2e}"
    return {"bytes": sent.bytes, "calls": sent.calls}


def _chosen(backend: str | None):
    if backend == "cuda":
        return emulation.emulated()
    if backend == "triton":
        from tests.kernels import interpreter  # which imports Triton

        interpreter.improve()
    return contextlib.nullcontext() if backend is None else compvae_fast.use_backend(backend)


def _tuple(outputs):
    return outputs if isinstance(outputs, tuple) else (outputs,)


def keeps_the_promised_digits(groups, rank: int, ranks: int, coupling: str, largest: float) -> None:
    """float32 shards against float64 of the same inputs, where one rank alone has a part of large logit."""
    if rank >= ranks:
        return
    names = ["mu_q", "logvar_q", "rho_logits", "mu_p", "logvar_p"]
    whole, offsets = whole_parts(names, ranks, 70, torch.float32, False)
    whole["logvar_q"] = whole["logvar_q"] * 3
    whole["rho_logits"][5] = largest
    whole["mu_q"] = torch.zeros_like(whole["mu_q"])
    exact = {name: value.double().requires_grad_() for name, value in whole.items()}
    rows, own_offsets = rows_of(rank, ranks, offsets)
    shard = {name: value[rows].clone().requires_grad_() for name, value in whole.items()}
    w_sum, kl = ops.posterior_sum_and_kl(*exact.values(), offsets=offsets, coupling=coupling, seed=SEED)
    (w_sum.sum() + kl.sum()).backward()
    found = distributed.posterior_sum_and_kl(*shard.values(), group=groups[ranks], offsets=own_offsets,
                                             coupling=coupling, seed=SEED)
    (found[0].sum() + found[1].sum()).backward()
    first = slice(0, int(offsets[1]))
    q = CorrelatedNormal(*(exact[n][None, first].detach() for n in ("mu_q",)),
                         (exact["logvar_q"][None, first].detach() / 2).exp(), exact["rho_logits"][None, first].detach(),
                         coupling=coupling)
    deviation = q.sum_distribution().stddev[0]
    assert ((found[0][0] - w_sum[0]).abs() / deviation).max() < 1e-4
    assert ((found[1] - kl).abs() <= 1e-5 * kl.abs().clamp(min=1)).all()
    all_of_them = torch.stack([leaf.grad.norm() for leaf in exact.values()]).norm()
    for name, leaf in shard.items():
        error = (leaf.grad.double() - exact[name].grad[rows]).norm()
        assert error <= 1e-4 * exact[name].grad.norm() + 1e-6 * all_of_them, name


def layouts(groups, rank: int, ranks: int) -> None:
    """Dense, padded and ragged shards are the same numbers."""
    if rank >= ranks:
        return
    sizes = torch.tensor(sizes_of(ranks))[rank]
    parts = [torch.randn(3, int(sizes.max()) + 1, 8, generator=torch.Generator().manual_seed(rank * 9 + i)).double()
             for i in range(5)]
    group = groups[ranks]
    there = torch.arange(parts[0].shape[1]) < sizes[:, None]
    ragged = [x[there] for x in parts]
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), sizes.cumsum(0)])
    one = distributed.posterior_sum_and_kl(*parts, lengths=sizes, group=group, seed=1)
    other = distributed.posterior_sum_and_kl(*ragged, offsets=offsets, group=group, seed=1)
    for a, b in zip(one, other):
        close(a, b, 1e-13, "posterior")
    for run in (lambda x, **k: distributed.sum_minus_self(x[0], post="tanh", reduce="mean", group=group, **k),
                lambda x, **k: distributed.correlated_normal_rsample(*x[:3], seed=1, group=group, **k)):
        padded, flat = run(parts, lengths=sizes), run(ragged, offsets=offsets)
        close(padded[there], flat, 1e-13, "parts")
        assert not padded[~there].any()
    dense = distributed.correlated_normal_log_prob(*parts[:4], group=group)
    shape = parts[0].shape
    flat = distributed.correlated_normal_log_prob(
        *(x.reshape(-1, 8) for x in parts[:4]), offsets=torch.arange(4) * shape[1], group=group)
    close(dense, flat, 1e-13, "density")


def prior_sums(groups, rank: int, ranks: int) -> None:
    if rank >= ranks:
        return
    whole, offsets = whole_parts(["x"], ranks, 1, torch.float64, False)
    labels = (whole["x"][:, 0].abs() * 10).long() % 4
    rows, own_offsets = rows_of(rank, ranks, offsets)
    tables = torch.randn(2, 4, 70, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).unbind()
    ours, theirs = ([t.clone().requires_grad_() for t in tables] for _ in range(2))
    draw = {"seed": SEED, "part_start": torch.tensor([3, 0, 1])}
    expected = ops.prior_sum(labels, *theirs, offsets=offsets, **draw)
    found = distributed.prior_sum(labels[rows], *ours, offsets=own_offsets, group=groups[ranks], **draw)
    expected.square().sum().backward()
    found.square().sum().backward()
    close(found, expected, 1e-12, "w~")
    for a, b in zip(ours, theirs):
        close(a.grad, b.grad, 1e-12, "the gradient of a table")


def blocks(groups, rank: int, ranks: int) -> None:
    """GraphBlock, its weights' gradients included."""
    if rank >= ranks:
        return
    whole, offsets = whole_parts(["h"], ranks, 6, torch.float64, False)
    rows, own_offsets = rows_of(rank, ranks, offsets)
    for options in ({}, {"released": True}, {"reduce": "mean", "context": 2}):
        torch.manual_seed(0)
        block = GraphBlock(6, 4, **options).double()
        context = {"context": torch.ones(3, 2).double()} if "context" in options else {}
        h = whole["h"].clone().requires_grad_()
        block(h, offsets=offsets, **context).square().sum().backward()
        expected = {name: p.grad.clone() for name, p in block.named_parameters()}
        block.zero_grad()
        mine = whole["h"][rows].clone().requires_grad_()
        out = distributed.graph_block(block, mine, offsets=own_offsets, group=groups[ranks], **context)
        out.square().sum().backward()
        close(mine.grad, h.grad[rows], 1e-12, "the gradient of the states")
        for name, p in block.named_parameters():
            close(p.grad, expected[name], 1e-12, name)
        # the same by the layout, as models have it: gradients add up over the ranks
        block.zero_grad()
        labels = torch.zeros(len(rows), dtype=torch.int64)
        sets = distributed.ShardedSets.of_shard(labels, own_offsets, group=groups[ranks])
        everyone = Sets.of(torch.zeros(int(offsets[-1])), offsets).positions(int(offsets[-1]))
        assert all(torch.equal(here, there[rows]) for here, there in zip(sets.positions(len(rows)), everyone))
        again = block(whole["h"][rows], sets=sets, **context)
        close(again, out, 1e-13, "states by the layout")
        again.square().sum().backward()
        for name, p in block.named_parameters():
            close(distributed.total(p.grad, groups[ranks]), expected[name], 1e-12, name)


def bytes_sent(groups, rank: int) -> list[int]:
    """Bytes of forward and backward for few and for many parts, B = 2, D = 64."""
    sent = []
    for parts in (3, 3000):
        x = [torch.randn(2, parts, 64, requires_grad=True) for _ in range(5)]
        with distributed.traffic() as posterior:
            w_sum, kl = distributed.posterior_sum_and_kl(*x, seed=1, group=groups[2]) if rank < 2 else (x[0], x[1])
            (w_sum.sum() + kl.sum()).backward()
        with distributed.traffic() as aggregate:
            if rank < 2:
                distributed.sum_minus_self(x[0], post="tanh", group=groups[2]).sum().backward()
        with distributed.traffic() as parts_drawn:
            if rank < 2:
                distributed.correlated_normal_rsample(*x[:3], seed=1, group=groups[2]).sum().backward()
        sent += [posterior.bytes, aggregate.bytes, parts_drawn.bytes]
    return sent


def disagreements(groups, rank: int) -> list[str]:
    """What two ranks are told when they call with arguments that do not fit together."""
    if rank > 1:
        return []
    told = []

    def call(width=8, sets=2, dtype=torch.float32, operation="posterior_sum_and_kl", **options):
        x = [torch.zeros(sets, 3, width, dtype=dtype) for _ in range(5)]
        try:
            if operation == "sum_minus_self":
                distributed.sum_minus_self(x[0], group=groups[2])
            else:
                distributed.posterior_sum_and_kl(*x, group=groups[2], **options)
            told.append("nothing")
        except Exception as error:
            told.append(f"{type(error).__name__}: {error}")

    other = rank == 1
    call(width=9 if other else 8, seed=1)
    call(sets=3 if other else 2, seed=1)
    call(dtype=torch.float64 if other else torch.float32, seed=1)
    call(seed=2 if other else 1)
    call(coupling="unit" if other else "scaled", seed=1)
    call(set_index=torch.tensor([0, 2 if other else 1]), seed=1)
    call(seed="x" if other else 1)
    call(operation="sum_minus_self" if other else "posterior_sum_and_kl", seed=1)
    torch.manual_seed(rank)
    x = [torch.ones(2, 3, 8) for _ in range(3)]
    w = distributed.correlated_normal_rsample(*x, group=groups[2])  # a seed of each rank's own would not agree
    told.append(str(w.shape))
    return told


def dtensors(groups, rank: int, size: int) -> None:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

    mesh = DeviceMesh("cpu", list(range(size)))
    whole = [torch.randn(2, 7, 8, generator=torch.Generator().manual_seed(i)).double() for i in range(5)]
    plain = [x.clone().requires_grad_() for x in whole]
    w_sum, kl = ops.posterior_sum_and_kl(*plain, seed=1)
    (w_sum.sum() + kl.sum()).backward()
    spread = [distribute_tensor(x, mesh, [Shard(1)]).requires_grad_() for x in whole]
    found = distributed.posterior_sum_and_kl(*spread, seed=1)
    assert all(isinstance(x, DTensor) and x.placements == (Replicate(),) for x in found)
    (found[0].to_local().sum() + found[1].to_local().sum()).backward()
    close(found[0].full_tensor(), w_sum, 1e-12, "w~")
    for x, y in zip(spread, plain):
        close(x.grad.full_tensor(), y.grad, 1e-12, "gradient")
    w = distributed.correlated_normal_rsample(*spread[:3], seed=1)
    assert w.placements == (Shard(1),) and w.shape == (2, 7, 8)
    close(w.full_tensor(), ops.correlated_normal_rsample(*plain[:3], seed=1), 1e-12, "w")
    try:
        distributed.sum_minus_self(distribute_tensor(whole[0], mesh, [Shard(2)]))
    except ValueError as error:
        assert "h: expected [B, K, D] with placements [Shard(1)]" in str(error)
    else:
        raise AssertionError("a DTensor sharded along D was taken")


def trained_steps(groups, rank: int, set_parallel: int, steps: int) -> None:
    """A few steps of a grid of processes against the same steps of one: weights, and the rows of the log."""
    config = _configuration()
    state, alone = TrainingState(config, Grid(set_parallel)), TrainingState(config)
    for _ in range(steps):
        advance(state)
        if rank == 0:
            advance(alone)
    if rank == 0:
        assert alone.skipped == state.skipped == 0
        torch.testing.assert_close(state.sums, alone.sums, rtol=1e-5, atol=1e-5)
        for (name, p), q in zip(state.model.named_parameters(), alone.model.parameters()):
            assert torch.isfinite(p).all()
            # one step of Adam is of size lr, whatever the gradient: the steps add up alike where gradients are
            torch.testing.assert_close(p.grad, q.grad, rtol=1e-3, atol=1e-4 * q.grad.abs().max().item(), msg=name)


def _configuration():
    config = tiny_config()
    model = dataclasses.replace(config.model, generation_from=0.0, generation_weight=1.0, generation_sets=5)
    recipe = dataclasses.replace(config.recipe, batch=7, clip=None)  # clipped gradients forget their scale
    return dataclasses.replace(config, model=model, recipe=recipe)
