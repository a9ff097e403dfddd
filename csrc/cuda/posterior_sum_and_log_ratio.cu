#include "part_noise.h"

namespace compvae {
namespace gpu {
namespace {

// One part: its sample's deviation from the prior, and what the gradients need of it.
template <class T>
struct Part {
    T sigma, eps, rho, noise, y, precision, upstream;
};
// v: logit, log-variance, mean, the prior's mean and log-variance; g_w, g: the gradients of w~ and of the log-ratio.
// upstream is the gradient of w_i but for -d log q / dw_i.
template <class T, Coupling C>
__device__ __forceinline__ Part<T> part_of(const PartStats<T, C>& set, const T (&v)[5][QUAD], int j, T eps, T g_w, T g) {
    Part<T> p;
    p.sigma = exp(v[1][j] * T(0.5));
    p.eps = eps;
    p.rho = set.rho(v[0][j]);
    p.noise = set.of_part(p.rho, p.sigma, eps);
    p.y = v[2][j] - v[3][j] + p.noise;
    p.precision = exp(-v[4][j]);
    p.upstream = g_w - g * (p.y * p.precision);
    return p;
}

template <class T>
struct RatioSums {
    double squares, pull;  // sum y^2 / s^2 + log s^2; sum rho eps (unit) or rho eps / sigma (scaled)

    template <class F>
    __device__ __forceinline__ void visit(F f) {
        f(squares), f(pull);
    }
    __device__ __forceinline__ void join(const RatioSums& next) { squares += next.squares, pull += next.pull; }
};

template <class T, Coupling C>
struct Phases {
    template <int P>
    using State = std::conditional_t<P == 0, SetSums<T, C, false, true, true, true>, RatioSums<T>>;
};

// Left for the backward pass: the stats of the parts, then exp(L) sum rho_j eps_j (unit) or
// exp(L) sum rho_j eps_j / sigma_j (scaled), which -d log q / dw_i holds.
template <Coupling C>
constexpr int PULL = Stats<C, false, true>::COUNT;

template <class T, Coupling C, Access A>
struct LogRatio : Call {
    static constexpr bool unit = C == Coupling::unit;
    static constexpr int PHASES = 2, BLOCKS = blocks_for<T>(unit ? 2 : 3);
    static constexpr bool APPLIES = false, NUMBERS = true;
    template <int P>
    using State = typename Phases<T, C>::template State<P>;
    using Kept = PartStats<T, C>;

    Posterior in;
    Tensor w_sum, numbers;
    T* stats;

    LogRatio(const Launch& launch, const Sets& s, const Posterior& in, const Tensor& w_sum, const Tensor& ratio, void* stats)
        : Call(launch, s), in(in), w_sum(w_sum), numbers(ratio), stats(static_cast<T*>(stats)) {}

