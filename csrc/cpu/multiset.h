// The sums over a multiset that the correlated Gaussian needs, in one pass over the inputs.
//
// The part m with the largest logit is kept out of the running sums: only it can have rho > 1/2, and there
// 1 - 2 rho + K rho^2, eps - rho E and the trace would cancel. Sums run over chunks of CHUNK parts in the compute
// type T and are joined in float64; where a chunk brings a larger logit, the old m joins the others and the sums are
// rescaled. Notation: e_i = exp(nu_i - ref), ref = max(0, nu_m), d_i = sigma_i - sigma_m, R_i = sigma_i^2 / s_i^2.
#pragma once
#include <initializer_list>
#include <type_traits>

#include "../common/stats.h"
#include "kept.h"
#include "kernels.h"
#include "noise.h"
#include "places.h"
#include "rows.h"
#include "wide.h"

namespace compvae {
namespace COMPVAE_ISA {

template <class T, class E = T>
using Rows = InputRows<T, CHUNK, BLOCK, E>;
template <class T>
using Results = OutputRows<T, CHUNK, BLOCK>;

template <class F>
inline void by_coupling(Options options, F f) {
    options.coupling ? f(std::integral_constant<Coupling, Coupling::scaled>())
                     : f(std::integral_constant<Coupling, Coupling::unit>());
}
// f(a zero of the compute type, the coupling as an integral constant, one of the type of Rows' elements).
template <class F>
inline void by_inputs(Options options, std::initializer_list<const Tensor*> inputs, F f) {
    by_coupling(options, [&](auto coupling) {
        by_elements(options.float64, inputs, [&](auto zero, auto element) { f(zero, coupling, element); });
    });
}

// Calls f(a zero of the compute type, the coupling as an integral constant).
template <class F>
inline void by_type_and_coupling(Options options, F f) {
    by_coupling(options, [&](auto coupling) { options.float64 ? f(0.0, coupling) : f(0.0f, coupling); });
}

template <class T>
class NoiseRows {
  public:
    void prepare(const Sets& s, const Place& p) {
        block_.prepare(s.seed(p.set), s.index(p.set), p.coordinate);
        start_ = s.start(p.set);
    }
    void draw(int64_t part, int parts) {
        draw(part, parts, [](int) {});
    }
    // meanwhile(k) is called beside the work on part k; `kept` is where the rows go, if not here
    template <class F>
    void draw(int64_t part, int parts, F meanwhile, T* kept = nullptr) {
        T* rows = kept ? kept : own_;
        block_.fill_rows(start_ + part, parts, rows, meanwhile);
        rows_ = rows;
    }
    void use(const T* kept) { rows_ = kept; }
    const T* operator[](int k) const { return rows_ + k * BLOCK; }

  private:
    NoiseBlock block_;
    uint64_t start_;
    const T* rows_ = nullptr;
    alignas(64) T own_[CHUNK * BLOCK];
};

template <class T, Coupling C, bool KL, bool DRAW, bool MEAN, bool DENSITY, class E = T>
class SetSums {
    using V = typename Simd<T>::V;
    using I = typename Simd<T>::I;
    static constexpr int N = Simd<T>::N;
    static constexpr bool unit = C == Coupling::unit;
    static constexpr bool SHIFTED = unit && DRAW && MEAN;  // the noise of w~ in "unit" needs the sums of d
    static constexpr bool KEEP = DRAW && !KL;  // for those who draw the parts themselves after the sums
    static constexpr bool EXACT = KEEP && MEAN;  // exp(nu): the density's slope takes sums of it times exp(L)
    using S = Stats<C, KL, DRAW>;

    struct Nothing {};
    template <bool IS_USED, class Member>
    using Where = std::conditional_t<IS_USED, Member, Nothing>;

  public:
    enum { NOISES, POWERS, SIGMAS, KEPT };
    // What is read of a chunk, its noise, and its factors where the parts themselves are drawn after the sums.
    struct Chunk {
        Rows<T, E> logvar_q, rho_logits;
        Where<KL || MEAN, Rows<T, E>> mu_q;
        Where<KL, Rows<T, E>> mu_p, logvar_p;
        Where<DRAW, NoiseRows<T>> noise;
        Where<KEEP, Kept<T, KEPT>> kept;
        PartFactors<T> factors;

