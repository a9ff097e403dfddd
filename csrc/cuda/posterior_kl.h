// The closed-form KL of the correlated Gaussian to the diagonal prior, with (DRAW) or without a draw of w~ in the
// same pass over the inputs: posterior_sum_and_kl and multiset_kl.
#pragma once
#include "multiset.h"

namespace compvae {
namespace gpu {

template <class T, Coupling C, bool DRAW, Access A>
struct PosteriorKl : Call {
    using S = Stats<C, true, DRAW>;
    static constexpr int PHASES = 1;
    static constexpr bool APPLIES = false, NUMBERS = true;
    static constexpr int BLOCKS = blocks_for<T>(C == Coupling::unit && DRAW ? 2 : 3);
    template <int>
    using State = SetSums<T, C, true, DRAW, DRAW, false>;
    struct Kept {
        template <class F>
        __device__ void visit(F) {}
    };

    Posterior in;
    Tensor w_sum, numbers;
    T* stats;

    PosteriorKl(const Launch& launch, const Sets& s, const Posterior& in, const Tensor& w_sum, const Tensor& kl, void* stats)
        : Call(launch, s), in(in), w_sum(w_sum), numbers(kl), stats(static_cast<T*>(stats)) {}

    __device__ void pad(const Place&) const {}
    template <int>
    __device__ __forceinline__ void reduce(const Place& p, Kept (&)[QUAD], int64_t begin, int64_t end, State<0> (&state)[QUAD]) const {
        const PosteriorRows<T, A> rows(in, p);
        if constexpr (DRAW) {
            const Noise<T> noise(sets, p);
            sum_chunk(rows, &noise, begin, end, state);
        } else {
            sum_chunk(rows, static_cast<const Noise<T>*>(nullptr), begin, end, state);
        }
    }
    template <int>
    __device__ __forceinline__ void finish(const Place& p, Kept (&)[QUAD], State<0> (&state)[QUAD], double& number) const {
        T kept[QUAD][S::COUNT], w[QUAD];
#pragma unroll
        for (int j = 0; j < QUAD; ++j) {
            const SetResult<T> result = finish_sums(state[j], p.slot.size, kept[j]);
            w[j] = result.w_sum;
            number += j < p.width ? result.kl : 0;
        }
        if constexpr (DRAW) store_quad(w_sum, p.slot.set, 0, p.coordinate, p.width, w);
        store_stats(stats, sets, p, kept);
    }
};

template <class T, Coupling C, bool DRAW, Access A>
struct PosteriorKlGradient : Call {
    using S = Stats<C, true, DRAW>;
    static constexpr bool unit = C == Coupling::unit;
    static constexpr int PHASES = 0;
    static constexpr bool APPLIES = true, NUMBERS = false;
    static constexpr int BLOCKS = blocks_for<T>(3);
    struct Kept {};

    Posterior in, grad;
    Tensor grad_w, grad_kl;
    const T* stats;

    PosteriorKlGradient(const Launch& launch, const Sets& s, const Posterior& in, const Tensor& grad_w, const Tensor& grad_kl,
                        const void* stats, const Posterior& grad)
        : Call(launch, s), in(in), grad(grad), grad_w(grad_w), grad_kl(grad_kl), stats(static_cast<const T*>(stats)) {}

