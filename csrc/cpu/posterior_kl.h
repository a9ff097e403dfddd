// The closed-form KL of the correlated Gaussian to the diagonal prior, with (DRAW) or without a draw of w~ in the
// same pass over the inputs: posterior_sum_and_kl and multiset_kl.
#pragma once
#include "multiset.h"

namespace compvae {
namespace COMPVAE_ISA {

template <class F>
inline void by_posterior(Options options, const Posterior& in, F f) {
    by_inputs(options, {&in.mu_q, &in.logvar_q, &in.rho_logits, &in.mu_p, &in.logvar_p}, f);
}

template <class T, Coupling C, bool DRAW, class E>
void posterior_kl_forward(const Sets& sets, const Posterior& in, const Tensor& w_sum, const Tensor& kl, T* stats,
                          double* scratch) {
    using S = Stats<C, true, DRAW>;
    using Sums = SetSums<T, C, true, DRAW, DRAW, false, E>;
    struct Worker {
        Sums sums[ABREAST];
        typename Sums::Chunk chunk;
        alignas(64) T kept[S::COUNT][BLOCK], w[BLOCK];
    };
    for_each_run<Worker>(sets, [&](Worker& worker, const Place* places, int count, int64_t index) {
        const bool is_whole = sets.size(places->set) <= CHUNK;
        if (!is_whole) Sums::run_abreast(worker.sums, sets, places, count, in, worker.chunk);
        for (int b = 0; b < count; ++b) {
            auto& sums = worker.sums[is_whole ? 0 : b];
            if (is_whole) sums.run(sets, places[b], in, worker.chunk);
            scratch[index + b] = sums.finish(places[b].width, worker.kept, worker.w, nullptr);
            if (DRAW) write_block(w_sum, places[b], worker.w);
            if (stats) write_stats(stats, S::COUNT, sets, places[b], worker.kept);
        }
    });
    join_blocks(sets, scratch, kl);
}

template <class T, Coupling C, bool DRAW, class E>
class PosteriorKlGradient {
    using V = typename Simd<T>::V;
    static constexpr bool unit = C == Coupling::unit;
    using S = Stats<C, true, DRAW>;

  public:
    // Neighbouring blocks of a set, chunk by chunk together.
    void run(const Sets& sets, const Place* places, int count, const Posterior& in, const Tensor& grad_w,
             const Tensor& grad_kl, const T* stats, const Posterior& grad) {
        const int64_t size = sets.size(places->set);
        grad_kl_ = read_value<T>(grad_kl, places->set);
        parts_ = T(sets.whole_size(places->set));
        for (int b = 0; b < count; ++b) {
            read_block(grad_w, places[b], blocks_[b].grad_w);
            read_stats(stats, S::COUNT, sets, places[b], blocks_[b].stats);
        }
        const int64_t first = places->coordinate, end = places[count - 1].coordinate + 1;
        for (int64_t part = 0; part < size; part += CHUNK)
            for (int b = 0; b < count; ++b) {
                const int n = int(size - part < CHUNK ? size - part : CHUNK);
                write(sets, places[b], in, blocks_[b], grad, part, n, next_of(sets, places[b], part, n, first, end));
            }
        const Tensor* outputs[] = {&grad.mu_q, &grad.logvar_q, &grad.rho_logits, &grad.mu_p, &grad.logvar_p};
        for (int b = 0; b < count; ++b)
            for (const Tensor* t : outputs) zero_padding(sets, places[b], *t);
    }

  private:
    enum { MU_Q, LOGVAR_Q, RHO_LOGITS, MU_P, LOGVAR_P };
    struct Block {
        alignas(64) T stats[S::COUNT][BLOCK], grad_w[BLOCK];
    };
    Rows<T, E> in_[5];
    Results<T> out_[5];
    NoiseRows<T> noise_;
    Block blocks_[ABREAST];
    T grad_kl_ = 0, parts_ = 0;

    void write(const Sets& sets, const Place& place, const Posterior& in, const Block& block, const Posterior& grad,
               int64_t part, int n, Next next) {
        const int64_t row = sets.row(place.set) + part;
        const Tensor* inputs[] = {&in.mu_q, &in.logvar_q, &in.rho_logits, &in.mu_p, &in.logvar_p};
        const Tensor* outputs[] = {&grad.mu_q, &grad.logvar_q, &grad.rho_logits, &grad.mu_p, &grad.logvar_p};
        const bool streamed = is_streamed<T>(sets, outputs);
        for (int i = 0; i < 5; ++i) {
            in_[i].stage(*inputs[i], place.set, row, n, place.coordinate, place.width, next);
            out_[i].stage(*outputs[i], place.set, row, n, place.coordinate, place.width, streamed);
        }
        if constexpr (DRAW) {
            noise_.prepare(sets, place);
            noise_.draw(part, n);
        }
        for (int column = 0; column < place.width; column += Simd<T>::N)
            if (!write_chunk<true>(block, column, n)) write_chunk<false>(block, column, n);
        for (int i = 0; i < 5; ++i) out_[i].finish(*outputs[i], place.set, row, n, place.coordinate, place.width);
    }

