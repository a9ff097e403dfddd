// One shard of sets whose parts are spread over processes: what it adds to the joint sums, and its parts' gradients
// once those are known. compvae_fast/distributed/joint.py says how shards are joined.
//
// As in multiset.h the part with the largest logit, m, is kept out of the sums; here runs of parts have an m each, and
// joining two runs lets the lesser m into the sums.
#include <limits>

#include "multiset.h"

namespace compvae {
namespace COMPVAE_ISA {
namespace {

constexpr int RUN = 8 * CHUNK;  // parts

// Rows of the state, float64 [STATE][B][D]: five numbers of m, then sums over the other parts, relative to
// ref = max(0, nu_m), with e_i = exp(nu_i - ref), d_i = sigma_i - sigma_m, R_i = sigma_i^2 / s_i^2:
// e; R - 1 - log R + (mu - m)^2 / s^2; e R; e^2 R (unit), e^2 / s^2 (scaled); eps (unit), sigma eps (scaled); mu;
// d eps (unit), sigma^2 (scaled); e d (unit). The sum of mu is over all parts.
enum { LOGIT, LOGVAR_Q, LOGVAR_P, DIFFERENCE, NORMAL, OTHERS, BASE, TRACE, SQUARES, NOISE, MEANS, SPREAD, SHIFT, STATE };

template <Coupling C>
struct State {
    alignas(64) double row[STATE][BLOCK];

    void clear() {
        std::memset(row, 0, sizeof row);
        for (double& logit : row[LOGIT]) logit = -std::numeric_limits<double>::infinity();
    }
    // Joins a later run; both have parts.
    void join(const State& run) {
        for (int column = 0; column < BLOCK; column += LANES / 2) join(run, column);
    }

  private:
    static constexpr bool unit = C == Coupling::unit;

    void join(const State& run, int column) {
        VD a[STATE], b[STATE];
        for (int s = 0; s < STATE; ++s) {
            a[s] = load<VD>(row[s] + column);
            b[s] = load<VD>(run.row[s] + column);
        }
        const auto later = b[LOGIT] > a[LOGIT];
        VD winner[STATE], loser[STATE];
        for (int s = 0; s < STATE; ++s) {
            winner[s] = select<VD>(later, b[s], a[s]);
            loser[s] = select<VD>(later, a[s], b[s]);
        }
        const auto reference = [](VD logit) { return select<VD>(logit < 0, VD{}, logit); };
        const VD ref = reference(winner[LOGIT]), rescale = exp(reference(loser[LOGIT]) - ref);
        const VD e = exp(loser[LOGIT] - ref), sigma = exp(loser[LOGVAR_Q] * 0.5);
        const VD x = loser[LOGVAR_Q] - loser[LOGVAR_P], ratio = exp(x), precision = exp(-loser[LOGVAR_P]);
        const VD others = loser[OTHERS] * rescale + e;
        const VD noise = loser[NOISE] + (unit ? loser[NORMAL] : sigma * loser[NORMAL]);
        winner[OTHERS] += others;
        winner[BASE] += loser[BASE] + exp_excess(x, ratio) + loser[DIFFERENCE] * loser[DIFFERENCE] * precision;
        winner[TRACE] += loser[TRACE] * rescale + e * ratio;
        winner[SQUARES] += loser[SQUARES] * rescale * rescale + e * e * (unit ? ratio : precision);
        winner[NOISE] += noise;
        winner[MEANS] += loser[MEANS];
        if constexpr (unit) {
            const VD shift = -sigma * expm1((winner[LOGVAR_Q] - loser[LOGVAR_Q]) * 0.5);  // sigma_m of the two
            winner[SPREAD] += loser[SPREAD] + shift * noise;
            winner[SHIFT] += loser[SHIFT] * rescale + shift * others;
        } else {
            winner[SPREAD] += loser[SPREAD] + sigma * sigma;
        }
        for (int s = 0; s < STATE; ++s) store(row[s] + column, winner[s]);
    }
};

template <class T, Coupling C>
class Shard {
    using V = typename Simd<T>::V;
    static constexpr int N = Simd<T>::N;
    static constexpr bool unit = C == Coupling::unit;

  public:
    void run(const Sets& sets, const Place& place, const Posterior& in, double* state) {
        const int64_t size = sets.size(place.set), row = sets.row(place.set);
        noise_.prepare(sets, place);
        total_.clear();
        for (int64_t first = 0; first < size; first += RUN) {
            const int64_t end = first + RUN < size ? first + RUN : size;
            run_.clear();
            find_largest(place, in.rho_logits, row, first, end);
            read_largest(place, in, row);
            for (int64_t part = first; part < end; part += CHUNK) {
                const int n = int(end - part < CHUNK ? end - part : CHUNK);
                stage(sets, place, in, row, part, n, size);
                for (int column = 0; column < place.width; column += N) add(column, n, T(part - first));
            }
            if (first)
                total_.join(run_);
            else
                total_ = run_;
        }
        for (int s = 0; s < STATE; ++s)
            std::memcpy(state + (s * sets.count + place.set) * sets.width + place.coordinate, total_.row[s],
                        sizeof(double) * place.width);
    }

