// Shards of sets whose parts are spread over processes: what their kernels share.
// compvae_fast/distributed/joint.py says how shards are joined.
#pragma once
#include "multiset.h"

namespace compvae {
namespace gpu {

// The first numbers of a thing with visit(f), as many as there are rows.
template <class Thing>
__device__ __forceinline__ void store_rows(const ShardRows& rows, const Sets& s, const Place& p, Thing (&things)[QUAD]) {
#pragma unroll
    for (int j = 0; j < QUAD; ++j) {
        if (j >= p.width) continue;
        double* at = rows.data + p.slot.set * s.width + p.coordinate + j;
        int row = 0;
        things[j].visit([&](auto& x) {
            if (row < rows.count) at[row * s.count * s.width] = double(x);
            ++row;
        });
    }
}

// A shard's sums over its parts: of posterior_sum_and_kl with KL, else of draws of parts.
template <class T, Coupling C, bool KL, Access A>
struct ShardSums : Call {
    static constexpr int PHASES = 1, BLOCKS = blocks_for<T>(KL && C == Coupling::unit ? 2 : 3);
    static constexpr bool APPLIES = false, NUMBERS = false;
    template <int>
    using State = SetSums<T, C, KL, true, KL, !KL>;
    struct Kept {};

    Posterior in;
    ShardRows state;

    ShardSums(const Launch& launch, const Sets& s, const Posterior& in, const ShardRows& state)
        : Call(launch, s), in(in), state(state) {}

    __device__ void pad(const Place&) const {}
    template <int>
    __device__ __forceinline__ void reduce(const Place& p, Kept (&)[QUAD], int64_t begin, int64_t end, State<0> (&sums)[QUAD]) const {
        const Noise<T> noise(sets, p);
        sum_chunk(PosteriorRows<T, A>(in, p), &noise, begin, end, sums);
    }
    template <int>
    __device__ __forceinline__ void finish(const Place& p, Kept (&)[QUAD], State<0> (&sums)[QUAD], double&) const {
        store_rows(state, sets, p, sums);
    }
};

template <bool KL>
Status shard_sums(const Launch& launch, const Sets& s, const Posterior& in, const ShardRows& state, Options options) {
    const Tensor* tensors[] = {&in.mu_q, &in.logvar_q, &in.rho_logits, &in.mu_p, &in.logvar_p};
    return by_type(options, tensors, s.width, [&](auto zero, auto coupling, auto access) {
        return run(launch, ShardSums<decltype(zero), decltype(coupling)::value, KL, decltype(access)::value>(launch, s, in, state));
    });
}

}  // namespace gpu
}  // namespace compvae
