#include <initializer_list>

#include "part_noise.h"

namespace compvae {
namespace COMPVAE_ISA {
namespace {

// Rows of [B][D] left for the backward pass: those of the parts, then exp(L) sum rho_j eps_j (unit) or
// exp(L) sum rho_j eps_j / sigma_j (scaled), which -d log q / dw_i holds.
template <Coupling C>
struct RatioStats {
    enum { PULL = Stats<C, false, true>::COUNT, COUNT };
};

template <class T, Coupling C>
class LogRatio {
    using V = typename Simd<T>::V;
    using S = RatioStats<C>;
    static constexpr int N = Simd<T>::N;

  public:
    double run(const Sets& sets, const Place& place, const Posterior& in, const Tensor& w_sum, T* stats) {
        double log_q_terms = 0;
        const int64_t size = sets.size(place.set), row = sets.row(place.set);
        sums_.run(sets, place, in, chunk_);
        sums_.finish(place.width, stats_, w_, &log_q_terms);
        write_block(w_sum, place, w_);
        std::memset(pull_, 0, sizeof pull_);
        double ratio = -log_q_terms;
        for (int64_t part = 0; part < size; part += CHUNK) {
            const int n = int(size - part < CHUNK ? size - part : CHUNK);
            const auto stage = [&](Rows<T>& rows, const Tensor& t) {
                rows.stage(t, place.set, row + part, n, place.coordinate, place.width, next_of(sets, place, part, n));
            };
            const bool has_factors = chunk_.recall(0, part);
            if (size > CHUNK) stage(chunk_.mu_q, in.mu_q);  // else it is still there from the first pass
            if (!has_factors) {
                stage(chunk_.logvar_q, in.logvar_q);
                stage(chunk_.rho_logits, in.rho_logits);
                chunk_.noise.draw(part, n);
            }
            stage(mu_p_, in.mu_p);
            stage(logvar_p_, in.logvar_p);
            for (int column = 0; column < place.width; column += N) ratio += add(column, n, place.width, has_factors);
        }
        for (int column = 0; column < place.width; column += N) {
            const V rest = PartColumn<T, C>(stats_, column).rest_of_rho;
            for (int i = 0; i < N; ++i) stats_[S::PULL][column + i] = T(pull_[column + i] / rest[i]);
        }
        if (stats) write_stats(stats, S::COUNT, sets, place, stats_);
        return ratio;
    }

  private:
    using Sums = SetSums<T, C, false, true, true, true>;
    Sums sums_;
    typename Sums::Chunk chunk_;
    Rows<T> mu_p_, logvar_p_;
    alignas(64) T stats_[S::COUNT][BLOCK], w_[BLOCK];
    double pull_[BLOCK];

    double add(int column, int n, int width, bool has_factors) {
        const PartColumn<T, C> set(stats_, column);
        V sum{}, pull{};
        const auto add = [&](int k, V rho, V sigma) COMPVAE_INLINE_LAMBDA {
            mu_p_.prefetch(k, column);
            logvar_p_.prefetch(k, column, 1);
            const V eps = load<V>(chunk_.noise[k] + column), lv_p = load<V>(logvar_p_[k] + column);
            const V difference = load<V>(chunk_.mu_q[k] + column) - load<V>(mu_p_[k] + column);
            const V y = difference + set.of_part(rho, sigma, eps);
            sum += y * y * exp(-lv_p) + lv_p;
            pull += PartColumn<T, C>::unit ? rho * eps : rho * eps / sigma;
        };
        const PartFactors<T> factors = chunk_.factors;
        if (has_factors) {
            const PartColumn<T, C> by_chunk = set.by(factors.reference(column));
            for (int k = 0; k < n; ++k) add(k, by_chunk.rho_of_power(factors.power(k, column)), factors.sigma(k, column));
        } else {
            for (int k = 0; k < n; ++k)
                add(k, set.rho(load<V>(chunk_.rho_logits[k] + column)), exp(load<V>(chunk_.logvar_q[k] + column) * T(0.5)));
        }
        double total = 0;
        for (int i = 0; i < N; ++i) {
            pull_[column + i] += pull[i];
            if (column + i < width) total += sum[i];
        }
        return -0.5 * total;
    }
};

template <class T, Coupling C>
class LogRatioGradient {
    using V = typename Simd<T>::V;
    using S = RatioStats<C>;
    static constexpr int N = Simd<T>::N;
    static constexpr bool unit = C == Coupling::unit;

