// One shard of sets whose parts are spread over processes: what it adds to the joint sums.
// compvae_fast/distributed/joint.py says how shards are joined; given the joint stats, posterior_sum_and_kl_backward
// makes a shard's gradients.
#include "multiset.h"

namespace compvae {
namespace COMPVAE_ISA {

void posterior_shard_forward(const Sets& sets, const Posterior& in, double* state, Options options) {
    by_type_and_coupling(options, [&](auto zero, auto coupling) {
        using Sums = SetSums<decltype(zero), decltype(coupling)::value, true, true, true, false>;
        struct Worker {
            Sums sums;
            typename Sums::Chunk chunk;
        };
        for_each_place<Worker>(sets, [&](Worker& worker, const Place& place, int64_t) {
            worker.sums.run(sets, place, in, worker.chunk);
            worker.sums.write_state(sets, place, state);
        });
    });
}

}  // namespace COMPVAE_ISA
}  // namespace compvae
