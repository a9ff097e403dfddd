// Draws of parts and their gradients, of whole sets.
#pragma once
#include "part_noise.h"

namespace compvae {
namespace gpu {

template <class T, Coupling C, Access A>
struct Sample : Call {
    using S = Stats<C, false, true>;
    static constexpr int PHASES = 1, BLOCKS = blocks_for<T>(3);
    static constexpr bool APPLIES = true, NUMBERS = true;
    template <int>
    using State = SetSums<T, C, false, true, false, true>;
    using Kept = PartStats<T, C>;

    Posterior in;
    Tensor w, numbers;
    T* stats;

    Sample(const Launch& launch, const Sets& s, const Posterior& in, const Tensor& w, const Tensor& log_density, void* stats)
        : Call(launch, s), in(in), w(w), numbers(log_density), stats(static_cast<T*>(stats)) {}

    __device__ void pad(const Place& p) const { pad_rows<T, A>({&w}, p); }
    template <int>
    __device__ __forceinline__ void reduce(const Place& p, Kept (&)[QUAD], int64_t begin, int64_t end, State<0> (&state)[QUAD]) const {
        const Noise<T> noise(sets, p);
        sum_chunk(PosteriorRows<T, A>(in, p), &noise, begin, end, state);
    }
    template <int>
    __device__ __forceinline__ void finish(const Place& p, Kept (&kept)[QUAD], State<0> (&state)[QUAD], double& number) const {
        T v[QUAD][S::COUNT];
#pragma unroll
        for (int j = 0; j < QUAD; ++j) {
            const SetResult<T> result = finish_sums(state[j], p.slot.size, v[j]);
            if (j < p.width) number += result.density - 0.5 * LOG_2_PI * double(p.slot.size);
#pragma unroll
            for (int i = 0; i < S::COUNT; ++i) kept[j].v[i] = v[j][i];
        }
        store_stats(stats, sets, p, v);
    }
    __device__ __forceinline__ void apply(const Place& p, Kept (&kept)[QUAD], int64_t begin, int64_t end) const {
        const PosteriorRows<T, A> rows(in, p);
        const Rows<T, A> out(w, p.slot.set, p.slot.row, p.coordinate, p.width);
        const Noise<T> noise(sets, p);
        rows.template over<3>(begin, end, [&](int64_t k, const auto& v) {
            T eps[QUAD], sample[QUAD];
            noise.draw(k, eps);
#pragma unroll
            for (int j = 0; j < QUAD; ++j)
                sample[j] = v[2][j] + kept[j].of_part(kept[j].rho(v[0][j]), exp(v[1][j] * T(0.5)), eps[j]);
            out.store(k, sample);
        });
    }
};

template <class T, Coupling C, Access A>
struct SampleGradient : Call {
    using S = Stats<C, false, true>;
    static constexpr bool unit = C == Coupling::unit;
    static constexpr int PHASES = 1, BLOCKS = blocks_for<T>(3);
    static constexpr bool APPLIES = true, NUMBERS = false;
    template <int>
    using State = Centred<T>;
    struct Kept {
        T reference, offset;
        template <class F>
        __device__ __forceinline__ void visit(F f) {
            f(reference), f(offset);
        }
    };

    Posterior in, grad;
    Tensor grad_w, grad_density;
    const T* stats;

    SampleGradient(const Launch& launch, const Sets& s, const Posterior& in, const Tensor& grad_w, const Tensor& grad_density,
                   const void* stats, const Posterior& grad)
        : Call(launch, s), in(in), grad(grad), grad_w(grad_w), grad_density(grad_density), stats(static_cast<const T*>(stats)) {}

    __device__ void pad(const Place& p) const { pad_rows<T, A>({&grad.mu_q, &grad.logvar_q, &grad.rho_logits}, p); }

    // f(k, logit, log-variance, upstream gradient)
    template <class F>
    __device__ __forceinline__ void over(const Place& p, int64_t begin, int64_t end, F f) const {
        const Slot& slot = p.slot;
        const Rows<T, A> logits(in.rho_logits, slot.set, slot.row, p.coordinate, p.width);
        const Rows<T, A> logvars(in.logvar_q, slot.set, slot.row, p.coordinate, p.width);
        const Rows<T, A> upstream(grad_w, slot.set, slot.row, p.coordinate, p.width);
        const Rows<T, A>* const rows[3] = {&logits, &logvars, &upstream};
        over_parts<T, A, 3>(rows, begin, end, f);
    }
    static __device__ __forceinline__ T weighted(T g, T sigma) { return unit ? rounded_product(g, sigma) : g; }

    template <int>
    __device__ __forceinline__ void reduce(const Place& p, Kept (&)[QUAD], int64_t begin, int64_t end, State<0> (&state)[QUAD]) const {
        PartStats<T, C> set[QUAD];
        load_set(stats, sets, p, set);
        CentredChunk<T> chunk[QUAD] = {};
        over(p, begin, end, [&](int64_t, const auto& v) {
#pragma unroll
            for (int j = 0; j < QUAD; ++j)
                chunk[j].add(set[j].rho(v[0][j]), weighted(v[2][j], unit ? exp(v[1][j] * T(0.5)) : T(0)));
        });
        for (int j = 0; j < QUAD; ++j) state[j] = chunk[j].centred();
    }
    template <int>
    __device__ __forceinline__ void finish(const Place& p, Kept (&kept)[QUAD], State<0> (&state)[QUAD], double&) const {
        PartStats<T, C> set[QUAD];
        load_set(stats, sets, p, set);
#pragma unroll
        for (int j = 0; j < QUAD; ++j) state[j].settle(set[j].rest_of_rho(), kept[j].reference, kept[j].offset);
    }
    __device__ __forceinline__ void apply(const Place& p, Kept (&kept)[QUAD], int64_t begin, int64_t end) const {
        PartStats<T, C> set[QUAD];
        load_set(stats, sets, p, set);
        const Noise<T> noise(sets, p);
        const T g_density = value_of_set<T>(grad_density, p.slot.set);
        const PosteriorRows<T, A> out(grad, p);
        over(p, begin, end, [&](int64_t k, const auto& v) {
            T eps[QUAD], to[3][QUAD];
            noise.draw(k, eps);
#pragma unroll
            for (int j = 0; j < QUAD; ++j) {
                const T g = v[2][j], sigma = exp(v[1][j] * T(0.5)), rho = set[j].rho(v[0][j]);
                const T centred = (weighted(g, sigma) - kept[j].reference) + kept[j].offset;
                const T to_logvar = unit ? g * set[j].of_part(rho, sigma, eps[j]) : sigma * eps[j] * centred;
                to[0][j] = g;
                to[1][j] = T(0.5) * (to_logvar - g_density);
                to[2][j] = rho * (g_density - set[j].noise() * centred);
            }
            out.mu_q.store(k, to[0]);
            out.logvar_q.store(k, to[1]);
            out.rho_logits.store(k, to[2]);
        });
    }
};

}  // namespace gpu
}  // namespace compvae
