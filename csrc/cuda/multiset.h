// The sums over a multiset that the correlated Gaussian needs, in one pass over the inputs, as csrc/cpu/multiset.h.
//
// The part m with the largest logit is kept out of the sums: only it can have rho > 1/2, and there 1 - 2 rho + K rho^2,
// eps - rho E and the trace would cancel. Sums run over chunks of CHUNK parts in the compute type T and are joined in
// float64; where two sums come together, the m of the smaller logit joins the others, and its sums are rescaled.
// Notation: e_i = exp(nu_i - ref), ref = max(0, nu_m), d_i = sigma_i - sigma_m, R_i = sigma_i^2 / s_i^2.
#pragma once
#include "passes.h"

namespace compvae {
namespace gpu {

constexpr double LOG_2_PI = 1.8378770664093454836;

// The noise of one set at one quad of coordinates.
template <class T>
struct Noise {
    uint64_t seed, set, start;
    uint32_t call;

    __device__ Noise(const Sets& s, const Place& p)
        : seed(s.seed(p.slot.set)), set(s.index(p.slot.set)), start(s.start(p.slot.set)), call(uint32_t(p.coordinate >> 2)) {}
    __device__ __forceinline__ void draw(int64_t part, T (&out)[QUAD]) const {
        normals_of_call<T>(seed, set, start + uint64_t(part), call, out);
    }
};

template <class T>
COMPVAE_INLINE T reference_of(T logit) {  // max(0, nu), NaN staying
    return logit < 0 ? T(0) : logit;
}

template <class T, Coupling C, bool KL, bool DRAW, bool MEAN, bool DENSITY>
struct SetSums {
    static constexpr bool unit = C == Coupling::unit;
    static constexpr bool SHIFTED = unit && DRAW && MEAN;  // the noise of w~ in "unit" needs the sums of d

    T logit, logvar_q, logvar_p, difference, normal;  // of m
    double others, base, trace, squares, variances, noise, shifted_noise, shift, means, densities;

    // In the order of a shard's state.
    template <class F>
    __device__ __forceinline__ void visit(F f) {
        f(logit), f(logvar_q);
        if constexpr (KL) f(logvar_p), f(difference);
        if constexpr (DRAW) f(normal);
        f(others);
        if constexpr (KL) f(base), f(trace), f(squares);
        if constexpr (KL && !unit) f(variances);
        if constexpr (DRAW) f(noise);
        if constexpr (SHIFTED) f(shifted_noise), f(shift);
        if constexpr (MEAN) f(means);
        if constexpr (DENSITY) f(densities);
    }

    // Adds the sums over parts that follow.
    __device__ __forceinline__ void join(const SetSums& next) {
        const bool changed = next.logit > logit;
        const SetSums m = changed ? next : *this, l = changed ? *this : next;  // whose m stays, and whose joins
        const T ref = reference_of(m.logit);
        const double r = exp(reference_of(l.logit) - ref), e = exp(l.logit - ref);
        T sigma{};
        if constexpr (DRAW) sigma = exp(l.logvar_q * T(0.5));
        others = m.others + (l.others * r + e);
        if constexpr (DRAW) {
            const double noise_l = l.noise + double(unit ? l.normal : sigma * l.normal);
            if constexpr (SHIFTED) {
                const double d = -sigma * expm1((m.logvar_q - l.logvar_q) * T(0.5));
                shifted_noise = m.shifted_noise + (l.shifted_noise + d * noise_l);
                shift = m.shift + (l.shift * r + d * (l.others * r + e));
            }
            noise = m.noise + noise_l;
            normal = m.normal;
        }
        if constexpr (KL) {
            const T x = l.logvar_q - l.logvar_p, ratio = exp(x), precision = exp(-l.logvar_p);
            base = m.base + (l.base + double(exp_excess(x, ratio) + l.difference * l.difference * precision));
            trace = m.trace + (l.trace * r + e * ratio);
            squares = m.squares + (l.squares * (r * r) + e * e * (unit ? ratio : precision));
            if constexpr (!unit) variances = m.variances + (l.variances + double(exp(l.logvar_q)));
            logvar_p = m.logvar_p;
            difference = m.difference;
        }
        if constexpr (MEAN) means += next.means;
        if constexpr (DENSITY) densities += next.densities;
        logit = m.logit;
        logvar_q = m.logvar_q;
    }
};

// The parts of a posterior at one quad of coordinates.
template <class T, Access A>
struct PosteriorRows {
    Rows<T, A> mu_q, logvar_q, rho_logits, mu_p, logvar_p;

    __device__ PosteriorRows(const Posterior& in, const Place& p)
        : mu_q(in.mu_q, p.slot.set, p.slot.row, p.coordinate, p.width),
          logvar_q(in.logvar_q, p.slot.set, p.slot.row, p.coordinate, p.width),
          rho_logits(in.rho_logits, p.slot.set, p.slot.row, p.coordinate, p.width),
          mu_p(in.mu_p, p.slot.set, p.slot.row, p.coordinate, p.width),
          logvar_p(in.logvar_p, p.slot.set, p.slot.row, p.coordinate, p.width) {}