        void find_factors(int block, int64_t part) {
            factors = {kept.rows(POWERS, block, part), kept.rows(SIGMAS, block, part), kept.row_of_chunk(block, part)};
        }
        // Puts what was made of it into its place again; whether that has been kept.
        bool recall(int block, int64_t part) {
            noise.use(kept.rows(NOISES, block, part));
            find_factors(block, part);
            return kept.keeps();
        }
    };

    // The chunk is the last one afterwards.
    void run(const Sets& sets, const Place& place, const Posterior& in, Chunk& chunk) {
        run_abreast(this, sets, &place, 1, in, chunk);
    }
    // Several blocks of one set, chunk by chunk: memory is read in longer runs than a block's.
    static void run_abreast(SetSums* sums, const Sets& sets, const Place* places, int count, const Posterior& in,
                            Chunk& chunk) {
        for (int b = 0; b < count; ++b) sums[b].begin(sets, places[b]);
        const int64_t first = places[0].coordinate, end = places[count - 1].coordinate + 1, parts = sums->parts_;
        if constexpr (KEEP) chunk.kept.begin(parts, count);
        for (int64_t part = 0; part < parts; part += CHUNK)
            for (int b = 0; b < count; ++b) {
                const int n = sums[b].chunk_of(part);
                const Next next = next_of(sets, places[b], part, n, first, end);
                sums[b].add(sets, places[b], in, part, next, chunk, b);
            }
    }

    // Per coordinate: stats [COUNT][BLOCK]; w~ [BLOCK] where MEAN; returns the KL, and log q in *log_density.
    double finish(int width, T (*stats)[BLOCK], T* w_sum, double* log_density) {
        VD kl{}, density{};
        for (int column = 0; column < width; column += N) finish_column(column, width, stats, w_sum, kl, density);
        if constexpr (DENSITY) *log_density = sum_of_lanes(density);
        return sum_of_lanes(kl);
    }

    // What a set's shard adds to the joint sums: rows of state [..][B][D], float64, of m and then of the sums.
    void write_state(const Sets& sets, const Place& place, double* state) const {
        int64_t row = place.set;
        const auto put = [&](const auto* numbers) {
            for (int i = 0; i < place.width; ++i) state[row * sets.width + place.coordinate + i] = numbers[i];
            row += sets.count;
        };
        for (int s = 0; s < OF_M; ++s)
            if (KL || s == LOGIT || s == LOGVAR_Q || s == NORMAL) put(m_[s]);
        for (int s = 0; s < SUMS; ++s)
            if (is_used(s)) put(sum_[s]);
    }

  private:
    enum Sum { OTHERS, BASE, TRACE, SQUARES, VARIANCES, NOISE_SUM, SHIFTED_NOISE, SHIFT, MEANS, DENSITIES, SUMS };
    static constexpr bool is_used(int s) {
        return s == OTHERS || ((s == BASE || s == TRACE || s == SQUARES) && KL) || (s == VARIANCES && KL && !unit) ||
               (s == NOISE_SUM && DRAW) || ((s == SHIFTED_NOISE || s == SHIFT) && SHIFTED) || (s == MEANS && MEAN) ||
               (s == DENSITIES && DENSITY);
    }
    enum OfM { LOGIT, LOGVAR_Q, LOGVAR_P, DIFFERENCE, NORMAL, OF_M };
    double sum_[SUMS][BLOCK];
    alignas(64) T m_[OF_M][BLOCK], found_[2][BLOCK], where_[BLOCK];
    int64_t parts_ = 0;

    int chunk_of(int64_t part) const { return int(parts_ - part < CHUNK ? parts_ - part : CHUNK); }

