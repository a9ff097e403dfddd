#include "samples.h"
#include "shards.h"

namespace compvae {
namespace gpu {
namespace {

// A shard's parts, given the joint stats.
template <class T, Coupling C, Access A>
struct ShardSample : Sample<T, C, A> {
    using Whole = Sample<T, C, A>;
    using typename Whole::Kept;
    static constexpr int PHASES = 0;
    static constexpr bool NUMBERS = false;

    ShardSample(const Launch& launch, const Sets& s, const Posterior& in, const Tensor& w, const void* stats)
        : Whole(launch, s, in, w, Tensor{}, const_cast<void*>(stats)) {}

    __device__ __forceinline__ void apply(const Place& p, Kept (&kept)[QUAD], int64_t begin, int64_t end) const {
        load_set<T, C>(this->stats, this->sets, p, kept);
        Whole::apply(p, kept, begin, end);
    }
};

// A shard's share of the centre of the upstream gradients: a_r, sum_j rho_j (a_j - a_r) and sum rho.
template <class T, Coupling C, Access A>
struct ShardCentre : SampleGradient<T, C, A> {
    using Whole = SampleGradient<T, C, A>;
    static constexpr bool APPLIES = false;
    using typename Whole::Kept;

    ShardRows centre;

    ShardCentre(const Launch& launch, const Sets& s, const Posterior& in, const Tensor& grad_w, const void* stats,
                const ShardRows& centre)
        : Whole(launch, s, in, grad_w, Tensor{}, stats, Posterior{}), centre(centre) {}

    template <int>
    __device__ __forceinline__ void finish(const Place& p, Kept (&)[QUAD], Centred<T> (&state)[QUAD], double&) const {
        store_rows(centre, this->sets, p, state);
    }
};

// A shard's gradients, given the joint stats and the first two rows of the joint centre.
template <class T, Coupling C, Access A>
struct ShardGradient : SampleGradient<T, C, A> {
    using Whole = SampleGradient<T, C, A>;
    using typename Whole::Kept;
    static constexpr int PHASES = 0;

    const double* centre;

    ShardGradient(const Launch& launch, const Sets& s, const Posterior& in, const Tensor& grad_w, const Tensor& grad_density,
                  const void* stats, const double* centre, const Posterior& grad)
        : Whole(launch, s, in, grad_w, grad_density, stats, grad), centre(centre) {}

    __device__ __forceinline__ void apply(const Place& p, Kept (&kept)[QUAD], int64_t begin, int64_t end) const {
        PartStats<T, C> set[QUAD];
        load_set(this->stats, this->sets, p, set);
        double rows[QUAD][2];
        load_stats(centre, this->sets, p, rows);
#pragma unroll
        for (int j = 0; j < QUAD; ++j) {
            const T reference = T(rows[j][0]);
            kept[j] = {reference, Centred<T>::offset_of(reference, rows[j][1], set[j].rest_of_rho())};
        }
        Whole::apply(p, kept, begin, end);
    }
};

}  // namespace

Status correlated_normal_rsample_shard_sums(const Launch& launch, const Sets& s, const Posterior& in, const ShardRows& state,
                                            Options options) {
    return shard_sums<false>(launch, s, in, state, options);
}

Status correlated_normal_rsample_shard_sample(const Launch& launch, const Sets& s, const Posterior& in, const Tensor& w,
                                              const void* stats, Options options) {
    const Tensor* tensors[] = {&in.mu_q, &in.logvar_q, &in.rho_logits, &w};
    return by_type(options, tensors, s.width, [&](auto zero, auto coupling, auto access) {
        return run(launch, ShardSample<decltype(zero), decltype(coupling)::value, decltype(access)::value>(launch, s, in, w, stats));
    });
}

Status correlated_normal_rsample_shard_centre(const Launch& launch, const Sets& s, const Posterior& in, const Tensor& grad_w,
                                              const void* stats, const ShardRows& centre, Options options) {
    const Tensor* tensors[] = {&in.logvar_q, &in.rho_logits, &grad_w};
    return by_type(options, tensors, s.width, [&](auto zero, auto coupling, auto access) {
        return run(launch, ShardCentre<decltype(zero), decltype(coupling)::value, decltype(access)::value>(launch, s, in, grad_w,
                                                                                                          stats, centre));
    });
}

Status correlated_normal_rsample_shard_backward(const Launch& launch, const Sets& s, const Posterior& in, const Tensor& grad_w,
                                                const Tensor& grad_log_density, const void* stats, const double* centre,
                                                const Posterior& grad, Options options) {
    const Tensor* tensors[] = {&in.mu_q,   &in.logvar_q,   &in.rho_logits,  &grad_w,
                               &grad.mu_q, &grad.logvar_q, &grad.rho_logits};
    return by_type(options, tensors, s.width, [&](auto zero, auto coupling, auto access) {
        return run(launch, ShardGradient<decltype(zero), decltype(coupling)::value, decltype(access)::value>(
                               launch, s, in, grad_w, grad_log_density, stats, centre, grad));
    });
}

}  // namespace gpu
}  // namespace compvae
