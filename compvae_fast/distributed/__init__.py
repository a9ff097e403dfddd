"""Operations on sets whose parts are spread over the processes of a torch.distributed group.

Each rank passes its own parts of every set, in the order of the ranks, and any number of them: what goes over the wire
are sums over the sets, O(B D) however many parts there are. Results equal those of the operation of the same name in
`compvae_fast.ops` on the whole sets, to rounding, with the same noise. What all ranks hold alike (w~, a KL, tables)
comes out the same on all of them, and its gradients are taken to be the same on all of them: every rank computes the
same loss, and gets its own parts' gradients, which are those of the unsharded computation.

    torch.distributed.init_process_group("gloo")  # or "nccl"; torchrun starts the processes
    w_sum, kl = distributed.posterior_sum_and_kl(mu_q, logvar_q, logits, mu_p, logvar_p, seed=1)
"""

from compvae_fast.distributed.parts import correlated_normal_log_prob, correlated_normal_rsample
from compvae_fast.distributed.posterior import posterior_sum_and_kl
from compvae_fast.distributed.sets import ShardedSets
from compvae_fast.distributed.sums import graph_block, prior_sum, sum_gradients, sum_minus_self, total
from compvae_fast.distributed.wire import Traffic, traffic

__all__ = [
    "ShardedSets",
    "Traffic",
    "correlated_normal_log_prob",
    "correlated_normal_rsample",
    "graph_block",
    "posterior_sum_and_kl",
    "prior_sum",
    "sum_gradients",
    "sum_minus_self",
    "total",
    "traffic",
]