    void begin(const Sets& sets, const Place& place) {
        parts_ = sets.size(place.set);
        if (parts_ == 0) {
            std::memset(sum_, 0, sizeof sum_);
            std::memset(m_, 0, sizeof m_);
        }
    }
    // The chunk that begins at `part`.
    void add(const Sets& sets, const Place& place, const Posterior& in, int64_t part, Next next, Chunk& chunk,
             int block) {
        const int64_t row = sets.row(place.set);
        const int n = chunk_of(part);
        auto stage = [&](Rows<T, E>& rows, const Tensor& t) {
            rows.stage(t, place.set, row + part, n, place.coordinate, place.width, next);
        };
        stage(chunk.rho_logits, in.rho_logits);
        stage(chunk.logvar_q, in.logvar_q);
        if constexpr (KL || MEAN) stage(chunk.mu_q, in.mu_q);
        if constexpr (KL) {
            stage(chunk.mu_p, in.mu_p);
            stage(chunk.logvar_p, in.logvar_p);
        }
        if constexpr (DRAW) {
            chunk.noise.prepare(sets, place);
            // The second pass has little else to do than wait for the means.
            const bool means_ahead = reads_means_ahead(chunk);
            const RowsAhead means = {in.mu_q, place.set, row + part, place.coordinate};
            const auto read_ahead = [&](int k) COMPVAE_INLINE_LAMBDA {
                for (int column = 0; column < BLOCK; column += N) {
                    chunk.rho_logits.prefetch(k, column);
                    chunk.logvar_q.prefetch(k, column, 2);
                    if (means_ahead) means.prefetch(k, column);
                }
            };
            T* rows = nullptr;
            if constexpr (KEEP) {
                rows = chunk.kept.rows(NOISES, block, part);
                chunk.find_factors(block, part);
            }
            chunk.noise.draw(part, n, read_ahead, rows);
        }
        for (int column = 0; column < place.width; column += TOGETHER * N) find_largest(chunk, column, n, part == 0);
        for (int column = 0; column < place.width; column += N) add_chunk(chunk, column, n, part == 0);
    }

    bool reads_means_ahead(const Chunk& chunk) const {
        if constexpr (KEEP && !MEAN) return parts_ > CHUNK && chunk.kept.keeps();
        return false;
    }

    // m among the parts so far, its place in the chunk (-1: in an earlier one) and its log-variance. Over neighbouring
    // columns together: rows are often a multiple of 4 KiB apart, and all lines of one column then go through the same few
    // places of the first-level cache.
    static constexpr int TOGETHER = LANES == 16 ? 4 : 2;
    void find_largest(const Chunk& chunk, int column, int n, bool first) {
        V logit[TOGETHER], logvar_m[TOGETHER], where[TOGETHER], index = splat<V>(T(first));
        COMPVAE_UNROLL
        for (int c = 0; c < TOGETHER; ++c) {
            const int at = column + c * N;
            logit[c] = first ? chunk.rho_logits.at(0, at) : load<V>(m_[LOGIT] + at);
            logvar_m[c] = first ? chunk.logvar_q.at(0, at) : load<V>(m_[LOGVAR_Q] + at);
            where[c] = splat<V>(T(first - 1));
        }
        for (int k = first; k < n; ++k, index += T(1)) {
            COMPVAE_UNROLL
            for (int c = 0; c < TOGETHER; ++c) {
                const V nu = chunk.rho_logits.at(k, column + c * N);
                const auto larger = nu > logit[c];
                logit[c] = select<V>(larger, nu, logit[c]);
                where[c] = select<V>(larger, index, where[c]);
                logvar_m[c] = select<V>(larger, chunk.logvar_q.at(k, column + c * N), logvar_m[c]);
            }
        }
        COMPVAE_UNROLL
        for (int c = 0; c < TOGETHER; ++c) {
            store(found_[LOGIT] + column + c * N, logit[c]);
            store(found_[LOGVAR_Q] + column + c * N, logvar_m[c]);
            store(where_ + column + c * N, where[c]);
        }
    }

    struct ChunkSums {
        V sum[SUMS], logvar_p_m, difference_m, normal_m;
    };

