// The density of given parts. The inverse of the transform loses a factor exp(L), so everything here is float64.
#include "shards.h"

namespace compvae {
namespace gpu {
namespace {

// Left for the backward pass, [STATS][B][D]: max(0, nu_m); 1/Z; E (unit) or T (scaled); and exp(L) sum rho_j eps_j
// (unit) or exp(L) sum rho_j eps_j / sigma_j (scaled).
enum { REF, INVERSE_Z, TOTAL, PULL, STATS };

struct Normaliser {
    double ref, z, total;  // max(0, largest logit); sum exp(nu - ref), without the 1; sum of residuals

    template <class F>
    __device__ void visit(F f) {
        f(ref), f(z), f(total);
    }
    __device__ void join(const Normaliser& next) {
        const double larger = next.ref > ref ? next.ref : ref;
        z = z * exp(ref - larger) + next.z * exp(next.ref - larger);
        total += next.total;
        ref = larger;
    }
};
struct Squares {
    double squares, pull;

    template <class F>
    __device__ void visit(F f) {
        f(squares), f(pull);
    }
    __device__ void join(const Squares& next) { squares += next.squares, pull += next.pull; }
};
template <int P>
struct StateOf {
    using Type = std::conditional_t<P == 0, Normaliser, Squares>;
};

// One part: v holds w, its mean, log-variance and logit.
template <Coupling C>
struct Part {
    static constexpr bool unit = C == Coupling::unit;
    double residual, inverse_sigma, rho, eps;

    __device__ Part(const double (&v)[4][QUAD], int j) {
        inverse_sigma = exp(-0.5 * v[2][j]);
        residual = unit ? (v[0][j] - v[1][j]) * inverse_sigma : v[0][j] - v[1][j];
    }
    template <class Set>
    __device__ void invert(double logit, const Set& set) {
        rho = exp(logit - set.v[REF]) * set.v[INVERSE_Z];
        const double x = residual + rho * set.v[TOTAL];
        eps = unit ? x : x * inverse_sigma;
    }
};

template <Coupling C>
struct Density : Call {
    static constexpr bool unit = C == Coupling::unit;
    static constexpr int PHASES = 2, BLOCKS = 1;
    static constexpr bool APPLIES = false, NUMBERS = true;
    template <int P>
    using State = typename StateOf<P>::Type;
    struct Kept {
        double v[STATS], log_normaliser;
        template <class F>
        __device__ void visit(F f) {
            for (int i = 0; i < STATS; ++i) f(v[i]);
            f(log_normaliser);
        }
    };

    Tensor w, numbers;
    Posterior in;
    double* stats;

    Density(const Launch& launch, const Sets& s, const Tensor& w, const Posterior& in, const Tensor& density, void* stats)
        : Call(launch, s), w(w), numbers(density), in(in), stats(static_cast<double*>(stats)) {}