  private:
    Rows<T> mu_q_, logvar_q_, logits_, mu_p_, logvar_p_;
    NoiseRows<T> noise_;
    State<C> total_, run_;
    alignas(64) T largest_[BLOCK], logvar_m_[BLOCK];
    alignas(64) T where_[BLOCK];  // counted from the run's first part
    int64_t first_ = 0;

    void find_largest(const Place& place, const Tensor& logits, int64_t row, int64_t first, int64_t end) {
        first_ = first;
        for (int64_t part = first; part < end; part += CHUNK) {
            const int n = int(end - part < CHUNK ? end - part : CHUNK);
            logits_.stage(logits, place.set, row + part, n, place.coordinate, place.width,
                          {0, part + n < end ? n : 0, 0});
            for (int column = 0; column < place.width; column += N) {
                V largest = load<V>(part == first ? logits_[0] + column : largest_ + column);
                V where = part == first ? V{} : load<V>(where_ + column);
                for (int k = part == first; k < n; ++k) {
                    logits_.prefetch(k, column);
                    const V nu = load<V>(logits_[k] + column);
                    const auto larger = nu > largest;
                    largest = select<V>(larger, nu, largest);
                    where = select<V>(larger, splat<V>(T(part - first + k)), where);
                }
                store(largest_ + column, largest);
                store(where_ + column, where);
            }
        }
    }

    void read_largest(const Place& place, const Posterior& in, int64_t row) {
        for (int i = 0; i < BLOCK; ++i) logvar_m_[i] = T(0);
        for (int i = 0; i < place.width; ++i) {
            const auto value = [&](const Tensor& t) {
                double v;
                read_row(address(t, place.set, row + first_ + int64_t(where_[i]), place.coordinate + i), t.dtype, 1, 1, &v);
                return v;
            };
            run_.row[LOGIT][i] = largest_[i];
            run_.row[LOGVAR_Q][i] = value(in.logvar_q);
            run_.row[LOGVAR_P][i] = value(in.logvar_p);
            run_.row[DIFFERENCE][i] = value(in.mu_q) - value(in.mu_p);
            logvar_m_[i] = T(run_.row[LOGVAR_Q][i]);
        }
    }

    void stage(const Sets& sets, const Place& place, const Posterior& in, int64_t row, int64_t part, int n,
               int64_t size) {
        const Next next = next_of(sets, place, n, size);
        const auto rows = [&](Rows<T>& r, const Tensor& t) {
            r.stage(t, place.set, row + part, n, place.coordinate, place.width, next);
        };
        rows(logits_, in.rho_logits);
        rows(logvar_q_, in.logvar_q);
        rows(mu_q_, in.mu_q);
        rows(mu_p_, in.mu_p);
        rows(logvar_p_, in.logvar_p);
        noise_.draw(part, n, [&](int k) {
            for (int column = 0; column < BLOCK; column += N) {
                logits_.prefetch(k, column);
                logvar_q_.prefetch(k, column);
            }
        });
    }

    void add(int column, int n, T offset) {
        const V ref = load<V>(largest_ + column) < 0 ? V{} : load<V>(largest_ + column);
        const V m = load<V>(where_ + column) - offset, logvar_m = load<V>(logvar_m_ + column);
        const V sigma_m = exp(logvar_m * T(0.5));
        V sum[STATE], normal_m;
        if (!add_parts<true>(column, n, ref, m, logvar_m, sigma_m, sum, normal_m))
            add_parts<false>(column, n, ref, m, logvar_m, sigma_m, sum, normal_m);
        for (int s = OTHERS; s < STATE; ++s) add_to(run_.row[s] + column, widen(sum[s]));
        const auto here = (m >= 0) & (m < T(n));
        for (int i = 0; i < N; ++i)
            if (here[i]) run_.row[NORMAL][column + i] = normal_m[i];
    }