    // The sums over a chunk without m, whose place in it is `where` (-1: in another chunk), and what m has. QUICK is for
    // log-variances that are not extreme; where one is, its sums are worth nothing and it returns false.
    template <bool QUICK>
    COMPVAE_INLINE bool add_parts(Chunk& chunk, int column, int n, V where, V ref, V logvar_m, V sigma_m, ChunkSums& out) {
        V sum[SUMS] = {}, logvar_p_m{}, difference_m{}, normal_m{}, index{};
        I largest{};  // bits of magnitudes; NaN's are the largest
        const PartFactors<T> factors = chunk.factors;
        for (int k = 0; k < n; ++k, index += T(1)) {
            const auto is_m = where == index;
            const auto add = [&](Sum s, V x) COMPVAE_INLINE_LAMBDA { sum[s] = select<V>(is_m, sum[s], sum[s] + x); };
            if constexpr (!DRAW) {
                chunk.rho_logits.prefetch(k, column);
                chunk.logvar_q.prefetch(k, column, 2);
            }
            if constexpr (KL || MEAN) chunk.mu_q.prefetch(k, column, 1);
            if constexpr (KL) {
                chunk.mu_p.prefetch(k, column, 3);
                chunk.logvar_p.prefetch(k, column, 2);
            }
            const V lv = chunk.logvar_q.at(k, column), nu = chunk.rho_logits.at(k, column) - ref;
            V lv_p{}, mean{};
            if constexpr (KL) lv_p = chunk.logvar_p.at(k, column);
            constexpr bool SIGMA = DRAW && (!unit || SHIFTED || KEEP);
            V e, sigma, precision, variance;
            if constexpr (QUICK) {
                V powers[] = {EXACT ? V{} : nu, SIGMA ? lv * T(0.5) : lv, -lv_p};
                exp_abreast(powers);
                e = EXACT ? exp(nu) : powers[0], sigma = variance = powers[1], precision = powers[2];
            } else {
                e = exp(nu), precision = exp(-lv_p), sigma = variance = exp(SIGMA ? lv * T(0.5) : lv);
            }
            if constexpr (SIGMA) variance = sigma * sigma;
            if constexpr (KEEP) factors.put(k, column, e, sigma);
            e = select<V>(is_m, V{}, e);
            sum[OTHERS] += e;
            largest = maximum(largest, magnitude_bits(lv));
            if constexpr (KL || MEAN) mean = chunk.mu_q.at(k, column);
            if constexpr (MEAN) sum[MEANS] += mean;
            if constexpr (KL) {
                const V x = lv - lv_p, difference = mean - chunk.mu_p.at(k, column);
                const V ratio = QUICK ? variance * precision : exp(x);
                largest = maximum(largest, magnitude_bits(lv_p));
                add(BASE, exp_excess(x, ratio) + difference * difference * precision);
                const V weighted = e * (unit ? ratio : precision);
                sum[TRACE] += unit ? weighted : e * ratio;
                sum[SQUARES] += e * weighted;
                if constexpr (!unit) add(VARIANCES, variance);
                logvar_p_m = select<V>(is_m, lv_p, logvar_p_m);
                difference_m = select<V>(is_m, difference, difference_m);
            }
            if constexpr (DRAW) {
                const V eps = load<V>(chunk.noise[k] + column);
                normal_m = select<V>(is_m, eps, normal_m);
                add(NOISE_SUM, unit ? eps : sigma * eps);
                if constexpr (SHIFTED) {
                    const V y = (lv - logvar_m) * T(0.5);
                    const V d = select<V>(is_small(y, TAIL), sigma_m * (exp_tail(y) * (y * y) + y), sigma - sigma_m);
                    sum[SHIFTED_NOISE] += d * eps;
                    sum[SHIFT] += e * d;
                }
                if constexpr (DENSITY) sum[DENSITIES] += eps * eps + lv;
            }
        }
        std::memcpy(out.sum, sum, sizeof sum);
        out.logvar_p_m = logvar_p_m;
        out.difference_m = difference_m;
        out.normal_m = normal_m;
        return !QUICK || all(largest <= magnitude_bits(splat<V>(T(MODERATE))));
    }