    __device__ void pad(const Place&) const {}
    template <class F>
    __device__ void over(const Place& p, int64_t begin, int64_t end, F f) const {
        const PosteriorRows<double, Access::any> rows(in, p);
        const Rows<double, Access::any> parts(w, p.slot.set, p.slot.row, p.coordinate, p.width);
        const Rows<double, Access::any>* const all[4] = {&parts, &rows.mu_q, &rows.logvar_q, &rows.rho_logits};
        over_parts<double, Access::any, 4>(all, begin, end, f);
    }
    template <int P>
    __device__ void reduce(const Place& p, Kept (&kept)[QUAD], int64_t begin, int64_t end, State<P> (&state)[QUAD]) const {
        over(p, begin, end, [&](int64_t, const auto& v) {
#pragma unroll
            for (int j = 0; j < QUAD; ++j) {
                Part<C> part(v, j);
                if constexpr (P == 0) {
                    const double nu = v[3][j], ref = nu > state[j].ref ? nu : state[j].ref;
                    state[j].z = state[j].z * exp(state[j].ref - ref) + exp(nu - ref);
                    state[j].ref = ref;
                    state[j].total += part.residual;
                } else {
                    part.invert(v[3][j], kept[j]);
                    state[j].squares += part.eps * part.eps + v[2][j];
                    state[j].pull += part.rho * part.eps * (unit ? 1 : part.inverse_sigma);
                }
            }
        });
    }
    template <int P>
    __device__ void finish(const Place& p, Kept (&kept)[QUAD], State<P> (&state)[QUAD], double& number) const {
        for (int j = 0; j < QUAD; ++j) {
            Kept& k = kept[j];
            if constexpr (P == 0) {
                const double z = state[j].z + exp(-state[j].ref);
                k.log_normaliser = state[j].ref + log(z);
                k.v[REF] = state[j].ref;
                k.v[INVERSE_Z] = 1 / z;
                k.v[TOTAL] = state[j].total * exp(k.log_normaliser);
            } else {
                k.v[PULL] = state[j].pull * exp(k.log_normaliser);
                if (j < p.width && p.slot.size)
                    number += k.log_normaliser - 0.5 * (state[j].squares + LOG_2_PI * double(p.slot.size));
            }
        }
        if constexpr (P == 1) {
            double v[QUAD][STATS];
            for (int j = 0; j < QUAD; ++j)
                for (int i = 0; i < STATS; ++i) v[j][i] = kept[j].v[i];
            store_stats(stats, sets, p, v);
        }
    }
};

// What a shard adds: max(0, nu_m), sum exp(nu - that) and the sum of residuals.
template <Coupling C>
struct ShardNormaliser : Density<C> {
    static constexpr int PHASES = 1;
    static constexpr bool NUMBERS = false;
    using typename Density<C>::Kept;

    ShardRows sums;

    ShardNormaliser(const Launch& launch, const Sets& s, const Tensor& w, const Posterior& in, const ShardRows& sums)
        : Density<C>(launch, s, w, in, Tensor{}, nullptr), sums(sums) {}

    template <int>
    __device__ void finish(const Place& p, Kept (&)[QUAD], Normaliser (&state)[QUAD], double&) const {
        store_rows(sums, this->sets, p, state);
    }
};

// Given the joint REF, INVERSE_Z and TOTAL: sum eps^2 + log sigma^2, and what PULL is before its factor exp(L).
template <Coupling C>
struct ShardSquares : ShardNormaliser<C> {
    using typename Density<C>::Kept;
    template <int>
    using State = Squares;

    const double* joint;

    ShardSquares(const Launch& launch, const Sets& s, const Tensor& w, const Posterior& in, const void* stats, const ShardRows& sums)
        : ShardNormaliser<C>(launch, s, w, in, sums), joint(static_cast<const double*>(stats)) {}

    template <int>
    __device__ void reduce(const Place& p, Kept (&kept)[QUAD], int64_t begin, int64_t end, Squares (&state)[QUAD]) const {
        double v[QUAD][PULL];
        load_stats(joint, this->sets, p, v);
        for (int j = 0; j < QUAD; ++j)
            for (int i = 0; i < PULL; ++i) kept[j].v[i] = v[j][i];
        Density<C>::template reduce<1>(p, kept, begin, end, state);
    }
    template <int>
    __device__ void finish(const Place& p, Kept (&)[QUAD], Squares (&state)[QUAD], double&) const {
        store_rows(this->sums, this->sets, p, state);
    }
};

template <Coupling C>
struct DensityGradient : Density<C> {
    static constexpr bool unit = C == Coupling::unit;
    static constexpr int PHASES = 0;
    static constexpr bool APPLIES = true, NUMBERS = false;
    using typename Density<C>::Kept;

    Tensor grad, grad_w;
    Posterior out;