    __device__ __forceinline__ void pad(const Place& p) const {
        pad_rows<T, A>({&grad.mu_q, &grad.logvar_q, &grad.rho_logits, &grad.mu_p, &grad.logvar_p}, p);
    }
    __device__ __forceinline__ void apply(const Place& p, Kept (&)[QUAD], int64_t begin, int64_t end) const {
        const PosteriorRows<T, A> rows(in, p), out(grad, p);
        const T g = value_of_set<T>(grad_kl, p.slot.set);
        const T K = T(sets.whole_sizes ? sets.whole_sizes[p.slot.set] : p.slot.size);
        T st[QUAD][S::COUNT], g_w[QUAD] = {};
        load_stats(stats, sets, p, st);
        T sigma_m[QUAD] = {};
        if constexpr (DRAW && unit)
            for (int j = 0; j < QUAD; ++j) sigma_m[j] = exp(st[j][S::LOGVAR_M] * T(0.5));
        if constexpr (DRAW) load_quad(grad_w, p.slot.set, 0, p.coordinate, p.width, g_w);
        rows.template over<5>(begin, end, [&](int64_t k, const auto& v) {
            T eps[QUAD], to[5][QUAD];
            if constexpr (DRAW) Noise<T>(sets, p).draw(k, eps);
#pragma unroll
            for (int j = 0; j < QUAD; ++j) {
                const T(&s)[S::COUNT] = st[j];
                const T nu = v[0][j], lv = v[1][j], lv_p = v[4][j], difference = v[2][j] - v[3][j];
                const T one_minus_rho_m = s[S::ONE_MINUS_RHO_M];
                const T rho = exp(nu - reference_of(s[S::LARGEST_LOGIT])) * s[S::INVERSE_Z];
                // Only the part with the largest logit can have more; up to there the plain forms do not cancel.
                const bool is_m = rho > T(0.5);
                const T rest = is_m ? one_minus_rho_m : T(1);
                const T x = lv - lv_p, ratio = exp(x), precision = exp(-lv_p), scaled_difference = difference * precision;
                const T quadratic = difference * scaled_difference;
                const T growth = x + exp_excess(x, ratio);  // ratio - 1, exact where q is close to p

                T to_logvar_q, to_logvar_p, y, from_noise{}, to_logit{}, sigma{};
                if constexpr (DRAW) sigma = exp(lv * T(0.5));
                if constexpr (unit) {
                    to_logvar_q = is_m ? ratio * s[S::FACTOR_M] - 1 : growth + ratio * ((K * rho - 2) * rho);
                    to_logvar_p = -(quadratic + to_logvar_q);
                    y = ratio * (is_m ? (K - 1) * rho - one_minus_rho_m : K * rho - 1);
                } else {
                    const T own = is_m ? ratio * (one_minus_rho_m * one_minus_rho_m) - 1 : growth - 2 * rho * ratio;
                    const T shared = rho * precision * (is_m ? s[S::V_OTHERS] : s[S::V]);
                    const T variance = DRAW ? sigma * sigma : exp(lv);
                    to_logvar_q = own + variance * (is_m ? s[S::Q_OTHERS] : s[S::Q]);
                    to_logvar_p = -(quadratic + own + rho * shared);
                    y = shared - rest * ratio;
                }
                if constexpr (DRAW) {
                    if constexpr (unit) {
                        const T total = s[S::NOISE];
                        from_noise = sigma * (rest * eps[j] - rho * (is_m ? s[S::NOISE_OTHERS] : total));
                        to_logit = total * (sigma - sigma_m[j] + s[S::NOISE_FACTOR]);
                    } else {
                        from_noise = s[S::NOISE_FACTOR] * sigma * eps[j];
                        to_logit = s[S::NOISE_FACTOR] * s[S::NOISE];
                    }
                }
                const T h = is_m ? y * one_minus_rho_m - s[S::H_OTHERS] : y - s[S::H];
                to[0][j] = g_w[j] + g * scaled_difference;
                to[1][j] = T(0.5) * (g * to_logvar_q + g_w[j] * from_noise);
                to[2][j] = rho * (g * (1 + h) - g_w[j] * to_logit);
                to[3][j] = -g * scaled_difference;
                to[4][j] = T(0.5) * g * to_logvar_p;
            }
            out.mu_q.store(k, to[0]);
            out.logvar_q.store(k, to[1]);
            out.rho_logits.store(k, to[2]);
            out.mu_p.store(k, to[3]);
            out.logvar_p.store(k, to[4]);
        });
    }
};

template <bool DRAW>
Status posterior_kl_forward(const Launch& launch, const Sets& s, const Posterior& in, const Tensor& w_sum, const Tensor& kl,
                            void* stats, Options options) {
    const Tensor* tensors[] = {&in.mu_q, &in.logvar_q, &in.rho_logits, &in.mu_p, &in.logvar_p};
    return by_type<DRAW>(options, tensors, s.width, [&](auto zero, auto coupling, auto access) {
        return run(launch, PosteriorKl<decltype(zero), decltype(coupling)::value, DRAW, decltype(access)::value>(
                               launch, s, in, w_sum, kl, stats));
    });
}

template <bool DRAW>
Status posterior_kl_backward(const Launch& launch, const Sets& s, const Posterior& in, const Tensor& grad_w,
                             const Tensor& grad_kl, const void* stats, const Posterior& grad, Options options) {
    const Tensor* tensors[] = {&in.mu_q,   &in.logvar_q,   &in.rho_logits,   &in.mu_p,   &in.logvar_p,
                               &grad.mu_q, &grad.logvar_q, &grad.rho_logits, &grad.mu_p, &grad.logvar_p};
    return by_type<DRAW>(options, tensors, s.width, [&](auto zero, auto coupling, auto access) {
        return run(launch, PosteriorKlGradient<decltype(zero), decltype(coupling)::value, DRAW, decltype(access)::value>(
                               launch, s, in, grad_w, grad_kl, stats, grad));
    });
}

}  // namespace gpu
}  // namespace compvae