    void add_chunk(Chunk& chunk, int column, int n, bool first) {
        const V old_logit = load<V>(m_[LOGIT] + column), old_logvar = load<V>(m_[LOGVAR_Q] + column);
        const V logit = load<V>(found_[LOGIT] + column), logvar_m = load<V>(found_[LOGVAR_Q] + column);
        const V where = load<V>(where_ + column);
        const V ref = select<V>(logit < 0, V{}, logit), sigma_m = exp(logvar_m * T(0.5));
        ChunkSums of_chunk;
        if (!add_parts<true>(chunk, column, n, where, ref, logvar_m, sigma_m, of_chunk))
            add_parts<false>(chunk, column, n, where, ref, logvar_m, sigma_m, of_chunk);
        if constexpr (KEEP) store(chunk.factors.references + column, ref);

        const auto changed = where >= T(0);
        if (!first && !all(where < T(0))) rebase(column, changed, old_logit, old_logvar, ref, logvar_m);
        COMPVAE_UNROLL
        for (int s = 0; s < SUMS; ++s)
            if (is_used(s)) {
                const Wide<T> of_parts = widen(of_chunk.sum[s]);
                if (first)
                    store_wide(sum_[s] + column, of_parts);
                else
                    add_to(sum_[s] + column, of_parts);
            }

        store(m_[LOGIT] + column, logit);
        store(m_[LOGVAR_Q] + column, logvar_m);
        store(m_[LOGVAR_P] + column, select<V>(changed, of_chunk.logvar_p_m, load<V>(m_[LOGVAR_P] + column)));
        store(m_[DIFFERENCE] + column, select<V>(changed, of_chunk.difference_m, load<V>(m_[DIFFERENCE] + column)));
        store(m_[NORMAL] + column, select<V>(changed, of_chunk.normal_m, load<V>(m_[NORMAL] + column)));
    }

    // The sums so far relative to another m: where it changed, the old one joins the others.
    // Out of line, since it is rare: its registers would be the loop's.
    __attribute__((noinline)) void rebase(int column, decltype(V{} < V{}) changed, V old_logit, V old_logvar, V ref,
                                          V logvar_m) {
        const V old_ref = select<V>(old_logit < 0, V{}, old_logit);
        const Wide<T> r = widen(exp(old_ref - ref)), e = widen(select<V>(changed, exp(old_logit - ref), V{}));
        const auto update = [&](Sum s, auto f) {
            double* p = sum_[s] + column;
            store_wide(p, f(load_wide<T>(p)));
        };
        const auto if_changed = [&](V x) { return widen(select<V>(changed, x, V{})); };
        const Wide<T> others = load_wide<T>(sum_[OTHERS] + column) * r + e;
        store_wide(sum_[OTHERS] + column, others);
        if constexpr (DRAW) {
            const V sigma = exp(old_logvar * T(0.5));
            const Wide<T> noise = if_changed(load<V>(m_[NORMAL] + column) * (unit ? splat<V>(T(1)) : sigma));
            update(NOISE_SUM, [&](const Wide<T>& x) { return x + noise; });
            if constexpr (SHIFTED) {
                const Wide<T> shift = if_changed(-sigma * expm1((logvar_m - old_logvar) * T(0.5)));
                const Wide<T> noise_so_far = load_wide<T>(sum_[NOISE_SUM] + column);
                update(SHIFTED_NOISE, [&](const Wide<T>& x) { return x + shift * noise_so_far; });
                update(SHIFT, [&](const Wide<T>& x) { return x * r + shift * others; });
            }
        }
        if constexpr (KL) {
            const V lv_p = load<V>(m_[LOGVAR_P] + column), x = old_logvar - lv_p;
            const V difference = load<V>(m_[DIFFERENCE] + column), ratio = exp(x), precision = exp(-lv_p);
            const Wide<T> wide_ratio = widen(ratio), of_square = unit ? wide_ratio : widen(precision);
            add_to(sum_[BASE] + column, if_changed(exp_excess(x, ratio) + difference * difference * precision));
            update(TRACE, [&](const Wide<T>& x) { return x * r + e * wide_ratio; });
            update(SQUARES, [&](const Wide<T>& x) { return x * (r * r) + e * (e * of_square); });
            if constexpr (!unit) add_to(sum_[VARIANCES] + column, if_changed(exp(old_logvar)));
        }
    }

    V total(Sum s, int column) const { return narrow(load_wide<T>(sum_[s] + column)); }