  public:
    void run(const Sets& sets, const Place& place, const Posterior& in, const Tensor& grad_w, const Tensor& grad_ratio,
             const T* stats, const Posterior& grad, bool path) {
        const int64_t size = sets.size(place.set), row = sets.row(place.set);
        g_ = read_value<T>(grad_ratio, place.set);
        path_ = path;
        read_block(grad_w, place, grad_w_);
        read_stats(stats, S::COUNT, sets, place, stats_);
        noise_.prepare(sets, place);
        kept_.begin(size, 1);
        centred_.clear();
        const Tensor* inputs[] = {&in.mu_q, &in.logvar_q, &in.rho_logits, &in.mu_p, &in.logvar_p};
        const Tensor* outputs[] = {&grad.mu_q, &grad.logvar_q, &grad.rho_logits, &grad.mu_p, &grad.logvar_p};
        for (const bool writing : {false, true}) {
            if (writing) centred_.settle();
            for (int64_t part = 0; part < size; part += CHUNK) {
                const int n = int(size - part < CHUNK ? size - part : CHUNK);
                if (!writing || size > CHUNK) {
                    for (int i = 0; i < 5; ++i)
                        in_[i].stage(*inputs[i], place.set, row + part, n, place.coordinate, place.width,
                                     next_of(sets, place, part, n));
                    if (!writing || !kept_.keeps()) noise_.draw(part, n, [](int) {}, kept_.rows(NOISES, 0, part));
                }
                noise_.use(kept_.rows(NOISES, 0, part));
                if (!writing) {
                    for (int column = 0; column < place.width; column += N) reduce(column, n, part);
                    continue;
                }
                for (int i = 0; i < 5; ++i)
                    out_[i].stage(*outputs[i], place.set, row + part, n, place.coordinate, place.width,
                                  is_streamed<T>(sets, outputs));
                for (int column = 0; column < place.width; column += N)
                    kept_.keeps() ? write<true>(column, n, part) : write<false>(column, n, part);
                for (int i = 0; i < 5; ++i)
                    out_[i].finish(*outputs[i], place.set, row + part, n, place.coordinate, place.width);
            }
        }
        for (const Tensor* t : outputs) zero_padding(sets, place, *t);
    }

  private:
    enum { MU_Q, LOGVAR_Q, RHO_LOGITS, MU_P, LOGVAR_P };
    Rows<T> in_[5];
    Results<T> out_[5];
    NoiseRows<T> noise_;
    enum { NOISES, RHOS, SIGMAS, PRECISIONS, KEPT };
    Kept<T, KEPT> kept_;
    Centred<T> centred_;
    alignas(64) T stats_[S::COUNT][BLOCK], grad_w_[BLOCK];
    T g_ = 0;
    bool path_ = false;