    __device__ void pad(const Place&) const {}
    template <int P>
    __device__ __forceinline__ void reduce(const Place& p, Kept (&kept)[QUAD], int64_t begin, int64_t end, State<P> (&state)[QUAD]) const {
        const PosteriorRows<T, A> rows(in, p);
        const Noise<T> noise(sets, p);
        if constexpr (P == 0) {
            sum_chunk(rows, &noise, begin, end, state);
        } else {
            T squares[QUAD] = {}, pull[QUAD] = {};
            rows.template over<5>(begin, end, [&](int64_t k, const auto& v) {
                T eps[QUAD];
                noise.draw(k, eps);
#pragma unroll
                for (int j = 0; j < QUAD; ++j) {
                    const Part<T> part = part_of(kept[j], v, j, eps[j], T(0), T(0));
                    squares[j] += part.y * part.y * part.precision + v[4][j];
                    pull[j] += unit ? part.rho * eps[j] : part.rho * eps[j] / part.sigma;
                }
            });
            for (int j = 0; j < QUAD; ++j) state[j] = {double(squares[j]), double(pull[j])};
        }
    }
    template <int P>
    __device__ __forceinline__ void finish(const Place& p, Kept (&kept)[QUAD], State<P> (&state)[QUAD], double& number) const {
        T w[QUAD];
#pragma unroll
        for (int j = 0; j < QUAD; ++j) {
            if constexpr (P == 0) {
                const SetResult<T> result = finish_sums(state[j], p.slot.size, kept[j].v);
                w[j] = result.w_sum;
                if (j < p.width) number -= result.density;
            } else {
                if (j < p.width) number -= 0.5 * state[j].squares;
            }
        }
        if constexpr (P == 0) {
            store_quad(w_sum, p.slot.set, 0, p.coordinate, p.width, w);
        } else if (stats) {
            T v[QUAD][PULL<C> + 1];
#pragma unroll
            for (int j = 0; j < QUAD; ++j) {
#pragma unroll
                for (int i = 0; i < PULL<C>; ++i) v[j][i] = kept[j].v[i];
                v[j][PULL<C>] = T(state[j].pull / double(kept[j].rest_of_rho()));
            }
            store_stats(stats, sets, p, v);
        }
    }
};

template <class T, Coupling C, Access A>
struct LogRatioGradient : Call {
    static constexpr bool unit = C == Coupling::unit;
    static constexpr int PHASES = 1, BLOCKS = blocks_for<T>(2);
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
    Tensor grad_w, grad_ratio;
    const T* stats;
    bool path;

    LogRatioGradient(const Launch& launch, const Sets& s, const Posterior& in, const Tensor& grad_w, const Tensor& grad_ratio,
                     const void* stats, const Posterior& grad, bool path)
        : Call(launch, s), in(in), grad(grad), grad_w(grad_w), grad_ratio(grad_ratio), stats(static_cast<const T*>(stats)), path(path) {}

    __device__ void pad(const Place& p) const {
        pad_rows<T, A>({&grad.mu_q, &grad.logvar_q, &grad.rho_logits, &grad.mu_p, &grad.logvar_p}, p);
    }

    __device__ __forceinline__ void load_set(const Place& p, PartStats<T, C> (&set)[QUAD], T (&pull)[QUAD]) const {
        T v[QUAD][PULL<C> + 1];
        load_stats(stats, sets, p, v);
#pragma unroll
        for (int j = 0; j < QUAD; ++j) {
#pragma unroll
            for (int i = 0; i < PULL<C>; ++i) set[j].v[i] = v[j][i];
            pull[j] = v[j][PULL<C>];
        }
    }
    // f(k, j, part j's Part) for each coordinate of each part, then after(k)
    template <class F, class After>
    __device__ __forceinline__ void over(const Place& p, const PartStats<T, C> (&set)[QUAD], int64_t begin, int64_t end, F f,
                                         After after) const {
        const Noise<T> noise(sets, p);
        const T g = value_of_set<T>(grad_ratio, p.slot.set);
        T g_w[QUAD];
        load_quad(grad_w, p.slot.set, 0, p.coordinate, p.width, g_w);
        PosteriorRows<T, A>(in, p).template over<5>(begin, end, [&](int64_t k, const auto& v) {
            T eps[QUAD];
            noise.draw(k, eps);
#pragma unroll
            for (int j = 0; j < QUAD; ++j) f(k, j, part_of(set[j], v, j, eps[j], g_w[j], g), g);
            after(k);
        });
    }
    static __device__ __forceinline__ T weighted(const Part<T>& part) {
        return unit ? rounded_product(part.upstream, part.sigma) : part.upstream;
    }