    // QUICK is for log-variances that are not extreme; where one is, what it wrote is worth nothing and it returns false.
    template <bool QUICK>
    bool write_chunk(const Block& block, int column, int n) {
        auto stat = [&](int slot) COMPVAE_INLINE_LAMBDA { return load<V>(block.stats[slot] + column); };
        const V logit_m = stat(S::LARGEST_LOGIT), ref = select<V>(logit_m < 0, V{}, logit_m);
        const V inverse_z = stat(S::INVERSE_Z), one_minus_rho_m = stat(S::ONE_MINUS_RHO_M);
        const V g_w = load<V>(block.grad_w + column), h_all = stat(S::H), h_others = stat(S::H_OTHERS), one = splat<V>(T(1));
        const T g = grad_kl_, K = parts_;
        typename Simd<T>::I largest{};
        V sigma_m{};
        if constexpr (DRAW && unit) {
            // by the steps that give the parts' own, so that equal scales differ by nothing
            const V lv = stat(S::LOGVAR_M);
            largest = magnitude_bits(lv);
            V powers[] = {V{}, lv * T(0.5), V{}};
            if (QUICK) exp_abreast(powers);
            sigma_m = QUICK ? powers[1] : exp(lv * T(0.5));
        }
        for (int k = 0; k < n; ++k) {
            COMPVAE_UNROLL
            for (int i = 0; i < 5; ++i) in_[i].prefetch(k, column, i);
            const V lv = in_[LOGVAR_Q].at(k, column), lv_p = in_[LOGVAR_P].at(k, column);
            const V nu = in_[RHO_LOGITS].at(k, column) - ref, x = lv - lv_p;
            const V difference = in_[MU_Q].at(k, column) - in_[MU_P].at(k, column);
            largest = maximum(largest, maximum(magnitude_bits(lv), magnitude_bits(lv_p)));
            V rho, sigma, variance, precision, ratio;
            if constexpr (QUICK) {
                V powers[] = {nu, DRAW ? lv * T(0.5) : lv, -lv_p};
                exp_abreast(powers);
                rho = powers[0], sigma = powers[1], precision = powers[2];
                variance = DRAW ? sigma * sigma : sigma;
                ratio = variance * precision;
            } else {
                rho = exp(nu), sigma = exp(lv * T(0.5)), precision = exp(-lv_p), variance = exp(lv), ratio = exp(x);
            }
            rho *= inverse_z;
            // Only the part with the largest logit can have more; up to there the plain forms do not cancel.
            const auto is_m = rho > T(0.5);
            const V rest = select<V>(is_m, one_minus_rho_m, one);
            const V scaled_difference = difference * precision, quadratic = difference * scaled_difference;
            const V growth = x + exp_excess(x, ratio);  // ratio - 1, exact where q is close to p

            V to_logvar_q, to_logvar_p, y, from_noise{}, to_logit{};
            if constexpr (unit) {
                to_logvar_q = select<V>(is_m, ratio * stat(S::FACTOR_M) - 1, growth + ratio * ((K * rho - 2) * rho));
                to_logvar_p = -(quadratic + to_logvar_q);
                y = ratio * select<V>(is_m, (K - 1) * rho - one_minus_rho_m, K * rho - 1);
            } else {
                const V own = select<V>(is_m, ratio * (one_minus_rho_m * one_minus_rho_m) - 1, growth - 2 * rho * ratio);
                const V shared = rho * precision * select<V>(is_m, stat(S::V_OTHERS), stat(S::V));
                to_logvar_q = own + variance * select<V>(is_m, stat(S::Q_OTHERS), stat(S::Q));
                to_logvar_p = -(quadratic + own + rho * shared);
                y = shared - rest * ratio;
            }
            if constexpr (DRAW) {
                const V eps = load<V>(noise_[k] + column);
                if constexpr (unit) {
                    const V total = stat(S::NOISE), others = stat(S::NOISE_OTHERS);
                    from_noise = sigma * (rest * eps - rho * select<V>(is_m, others, total));
                    to_logit = total * (sigma - sigma_m + stat(S::NOISE_FACTOR));
                } else {
                    from_noise = stat(S::NOISE_FACTOR) * sigma * eps;
                    to_logit = stat(S::NOISE_FACTOR) * stat(S::NOISE);
                }
            }
            const V h = select<V>(is_m, y * one_minus_rho_m - h_others, y - h_all);
            auto write = [&](int i, V v) COMPVAE_INLINE_LAMBDA { out_[i].put(k, column, v); };
            write(MU_Q, g_w + g * scaled_difference);
            write(LOGVAR_Q, T(0.5) * (g * to_logvar_q + g_w * from_noise));
            write(RHO_LOGITS, rho * (g * (1 + h) - g_w * to_logit));
            write(MU_P, -g * scaled_difference);
            write(LOGVAR_P, T(0.5) * g * to_logvar_p);
        }
        return !QUICK || all(largest <= magnitude_bits(splat<V>(T(MODERATE))));
    }
};

template <class T, Coupling C, bool DRAW, class E>
void posterior_kl_backward(const Sets& sets, const Posterior& in, const Tensor& grad_w, const Tensor& grad_kl,
                           const T* stats, const Posterior& grad) {
    using Worker = PosteriorKlGradient<T, C, DRAW, E>;
    for_each_run<Worker>(sets, [&](Worker& worker, const Place* places, int count, int64_t) {
        worker.run(sets, places, count, in, grad_w, grad_kl, stats, grad);
    });
}

}  // namespace COMPVAE_ISA
}  // namespace compvae