    // QUICK is for log-variances that are not extreme, as in multiset.h; where one is, it returns false.
    template <bool QUICK>
    COMPVAE_INLINE bool add_parts(int column, int n, V ref, V m, V logvar_m, V sigma_m, V (&out)[STATE],
                                  V& normal_out) const {
        V sum[STATE] = {}, normal_m{}, index{};
        typename Simd<T>::I largest{};
        for (int k = 0; k < n; ++k, index += T(1)) {
            mu_q_.prefetch(k, column);
            mu_p_.prefetch(k, column);
            logvar_p_.prefetch(k, column);
            const auto is_m = m == index;
            const auto add = [&](int s, V v) { sum[s] = select<V>(is_m, sum[s], sum[s] + v); };
            const V lv = load<V>(logvar_q_[k] + column), lv_p = load<V>(logvar_p_[k] + column), x = lv - lv_p;
            const V nu = load<V>(logits_[k] + column) - ref;
            V e, sigma, precision;
            if constexpr (QUICK) {
                V powers[] = {nu, lv * T(0.5), -lv_p};
                exp_abreast(powers);
                e = powers[0], sigma = powers[1], precision = powers[2];
            } else {
                e = exp(nu), sigma = exp(lv * T(0.5)), precision = exp(-lv_p);
            }
            const V variance = sigma * sigma, ratio = QUICK ? variance * precision : exp(x);
            const V mean = load<V>(mu_q_[k] + column), difference = mean - load<V>(mu_p_[k] + column);
            const V eps = load<V>(noise_[k] + column);
            largest = maximum(largest, maximum(magnitude_bits(lv), magnitude_bits(lv_p)));
            e = select<V>(is_m, V{}, e);
            sum[OTHERS] += e;
            add(BASE, exp_excess(x, ratio) + difference * difference * precision);
            sum[TRACE] += e * ratio;
            sum[SQUARES] += e * (e * (unit ? ratio : precision));
            sum[MEANS] += mean;
            normal_m = select<V>(is_m, eps, normal_m);
            if constexpr (unit) {
                const V y = (lv - logvar_m) * T(0.5);
                const V d = select<V>(is_small(y, TAIL), sigma_m * (exp_tail(y) * (y * y) + y), sigma - sigma_m);
                add(NOISE, eps);
                add(SPREAD, d * eps);
                sum[SHIFT] += e * d;
            } else {
                add(NOISE, sigma * eps);
                add(SPREAD, variance);
            }
        }
        std::memcpy(out, sum, sizeof sum);
        normal_out = normal_m;
        return !QUICK || all(largest <= magnitude_bits(splat<V>(T(MODERATE))));
    }
};

// Gradients of the parts given the joint rows [JOINT][B][D], in the compute type.
template <class T, Coupling C>
class ShardGradient {
    using V = typename Simd<T>::V;
    static constexpr bool unit = C == Coupling::unit;

  public:
    // Common: ref = max(0, nu_m), 1/Z, 1 - rho_m, H and H_OTHERS: sum_j rho_j y_j with and without m, y as in multiset.h;
    // then unit: E, E - eps_m, its factor in w~, sigma_m, (1 - rho_m)^2 + (K - 1) rho_m^2, K;
    // scaled: T, 1 - sum rho, V = sum sigma^2 and Q = sum rho^2 / s^2, with and without m.
    enum {
        REF, INVERSE_Z, ONE_MINUS_RHO_M, H, H_OTHERS,
        E, E_OTHERS, E_FACTOR, SIGMA_M, FACTOR_M, COUNT,
        TOTAL = E, REST, ALL_V, OTHERS_V, ALL_Q, OTHERS_Q,
        JOINT
    };

    void run(const Sets& sets, const Place& place, const Posterior& in, const Tensor& grad_w, const Tensor& grad_kl,
             const T* joint, const Posterior& grad) {
        const int64_t size = sets.size(place.set), row = sets.row(place.set);
        grad_kl_ = read_value<T>(grad_kl, place.set);
        read_block(grad_w, place, grad_w_);
        read_stats(joint, JOINT, sets, place, joint_);
        noise_.prepare(sets, place);
        const Tensor* inputs[] = {&in.mu_q, &in.logvar_q, &in.rho_logits, &in.mu_p, &in.logvar_p};
        const Tensor* outputs[] = {&grad.mu_q, &grad.logvar_q, &grad.rho_logits, &grad.mu_p, &grad.logvar_p};
        for (int64_t part = 0; part < size; part += CHUNK) {
            const int n = int(size - part < CHUNK ? size - part : CHUNK);
            for (int i = 0; i < 5; ++i) {
                in_[i].stage(*inputs[i], place.set, row + part, n, place.coordinate, place.width,
                             next_of(sets, place, n, size));
                out_[i].stage(*outputs[i], place.set, row + part, n, place.coordinate, place.width, is_streamed<T>(sets));
            }
            noise_.draw(part, n);
            for (int column = 0; column < place.width; column += Simd<T>::N) write(column, n);
            for (int i = 0; i < 5; ++i)
                out_[i].finish(*outputs[i], place.set, row + part, n, place.coordinate, place.width);
        }
        for (const Tensor* t : outputs) zero_padding(sets, place, *t);
    }