    void finish_column(int column, int width, T (*stats)[BLOCK], T* w_sum, VD& kl, VD& density) {
        const V logit = load<V>(m_[LOGIT] + column), ref = select<V>(logit < 0, V{}, logit);
        const V logvar_m = load<V>(m_[LOGVAR_Q] + column), normal_m = load<V>(m_[NORMAL] + column);
        // exp(-ref) and exp(logit - ref): one of them is 1
        const V least = exp(-abs(logit)), one = select<V>(logit < 0, splat<V>(T(1)), least);
        const V e_m = parts_ ? select<V>(logit < 0, least, splat<V>(T(1))) : V{};
        const V others = one + total(OTHERS, column), z = others + e_m;
        const V inverse_z = 1 / z, rho_m = e_m * inverse_z, one_minus_rho = others * inverse_z;
        const V rest = one * inverse_z;  // 1 - sum rho = exp(-L)
        const V log_z = log(z);
        auto keep = [&](int slot, V v) { store(stats[slot] + column, v); };
        keep(S::LARGEST_LOGIT, logit);
        keep(S::INVERSE_Z, inverse_z);
        keep(S::ONE_MINUS_RHO_M, one_minus_rho);

        if constexpr (DRAW) {
            const V sigma_m = exp(logvar_m * T(0.5)), noise_others = total(NOISE_SUM, column);
            const V total_noise = noise_others + (unit ? normal_m : sigma_m * normal_m);
            V factor = rest;
            if constexpr (SHIFTED) factor = sigma_m * rest - total(SHIFT, column) * inverse_z;
            if constexpr (MEAN) {
                const V noise_of_sum = unit ? total(SHIFTED_NOISE, column) + factor * total_noise : rest * total_noise;
                store(w_sum + column, total(MEANS, column) + noise_of_sum);
            }
            keep(S::NOISE, total_noise);
            if constexpr (!KL || unit) keep(S::NOISE_OTHERS, noise_others);
            keep(S::NOISE_FACTOR, KL ? factor : rest);
            if constexpr (KL && unit) keep(S::LOGVAR_M, logvar_m);
        }
        V of_m{}, trace{};
        if constexpr (KL) {
            const T K = T(parts_);
            const V lv_p = load<V>(m_[LOGVAR_P] + column), difference = load<V>(m_[DIFFERENCE] + column);
            const V ratio_m = exp(logvar_m - lv_p), precision_m = exp(-lv_p);
            const V first = total(TRACE, column) * inverse_z, second = total(SQUARES, column) * inverse_z * inverse_z;
            const V quadratic = difference * difference * precision_m;
            V y_m, h_others;
            if constexpr (unit) {
                const V factor_m = one_minus_rho * one_minus_rho + (K - 1) * rho_m * rho_m;
                trace = K * second - 2 * first;
                of_m = factor_m * ratio_m + quadratic;
                y_m = ratio_m * ((K - 1) * rho_m - one_minus_rho);
                h_others = K * second - first;
                keep(S::FACTOR_M, factor_m);
            } else {
                const V variance_m = exp(logvar_m), v_others = total(VARIANCES, column), v = v_others + variance_m;
                trace = second * v - 2 * first;
                of_m = one_minus_rho * one_minus_rho * ratio_m + rho_m * rho_m * v_others * precision_m + quadratic;
                y_m = rho_m * v_others * precision_m - one_minus_rho * ratio_m;
                h_others = second * v - first;
                keep(S::V, v);
                keep(S::V_OTHERS, v_others);
                keep(S::Q, second + rho_m * rho_m * precision_m);
                keep(S::Q_OTHERS, second);
            }
            keep(S::H, rho_m * y_m + h_others);
            keep(S::H_OTHERS, h_others);
        }
        if (!parts_) return;
        const Wide<T> wide_ref = widen(ref), wide_log_z = widen(log_z), wide_trace = widen(trace), wide_m = widen(of_m);
        const Wide<T> lv_q = widen(logvar_m), lv_p = widen(load<V>(m_[LOGVAR_P] + column));
        const Wide<T> base = load_wide<T>(sum_[BASE] + column), terms = load_wide<T>(sum_[DENSITIES] + column);
        for (int i = 0; i < Wide<T>::COUNT; ++i) {
            const VD log_normaliser = wide_ref.part[i] + wide_log_z.part[i];
            VD of_kl = base.part[i] + wide_trace.part[i] + (wide_m.part[i] - 1.0);
            of_kl = 0.5 * (of_kl - (lv_q.part[i] - lv_p.part[i])) + log_normaliser;
            VD of_density = log_normaliser - 0.5 * terms.part[i];
            for (int lane = width - column - i * (LANES / 2); lane < LANES / 2; ++lane)
                if (lane >= 0) of_kl[lane] = of_density[lane] = 0;  // padding
            if constexpr (KL) kl += of_kl;
            if constexpr (DENSITY) density += of_density;
        }
    }
};

}  // namespace COMPVAE_ISA
}  // namespace compvae