    // f(k, values) with values of the logit, the log-variance, the mean, the prior's mean and log-variance: as many of
    // them, in this order, as are asked for.
    template <int COUNT, class F>
    __device__ __forceinline__ void over(int64_t begin, int64_t end, F f) const {
        const Rows<T, A>* const all[5] = {&rho_logits, &logvar_q, &mu_q, &mu_p, &logvar_p};
        const Rows<T, A>* some[COUNT];
#pragma unroll
        for (int i = 0; i < COUNT; ++i) some[i] = all[i];
        over_parts<T, A, COUNT>(some, begin, end, f);
    }
};

// The sums of one chunk of parts, [begin, end).
template <class T, Coupling C, bool KL, bool DRAW, bool MEAN, bool DENSITY, Access A>
__device__ __forceinline__ void sum_chunk(const PosteriorRows<T, A>& rows, const Noise<T>* noise, int64_t begin, int64_t end,
                                          SetSums<T, C, KL, DRAW, MEAN, DENSITY> (&out)[QUAD]) {
    using Sums = SetSums<T, C, KL, DRAW, MEAN, DENSITY>;
    constexpr bool unit = Sums::unit;
    T logit[QUAD], sigma_m[QUAD];
    int where[QUAD] = {};
    rows.template over<1>(begin, end, [&](int64_t k, const T(&v)[1][QUAD]) {
#pragma unroll
        for (int j = 0; j < QUAD; ++j) {
            const bool larger = k == begin || v[0][j] > logit[j];
            logit[j] = larger ? v[0][j] : logit[j];
            where[j] = larger ? int(k - begin) : where[j];
        }
    });
    struct Part {  // sums in the compute type
        T others, base, trace, squares, variances, noise, shifted_noise, shift, means, densities;
    };
    Part sum[QUAD] = {};
#pragma unroll
    for (int j = 0; j < QUAD; ++j) {
        out[j].logit = logit[j];
        if constexpr (Sums::SHIFTED) {
            T of_m[QUAD];
            rows.logvar_q.load(begin + where[j], of_m);
            out[j].logvar_q = of_m[j];
            sigma_m[j] = exp(of_m[j] * T(0.5));
        }
    }
    rows.template over<KL ? 5 : MEAN ? 3 : 2>(begin, end, [&](int64_t k, const auto& v) {
        T eps[QUAD];
        if constexpr (DRAW) noise->draw(k, eps);
#pragma unroll
        for (int j = 0; j < QUAD; ++j) {
            const bool is_m = where[j] == int(k - begin);
            Part& s = sum[j];
            Sums& m = out[j];
            const T lv = v[1][j], e = is_m ? T(0) : exp(v[0][j] - reference_of(logit[j]));
            if (is_m) m.logvar_q = lv;
            s.others += e;
            [[maybe_unused]] T sigma{};
            if constexpr (!unit && DRAW) sigma = exp(lv * T(0.5));
            if constexpr (KL) {
                const T lv_p = v[4][j], x = lv - lv_p, difference = v[2][j] - v[3][j];
                const T ratio = exp(x), precision = exp(-lv_p);
                const T base = exp_excess(x, ratio) + difference * difference * precision;
                s.base += is_m ? T(0) : base;
                s.trace += e * ratio;
                if constexpr (unit) {
                    s.squares += e * e * ratio;
                } else {
                    const T variance = DRAW ? sigma * sigma : exp(lv);
                    s.variances += is_m ? T(0) : variance;
                    s.squares += e * e * precision;
                }
                if (is_m) m.logvar_p = lv_p, m.difference = difference;
            }
            if constexpr (MEAN) s.means += v[2][j];
            if constexpr (DRAW) {
                if (is_m) m.normal = eps[j];
                if constexpr (unit) {
                    s.noise += is_m ? T(0) : eps[j];
                    if constexpr (Sums::SHIFTED) {
                        const T d = sigma_m[j] * expm1((lv - m.logvar_q) * T(0.5));
                        s.shifted_noise += d * eps[j];
                        s.shift += e * d;
                    }
                } else {
                    s.noise += is_m ? T(0) : sigma * eps[j];
                }
                if constexpr (DENSITY) s.densities += eps[j] * eps[j] + lv;
            }
        }
    });
#pragma unroll
    for (int j = 0; j < QUAD; ++j) {
        const Part& s = sum[j];
        Sums& o = out[j];
        o.others = s.others, o.base = s.base, o.trace = s.trace, o.squares = s.squares, o.variances = s.variances;
        o.noise = s.noise, o.shifted_noise = s.shifted_noise, o.shift = s.shift, o.means = s.means;
        o.densities = s.densities;
    }
}

// From the complete sums of a set of K parts, at one coordinate: stats, w~ (where MEAN), and the shares of the KL and
// of log q.
template <class T>
struct SetResult {
    T w_sum;
    double kl, density;
};
template <class T, Coupling C, bool KL, bool DRAW, bool MEAN, bool DENSITY>
__device__ __forceinline__ SetResult<T> finish_sums(const SetSums<T, C, KL, DRAW, MEAN, DENSITY>& m, int64_t parts,
                                                    T (&stats)[Stats<C, KL, DRAW>::COUNT]) {
    using S = Stats<C, KL, DRAW>;
    constexpr bool unit = S::unit;
    SetResult<T> result = {};
    const T ref = reference_of(m.logit), one = exp(-ref), e_m = parts ? exp(m.logit - ref) : T(0);
    const T others = one + T(m.others), z = others + e_m;
    const T inverse_z = 1 / z, rho_m = e_m * inverse_z, one_minus_rho = others * inverse_z;
    const T rest = one * inverse_z;  // 1 - sum rho = exp(-L)
    stats[S::LARGEST_LOGIT] = m.logit;
    stats[S::INVERSE_Z] = inverse_z;
    stats[S::ONE_MINUS_RHO_M] = one_minus_rho;

    if constexpr (DRAW) {
        const T sigma_m = exp(m.logvar_q * T(0.5)), noise_others = T(m.noise);
        const T total_noise = noise_others + (unit ? m.normal : sigma_m * m.normal);
        T factor = rest;
        if constexpr (m.SHIFTED) factor = sigma_m * rest - T(m.shift) * inverse_z;
        if constexpr (MEAN)
            result.w_sum = T(m.means) + (unit ? T(m.shifted_noise) + factor * total_noise : rest * total_noise);
        stats[S::NOISE] = total_noise;
        if constexpr (!KL || unit) stats[S::NOISE_OTHERS] = noise_others;
        stats[S::NOISE_FACTOR] = KL ? factor : rest;
        if constexpr (KL && unit) stats[S::LOGVAR_M] = m.logvar_q;
    }
    T of_m{}, trace{};
    if constexpr (KL) {
        const T K = T(parts), ratio_m = exp(m.logvar_q - m.logvar_p), precision_m = exp(-m.logvar_p);
        const T first = T(m.trace) * inverse_z, second = T(m.squares) * inverse_z * inverse_z;
        const T quadratic = m.difference * m.difference * precision_m;
        T y_m, h_others;
        if constexpr (unit) {
            const T factor_m = one_minus_rho * one_minus_rho + (K - 1) * rho_m * rho_m;
            trace = K * second - 2 * first;
            of_m = factor_m * ratio_m + quadratic;
            y_m = ratio_m * ((K - 1) * rho_m - one_minus_rho);
            h_others = K * second - first;
            stats[S::FACTOR_M] = factor_m;
        } else {
            const T v_others = T(m.variances), v = v_others + exp(m.logvar_q);
            trace = second * v - 2 * first;
            of_m = one_minus_rho * one_minus_rho * ratio_m + rho_m * rho_m * v_others * precision_m + quadratic;
            y_m = rho_m * v_others * precision_m - one_minus_rho * ratio_m;
            h_others = second * v - first;
            stats[S::V] = v;
            stats[S::V_OTHERS] = v_others;
            stats[S::Q] = second + rho_m * rho_m * precision_m;
            stats[S::Q_OTHERS] = second;
        }
        stats[S::H] = rho_m * y_m + h_others;
        stats[S::H_OTHERS] = h_others;
    }
    if (!parts) return result;
    const double log_normaliser = double(ref) + double(log(z));
    if constexpr (KL) {
        const double trace_and_means = m.base + double(trace) + (double(of_m) - 1);
        result.kl = 0.5 * (trace_and_means - (double(m.logvar_q) - double(m.logvar_p))) + log_normaliser;
    }
    if constexpr (DENSITY) result.density = log_normaliser - 0.5 * m.densities;
    return result;
}

// Rows of stats [COUNT][B][D] of one set.
template <class T, int COUNT>
__device__ __forceinline__ void store_stats(T* stats, const Sets& s, const Place& p, const T (&v)[QUAD][COUNT]) {
    if (!stats) return;
    T* row = stats + p.slot.set * s.width + p.coordinate;
#pragma unroll
    for (int i = 0; i < COUNT; ++i, row += s.count * s.width)
#pragma unroll
        for (int j = 0; j < QUAD; ++j)
            if (j < p.width) row[j] = v[j][i];
}
template <class T, int COUNT>
__device__ __forceinline__ void load_stats(const T* stats, const Sets& s, const Place& p, T (&v)[QUAD][COUNT]) {
    const T* row = stats + p.slot.set * s.width + p.coordinate;
#pragma unroll
    for (int i = 0; i < COUNT; ++i, row += s.count * s.width)
#pragma unroll
        for (int j = 0; j < QUAD; ++j) v[j][i] = j < p.width ? row[j] : T(0);
}

// Zeros to the rows of outputs beyond a padded set's length.
template <class T, Access A>
__device__ __forceinline__ void pad_rows(std::initializer_list<const Tensor*> outputs, const Place& p) {
    const T zeros[QUAD] = {};
    if (p.slot.pad_begin < p.slot.pad_end)
        for (const Tensor* t : outputs) {
            const Rows<T, A> rows(*t, p.slot.set, 0, p.coordinate, p.width);
            for (int64_t k = p.slot.pad_begin; k < p.slot.pad_end; ++k) rows.store(k, zeros);
        }
}

}  // namespace gpu
}  // namespace compvae
