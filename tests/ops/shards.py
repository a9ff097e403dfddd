"""Cases whose sets are cut over ranks, all of them in this process: what the kernels of each rank make of its shard is
joined as compvae_fast.distributed joins it, and judged as the operation on the whole sets is."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from types import ModuleType
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from compvae_fast import backends
from compvae_fast.distributed import joint
from compvae_fast.reference.shards import PARTS_STATE, POSTERIOR_STATE, Shard

from .conformity import Case, label, make, variants
from .sets import Sizes

VARIANTS = [v for v in variants()
            if v[0] in ("posterior_sum_and_kl", "correlated_normal_rsample", "correlated_normal_log_prob")]

EACH = pytest.mark.parametrize("index", range(len(VARIANTS)), ids=[label(v) for v in VARIANTS])


class Together(NamedTuple):
    """The wire between ranks whose values are all here already."""

    values: list[Tensor]
    rank: int = 0

    @property
    def size(self) -> int:
        return len(self.values)

    def gathered(self, own: Tensor) -> Tensor:
        return torch.stack(self.values)


@dataclass
class ShardedCase(Case):
    """A case whose sets are cut into four shards, of half of the parts, none, most of the others, and the rest."""

    def call(self, layout: str, wide: bool = False):
        if wide:
            return super().call(layout, wide)
        ranks = self._ranks()
        shards = [self._shard(rows, sizes, before, layout) for rows, sizes, before in ranks]
        sizes = torch.stack([torch.tensor(sizes.sizes) for _, sizes, _ in ranks]).to(self.device)
        upstream = [self._of_ranks(u, kind, ranks, layout)
                    for u, kind in zip(self.upstream(), self.operation.outputs)]
        outputs, gradients = getattr(self, f"_{self.operation.name}")(shards, sizes, *upstream)
        found = [self._whole(o, ranks, layout) if kind == "parts" else o[0].cpu()
                 for o, kind in zip(outputs, self.operation.outputs)]
        parts = [o for o, kind in zip(outputs, self.operation.outputs) if kind == "parts"]
        padding = [sizes.padding_of(x[rank].cpu(), layout) for x in (*parts, *zip(*gradients))
                   for rank, (_, sizes, _) in enumerate(ranks)]
        return found, [self._whole(g, ranks, layout) for g in zip(*gradients)], padding

    def _ranks(self) -> list[tuple[Tensor, Sizes, Tensor]]:
        """Each rank's rows of the whole sets, its sizes, and how many parts the ranks before it have."""
        total = torch.tensor(self.sizes.sizes)
        cuts = torch.stack([0 * total, total // 2, total // 2, total - total // 8, total])
        place = torch.arange(self.sizes.rows) - self.sizes.offsets[self.sizes.owner]
        return [(torch.nonzero((place >= first[self.sizes.owner]) & (place < last[self.sizes.owner])).flatten(),
                 Sizes(tuple((last - first).tolist())), first) for first, last in zip(cuts, cuts[1:])]

    def _shard(self, rows: Tensor, sizes: Sizes, before: Tensor, layout: str) -> tuple[tuple[Tensor, ...], Shard]:
        def there(x):
            return None if x is None else x.to(self.device)

        kinds = sizes.keywords(layout)
        start = before + self.keywords.get("part_start", 0)
        shard = Shard(there(kinds.get("offsets")), there(kinds.get("lengths")), self.keywords["coupling"],
                      there(torch.tensor(self.keywords.get("seed", 0))), there(self.keywords.get("set_index")),
                      there(start), there(torch.tensor(self.sizes.sizes)))
        return tuple(there(sizes.laid_out(x[rows], layout)) for x in self.rows.values()), shard

    def _of_ranks(self, upstream: Tensor, kind: str, ranks, layout: str) -> list[Tensor]:
        first = next(iter(self.rows.values())).dtype
        wide = torch.float64 if first == torch.float64 else torch.float32
        if kind == "parts":
            return [sizes.laid_out(upstream[rows].to(first), layout).to(self.device) for rows, sizes, _ in ranks]
        return [upstream.to(wide).to(self.device)] * len(ranks)

    def _whole(self, of_ranks, ranks, layout: str) -> Tensor:
        """Ragged rows of the whole sets out of what each rank has."""
        of_ranks = [x.cpu() for x in of_ranks]
        out = of_ranks[0].new_empty(self.sizes.rows, of_ranks[0].shape[-1])
        for x, (rows, sizes, _) in zip(of_ranks, ranks):
            out[rows] = sizes.rows_of(x, layout)
        return out

    def _kernels(self) -> ModuleType:
        name = {"posterior_sum_and_kl": "posterior_shard"}.get(self.operation.name, f"{self.operation.name}_shard")
        return backends.implementation(backends.resolve(name, self.device), name)

    # Each returns its outputs, one for each rank, and the ranks' gradients.

    def _posterior_sum_and_kl(self, shards, sizes, grad_w, grad_kl):
        kernels, coupling = self._kernels(), self.keywords["coupling"]
        states = [kernels.forward(*shard) for shard in shards]
        state = joint.joined(Together(states), POSTERIOR_STATE[coupling], states[0], sizes, coupling)
        w_sum, kl, stats = joint.finished_posterior(state, sizes.sum(0), coupling)
        gradients = [kernels.backward(gw, gk, *shard, stats, [True] * 5)
                     for shard, gw, gk in zip(shards, grad_w, grad_kl)]
        return ([w_sum.to(grad_w[0].dtype)], [kl.to(grad_kl[0].dtype)]), gradients

    def _correlated_normal_rsample(self, shards, sizes, grad_w, grad_log_q):
        kernels, coupling = self._kernels(), self.keywords["coupling"]
        has_density = self.keywords.get("with_log_prob", False)
        states = [kernels.sums(*shard, has_density) for shard in shards]
        state = joint.joined(Together(states), PARTS_STATE[: len(states[0])], states[0], sizes, coupling)
        stats, log_q = joint.finished_parts(state, sizes.sum(0), coupling)
        w = [kernels.sample(*shard, stats) for shard in shards]
        shares = [kernels.centre(g, *shard, stats) for g, shard in zip(grad_w, shards)]
        centre = joint.centred(Together(shares), shares[0])
        gradients = [kernels.backward(g, gq if has_density else None, *shard, stats, centre, [True] * 3)
                     for shard, g, gq in zip(shards, grad_w, grad_log_q)]
        return (w, [log_q.to(grad_log_q[0].dtype)]) if has_density else (w,), gradients

    def _correlated_normal_log_prob(self, shards, sizes, grad):
        kernels = self._kernels()
        sums = [kernels.sums(*shard) for shard in shards]
        stats, log_total = joint.joined_density(torch.stack(sums))
        squares = torch.stack([kernels.squares(*shard, stats) for shard in shards]).sum(0)
        density, stats = joint.finished_density(stats, log_total, squares, sizes.sum(0))
        gradients = [kernels.backward(g, *shard, stats, [True] * 4) for g, shard in zip(grad, shards)]
        return ([density.to(grad[0].dtype)],), gradients


@functools.cache
def prepared(index: int, sizes, dtypes, **keywords) -> tuple[Case, list[Tensor], list[Tensor]]:
    """A case on shards, and what the reference makes of the whole sets in float64."""
    case = ShardedCase(**vars(make(VARIANTS[index], sizes, dtypes, **keywords)))
    return case, *case.expected()


def wrong_lengths(backend: str, coupling: str) -> None:
    """The set with a wrong length is NaN in all that a shard's kernels give, and a later call tells of it."""
    x = torch.randn(5, 3, 3, 8, generator=torch.Generator().manual_seed(0)).unbind()
    shard = Shard(None, torch.tensor([2, 4, 1]), coupling, torch.tensor(1), None, torch.tensor([0, 5, 0]),
                  torch.tensor([3, 3, 3]))
    posterior, sample, density = (backends.implementation(backend, f"{name}_shard") for name in
                                  ("posterior", "correlated_normal_rsample", "correlated_normal_log_prob"))
    stats, centre, number = torch.ones(11, 3, 8), torch.ones(2, 3, 8, dtype=torch.float64), torch.ones(3)
    for call, rows in ((lambda: posterior.forward(x, shard), len(POSTERIOR_STATE[coupling])),
                       (lambda: sample.sums(x[:3], shard, False), 5),
                       (lambda: sample.sums(x[:3], shard, True), 6),
                       (lambda: sample.centre(x[3], x[:3], shard, stats[:6]), 3),
                       (lambda: density.sums(x[:4], shard), 3),
                       (lambda: density.squares(x[:4], shard, stats[:3].double()), 2),
                       (lambda: sample.sample(x[:3], shard, stats[:6])[None], 1),
                       (lambda: posterior.backward(x[0][:, 0], number, x, shard, stats, [True] * 5), 5),
                       (lambda: sample.backward(x[3], number, x[:3], shard, stats[:6], centre, [True] * 3), 3),
                       (lambda: density.backward(number, x[:4], shard, stats[:4].double(), [True] * 4), 4)):
        found = call()
        assert len(found) == rows and all(f[1].isnan().all() and not f[::2].isnan().any() for f in found)
        with pytest.raises(ValueError, match="^lengths: expected .* got 4"):
            call()
