"""Every CUDA kernel once, on small sets of odd shapes: what compute-sanitizer watches."""

import torch

from compvae_fast import backends, ops, random, use_backend
from compvae_fast.distributed.joint import finished_density, finished_parts, finished_posterior, joined_density
from compvae_fast.reference.shards import PARTS_STATE, POSTERIOR_STATE, Shard, named

SIZES = ([5, 0, 33, 1, 70], [1100, 2])
KINDS = ((torch.float32, 64), (torch.float32, 67), (torch.bfloat16, 64), (torch.float64, 5))


def main(device: str = "cuda") -> None:
    torch.manual_seed(0)
    with use_backend("cuda"):
        for sizes in SIZES:
            offsets = torch.tensor([0, *torch.tensor(sizes).cumsum(0).tolist()], device=device)
            for dtype, width in KINDS:
                exercise(sum(sizes), width, dtype, offsets)
        place = torch.arange(300, device=device)
        random.normal(1, place, place, place), random.uniform(1, place, place, place)
    if device == "cuda":
        torch.cuda.synchronize()
    print("every kernel ran")


def exercise(rows: int, width: int, dtype: torch.dtype, offsets: torch.Tensor) -> None:
    def part(*shape):
        return torch.randn(shape or (rows, width), device=offsets.device).to(dtype).requires_grad_()

    q, p, sets = [part() for _ in range(3)], [part() for _ in range(2)], {"offsets": offsets}
    results = []
    for coupling in ("unit", "scaled"):
        how = {**sets, "coupling": coupling}
        results += [*ops.posterior_sum_and_kl(*q, *p, **how), ops.multiset_kl(*q, *p, **how)]
        for path in (False, True):
            results += ops.posterior_sum_and_log_ratio(*q, *p, path=path, **how)
        results += ops.correlated_normal_rsample(*q, with_log_prob=True, **how)
        results.append(ops.correlated_normal_log_prob(p[0], *q, **how))
        counts, seed = offsets.diff(), torch.tensor(1, device=offsets.device)
        shard = Shard(offsets, None, coupling, seed, None, torch.zeros_like(counts), counts)
        exercise_shard("cuda", [x.detach() for x in (*q, *p)], shard)
    results += [ops.sum_minus_self(q[0], pre="elu", post="tanh", **sets), *ops.product_of_experts(q[0], q[1], **sets)]
    labels, tables = torch.randint(0, 3, (rows,), device=offsets.device), [part(3, width), part(3, width)]
    results += [ops.prior_sum(labels, *tables, collapse=collapse, **sets) for collapse in (False, True)]
    results += [ops.diag_normal_kl(q[0], q[1], *p), ops.gaussian_nll(*q)]
    results.append(ops.discretized_logistic_nll(q[0].sigmoid(), *p))
    sum(r.float().sum() for r in results).backward()


def exercise_shard(backend: str, inputs: list[torch.Tensor], shard: Shard) -> None:
    """A backend's kernels of shards, of one that holds the whole sets."""
    posterior, sample, density = (backends.implementation(backend, f"{name}_shard") for name in
                                  ("posterior", "correlated_normal_rsample", "correlated_normal_log_prob"))
    every, q, coupling, counts = tuple(inputs), tuple(inputs[:3]), shard.coupling, shard.counts
    state = named(POSTERIOR_STATE[coupling], posterior.forward(every, shard))
    w_sum, kl, stats = finished_posterior(state, counts, coupling)
    posterior.backward(w_sum, kl, every, shard, stats, [True] * 5)
    stats, log_q = finished_parts(named(PARTS_STATE, sample.sums(q, shard, True)), counts, coupling)
    w = sample.sample(q, shard, stats)
    centre = sample.centre(w, q, shard, stats)
    sample.backward(w, log_q, q, shard, stats, centre[:2], [True] * 3)
    stats, log_total = joined_density(density.sums((w, *q), shard)[None])
    log_q, stats = finished_density(stats, log_total, density.squares((w, *q), shard, stats), counts)
    density.backward(log_q, (w, *q), shard, stats, [True] * 4)


if __name__ == "__main__":
    main()