  private:
    enum { MU_Q, LOGVAR, LOGITS, MU_P, PRIOR };
    Rows<T> in_[5];
    Results<T> out_[5];
    NoiseRows<T> noise_;
    alignas(64) T joint_[JOINT][BLOCK], grad_w_[BLOCK];
    T grad_kl_ = 0;

    void write(int column, int n) {
        V of[JOINT];
        for (int s = 0; s < JOINT; ++s) of[s] = load<V>(joint_[s] + column);
        const V g_w = load<V>(grad_w_ + column), one = splat<V>(T(1));
        const T g = grad_kl_;
        for (int k = 0; k < n; ++k) {
            for (const Rows<T>& rows : in_) rows.prefetch(k, column);
            const V lv = load<V>(in_[LOGVAR][k] + column), lv_p = load<V>(in_[PRIOR][k] + column), x = lv - lv_p;
            const V difference = load<V>(in_[MU_Q][k] + column) - load<V>(in_[MU_P][k] + column);
            const V rho = exp(load<V>(in_[LOGITS][k] + column) - of[REF]) * of[INVERSE_Z];
            const V sigma = exp(lv * T(0.5)), ratio = exp(x), precision = exp(-lv_p);
            const V eps = load<V>(noise_[k] + column), scaled_difference = difference * precision;
            const V quadratic = difference * scaled_difference, growth = x + exp_excess(x, ratio);
            // Only m can have more; up to there the plain forms do not cancel.
            const auto is_m = rho > T(0.5);
            const V rest = select<V>(is_m, of[ONE_MINUS_RHO_M], one);
            V to_logvar_q, to_logvar_p, y, from_noise, to_logit;
            if constexpr (unit) {
                const V K = of[COUNT];
                to_logvar_q = select<V>(is_m, ratio * of[FACTOR_M] - 1, growth + ratio * ((K * rho - 2) * rho));
                to_logvar_p = -(quadratic + to_logvar_q);
                y = ratio * select<V>(is_m, (K - 1) * rho - of[ONE_MINUS_RHO_M], K * rho - 1);
                from_noise = sigma * (rest * eps - rho * select<V>(is_m, of[E_OTHERS], of[E]));
                to_logit = of[E] * (sigma - of[SIGMA_M] + of[E_FACTOR]);
            } else {
                const V own = select<V>(is_m, ratio * (rest * rest) - 1, growth - 2 * rho * ratio);
                const V shared = rho * precision * select<V>(is_m, of[OTHERS_V], of[ALL_V]);
                to_logvar_q = own + sigma * sigma * select<V>(is_m, of[OTHERS_Q], of[ALL_Q]);
                to_logvar_p = -(quadratic + own + rho * shared);
                y = shared - rest * ratio;
                from_noise = of[REST] * sigma * eps;
                to_logit = of[REST] * of[TOTAL];
            }
            const V h = select<V>(is_m, y * of[ONE_MINUS_RHO_M] - of[H_OTHERS], y - of[H]);
            out_[MU_Q].put(k, column, g_w + g * scaled_difference);
            out_[LOGVAR].put(k, column, T(0.5) * (g * to_logvar_q + g_w * from_noise));
            out_[LOGITS].put(k, column, rho * (g * (1 + h) - g_w * to_logit));
            out_[MU_P].put(k, column, -g * scaled_difference);
            out_[PRIOR].put(k, column, T(0.5) * g * to_logvar_p);
        }
    }
};

}  // namespace

void posterior_shard_forward(const Sets& sets, const Posterior& in, double* state, Options options) {
    by_type_and_coupling(options, [&](auto zero, auto coupling) {
        using Worker = Shard<decltype(zero), decltype(coupling)::value>;
        for_each_place<Worker>(
            sets, [&](Worker& worker, const Place& place, int64_t) { worker.run(sets, place, in, state); });
    });
}

void posterior_shard_backward(const Sets& sets, const Posterior& in, const Tensor& grad_w, const Tensor& grad_kl,
                              const void* joint, const Posterior& grad, Options options) {
    by_type_and_coupling(options, [&](auto zero, auto coupling) {
        using T = decltype(zero);
        using Worker = ShardGradient<T, decltype(coupling)::value>;
        for_each_place<Worker>(sets, [&](Worker& worker, const Place& place, int64_t) {
            worker.run(sets, place, in, grad_w, grad_kl, static_cast<const T*>(joint), grad);
        });
    });
}

}  // namespace COMPVAE_ISA
}  // namespace compvae