    DensityGradient(const Launch& launch, const Sets& s, const Tensor& w, const Posterior& in, const Tensor& grad,
                    const void* stats, const Tensor& grad_w, const Posterior& out)
        : Density<C>(launch, s, w, in, Tensor{}, const_cast<void*>(stats)), grad(grad), grad_w(grad_w), out(out) {}

    __device__ void pad(const Place& p) const {
        pad_rows<double, Access::any>({&grad_w, &out.mu_q, &out.logvar_q, &out.rho_logits}, p);
    }
    __device__ void apply(const Place& p, Kept (&)[QUAD], int64_t begin, int64_t end) const {
        struct {
            double v[STATS];
        } set[QUAD];
        double v[QUAD][STATS];
        load_stats<double, STATS>(this->stats, this->sets, p, v);
        for (int j = 0; j < QUAD; ++j)
            for (int i = 0; i < STATS; ++i) set[j].v[i] = v[j][i];
        const double g = value_of_set<double>(grad, p.slot.set);
        const PosteriorRows<double, Access::any> to(out, p);
        const Rows<double, Access::any> to_parts(grad_w, p.slot.set, p.slot.row, p.coordinate, p.width);
        this->over(p, begin, end, [&](int64_t k, const auto& in) {
            double r[4][QUAD];
#pragma unroll
            for (int j = 0; j < QUAD; ++j) {
                Part<C> part(in, j);
                part.invert(in[3][j], set[j]);
                const double pull = set[j].v[PULL], inverse = part.inverse_sigma, e = part.eps;
                const double to_w = unit ? -(e + pull) * inverse : -(e * inverse + pull);
                const double to_logvar = unit ? part.residual * (e + pull) - 1 : e * e - 1;
                r[0][j] = g * to_w;
                r[1][j] = -g * to_w;
                r[2][j] = 0.5 * g * to_logvar;
                r[3][j] = g * part.rho * (1 - e * set[j].v[TOTAL] * (unit ? 1 : inverse));
            }
            to_parts.store(k, r[0]);
            to.mu_q.store(k, r[1]);
            to.logvar_q.store(k, r[2]);
            to.rho_logits.store(k, r[3]);
        });
    }
};

template <class F>
Status by_coupling(Options options, F f) {
    return options.coupling ? f(std::integral_constant<Coupling, Coupling::scaled>())
                            : f(std::integral_constant<Coupling, Coupling::unit>());
}

}  // namespace

Status correlated_normal_log_prob_forward(const Launch& launch, const Sets& s, const Tensor& w, const Posterior& in,
                                          const Tensor& density, void* stats, Options options) {
    return by_coupling(options, [&](auto coupling) {
        return run(launch, Density<decltype(coupling)::value>(launch, s, w, in, density, stats));
    });
}

Status correlated_normal_log_prob_backward(const Launch& launch, const Sets& s, const Tensor& w, const Posterior& in,
                                           const Tensor& grad, const void* stats, const Tensor& grad_w, const Posterior& out,
                                           Options options) {
    return by_coupling(options, [&](auto coupling) {
        return run(launch, DensityGradient<decltype(coupling)::value>(launch, s, w, in, grad, stats, grad_w, out));
    });
}

Status correlated_normal_log_prob_shard_sums(const Launch& launch, const Sets& s, const Tensor& w, const Posterior& in,
                                             const ShardRows& sums, Options options) {
    return by_coupling(options, [&](auto coupling) {
        return run(launch, ShardNormaliser<decltype(coupling)::value>(launch, s, w, in, sums));
    });
}

Status correlated_normal_log_prob_shard_squares(const Launch& launch, const Sets& s, const Tensor& w, const Posterior& in,
                                                const void* stats, const ShardRows& sums, Options options) {
    return by_coupling(options, [&](auto coupling) {
        return run(launch, ShardSquares<decltype(coupling)::value>(launch, s, w, in, stats, sums));
    });
}

}  // namespace gpu
}  // namespace compvae