    // One part: its sample's deviation from the prior, and the upstream gradient of w_i but for -d log q / dw_i.
    struct Part {
        V sigma, eps, rho, noise, y, precision, upstream;
    };
    // Its exponentials are computed, or those that `rows` has are used.
    template <bool IS_KEPT>
    Part part(const PartColumn<T, C>& set, int k, int column, T* const (&rows)[KEPT]) const {
        Part p;
        const int64_t at = k * BLOCK + column;
        p.sigma = IS_KEPT ? load<V>(rows[SIGMAS] + at) : exp(load<V>(in_[LOGVAR_Q][k] + column) * T(0.5));
        p.eps = load<V>(noise_[k] + column);
        p.rho = IS_KEPT ? load<V>(rows[RHOS] + at) : set.rho(load<V>(in_[RHO_LOGITS][k] + column));
        p.noise = set.of_part(p.rho, p.sigma, p.eps);
        p.y = load<V>(in_[MU_Q][k] + column) - load<V>(in_[MU_P][k] + column) + p.noise;
        p.precision = IS_KEPT ? load<V>(rows[PRECISIONS] + at) : exp(-load<V>(in_[LOGVAR_P][k] + column));
        p.upstream = load<V>(grad_w_ + column) - g_ * (p.y * p.precision);
        return p;
    }
    struct KeptRows {
        T* rows[KEPT];
    };
    KeptRows kept_rows(int64_t part) const {
        KeptRows kept;
        for (int i = 0; i < KEPT; ++i) kept.rows[i] = kept_.rows(i, 0, part);
        return kept;
    }
    void reduce(int column, int n, int64_t first) {
        const PartColumn<T, C> set(stats_, column);
        const KeptRows kept = kept_rows(first);
        V rho[CHUNK], a[CHUNK];
        for (int k = 0; k < n; ++k) {
            COMPVAE_UNROLL
            for (int i = 0; i < 5; ++i) in_[i].prefetch(k, column, i);
            const Part p = part<false>(set, k, column, kept.rows);
            store(kept.rows[RHOS] + k * BLOCK + column, p.rho);
            store(kept.rows[SIGMAS] + k * BLOCK + column, p.sigma);
            store(kept.rows[PRECISIONS] + k * BLOCK + column, p.precision);
            rho[k] = p.rho;
            a[k] = unit ? rounded(p.upstream * p.sigma) : p.upstream;
        }
        centred_.add(column, n, rho, a);
    }
    template <bool IS_KEPT>
    void write(int column, int n, int64_t first) {
        const PartColumn<T, C> set(stats_, column);
        const KeptRows kept = kept_rows(first);
        const V reference = centred_.reference(column), offset = centred_.offset(column, set.rest_of_rho);
        const V pull = load<V>(stats_[S::PULL] + column);
        for (int k = 0; k < n; ++k) {
            const Part p = part<IS_KEPT>(set, k, column, kept.rows);
            const V centred = ((unit ? rounded(p.upstream * p.sigma) : p.upstream) - reference) + offset;
            V to_mu = p.upstream, to_logvar = unit ? p.upstream * p.noise : p.sigma * p.eps * centred;
            V to_logit = -set.noise * centred;
            if (path_) {
                // the path through log q: exp(L) cancels in all but the means and, in "unit", the log-variances
                const V inverse_sigma = 1 / p.sigma, scaled_eps = p.eps * inverse_sigma;
                const V along = unit ? (p.eps + pull) * inverse_sigma : scaled_eps + pull;
                to_mu += g_ * along;
                to_logvar += g_ * (unit ? along * p.noise : p.eps * p.eps);
                to_logit -= g_ * set.noise * (unit ? p.eps : scaled_eps);
            } else {
                to_logvar += g_;
                to_logit -= g_;
            }
            const V to_prior = p.y * p.precision;
            out_[MU_Q].put(k, column, to_mu);
            out_[LOGVAR_Q].put(k, column, T(0.5) * to_logvar);
            out_[RHO_LOGITS].put(k, column, p.rho * to_logit);
            out_[MU_P].put(k, column, g_ * to_prior);
            out_[LOGVAR_P].put(k, column, T(0.5) * g_ * (p.y * to_prior - 1));
        }
    }
};

}  // namespace

void posterior_sum_and_log_ratio_forward(const Sets& sets, const Posterior& in, const Tensor& w_sum,
                                         const Tensor& ratio, void* stats, double* scratch, Options options) {
    by_type_and_coupling(options, [&](auto zero, auto coupling) {
        using T = decltype(zero);
        using Worker = LogRatio<T, decltype(coupling)::value>;
        for_each_place<Worker>(sets, [&](Worker& worker, const Place& place, int64_t index) {
            scratch[index] = worker.run(sets, place, in, w_sum, static_cast<T*>(stats));
        });
    });
    join_blocks(sets, scratch, ratio);
}

void posterior_sum_and_log_ratio_backward(const Sets& sets, const Posterior& in, const Tensor& grad_w,
                                          const Tensor& grad_ratio, const void* stats, const Posterior& grad, bool path,
                                          Options options) {
    by_type_and_coupling(options, [&](auto zero, auto coupling) {
        using T = decltype(zero);
        using Worker = LogRatioGradient<T, decltype(coupling)::value>;
        for_each_place<Worker>(sets, [&](Worker& worker, const Place& place, int64_t) {
            worker.run(sets, place, in, grad_w, grad_ratio, static_cast<const T*>(stats), grad, path);
        });
    });
}

}  // namespace COMPVAE_ISA
}  // namespace compvae