    template <int>
    __device__ __forceinline__ void reduce(const Place& p, Kept (&)[QUAD], int64_t begin, int64_t end, State<0> (&state)[QUAD]) const {
        PartStats<T, C> set[QUAD];
        T pull[QUAD];
        load_set(p, set, pull);
        CentredChunk<T> chunk[QUAD] = {};
        over(
            p, set, begin, end,
            [&](int64_t, int j, const Part<T>& part, T) { chunk[j].add(part.rho, weighted(part)); },
            [](int64_t) {});
        for (int j = 0; j < QUAD; ++j) state[j] = chunk[j].centred();
    }
    template <int>
    __device__ __forceinline__ void finish(const Place& p, Kept (&kept)[QUAD], State<0> (&state)[QUAD], double&) const {
        PartStats<T, C> set[QUAD];
        T pull[QUAD];
        load_set(p, set, pull);
#pragma unroll
        for (int j = 0; j < QUAD; ++j) state[j].settle(set[j].rest_of_rho(), kept[j].reference, kept[j].offset);
    }
    __device__ __forceinline__ void apply(const Place& p, Kept (&kept)[QUAD], int64_t begin, int64_t end) const {
        PartStats<T, C> set[QUAD];
        T pull[QUAD], to[5][QUAD];
        load_set(p, set, pull);
        const PosteriorRows<T, A> out(grad, p);
        over(
            p, set, begin, end,
            [&](int64_t, int j, const Part<T>& part, T g) {
                const T centred = (weighted(part) - kept[j].reference) + kept[j].offset;
                T to_mu = part.upstream;
                T to_logvar = unit ? part.upstream * part.noise : part.sigma * part.eps * centred;
                T to_logit = -set[j].noise() * centred;
                if (path) {
                    // the path through log q: exp(L) cancels in all but the means and, in "unit", the log-variances
                    const T inverse_sigma = 1 / part.sigma, scaled_eps = part.eps * inverse_sigma;
                    const T along = unit ? (part.eps + pull[j]) * inverse_sigma : scaled_eps + pull[j];
                    to_mu += g * along;
                    to_logvar += g * (unit ? along * part.noise : part.eps * part.eps);
                    to_logit -= g * set[j].noise() * (unit ? part.eps : scaled_eps);
                } else {
                    to_logvar += g;
                    to_logit -= g;
                }
                const T to_prior = part.y * part.precision;
                to[0][j] = to_mu;
                to[1][j] = T(0.5) * to_logvar;
                to[2][j] = part.rho * to_logit;
                to[3][j] = g * to_prior;
                to[4][j] = T(0.5) * g * (part.y * to_prior - 1);
            },
            [&](int64_t k) {
                out.mu_q.store(k, to[0]);
                out.logvar_q.store(k, to[1]);
                out.rho_logits.store(k, to[2]);
                out.mu_p.store(k, to[3]);
                out.logvar_p.store(k, to[4]);
            });
    }
};

}  // namespace

Status posterior_sum_and_log_ratio_forward(const Launch& launch, const Sets& s, const Posterior& in, const Tensor& w_sum,
                                           const Tensor& ratio, void* stats, Options options) {
    const Tensor* tensors[] = {&in.mu_q, &in.logvar_q, &in.rho_logits, &in.mu_p, &in.logvar_p};
    return by_type<false>(options, tensors, s.width, [&](auto zero, auto coupling, auto access) {
        return run(launch, LogRatio<decltype(zero), decltype(coupling)::value, decltype(access)::value>(launch, s, in, w_sum,
                                                                                                       ratio, stats));
    });
}

Status posterior_sum_and_log_ratio_backward(const Launch& launch, const Sets& s, const Posterior& in, const Tensor& grad_w,
                                            const Tensor& grad_ratio, const void* stats, const Posterior& grad, bool path,
                                            Options options) {
    const Tensor* tensors[] = {&in.mu_q,   &in.logvar_q,   &in.rho_logits,   &in.mu_p,   &in.logvar_p,
                               &grad.mu_q, &grad.logvar_q, &grad.rho_logits, &grad.mu_p, &grad.logvar_p};
    return by_type<false>(options, tensors, s.width, [&](auto zero, auto coupling, auto access) {
        return run(launch, LogRatioGradient<decltype(zero), decltype(coupling)::value, decltype(access)::value>(
                               launch, s, in, grad_w, grad_ratio, stats, grad, path));
    });
}

}  // namespace gpu
}  // namespace compvae
