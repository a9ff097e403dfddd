// The product of a set's Gaussian experts, with precisions t_i = exp(-logvar_i), T = prior + sum t_i:
// mean sum t_i mu_i / T, log-variance -log T. Sums are in float64, relative to the largest t so far.
#include "multiset.h"

namespace compvae {
namespace gpu {
namespace {

// What the forward pass leaves, [STATS][B][D]: t_i / T = exp(-logvar_i - REFERENCE) * INVERSE, and the mean in two
// pieces, so that its difference from a mean close by keeps its digits.
enum { MEAN, MEAN_REST, REFERENCE, INVERSE, STATS };

template <class T>
struct Precisions {
    T reference;             // the largest log-precision; minus infinity where there is no expert
    double total, weighted;  // sum of t_i and of t_i mu_i, both over exp(reference)

    template <class F>
    __device__ __forceinline__ void visit(F f) {
        f(reference), f(total), f(weighted);
    }
    static __device__ __forceinline__ T finite(T r) { return r == -gpu::infinity<T>() ? T(0) : r; }
    __device__ __forceinline__ void raise(T log_precision) {
        const T larger = log_precision > reference ? log_precision : reference;
        const double rescale = reference == larger ? 1 : exp(reference - finite(larger));
        total *= rescale, weighted *= rescale;
        reference = larger;
    }
    __device__ __forceinline__ void join(Precisions next) {
        raise(next.reference);
        next.raise(reference);
        total += next.total, weighted += next.weighted;
    }
};

template <class T, Access A>
struct Product : Call {
    static constexpr int PHASES = 1, BLOCKS = blocks_for<T>(4);
    static constexpr bool APPLIES = false, NUMBERS = false;
    template <int>
    using State = Precisions<T>;
    struct Kept {
        template <class F>
        __device__ void visit(F) {}
    };

    Experts in;
    Tensor mean, logvar;
    T* stats;

    Product(const Launch& launch, const Sets& s, const Experts& in, const Tensor& mean, const Tensor& logvar, void* stats)
        : Call(launch, s), in(in), mean(mean), logvar(logvar), stats(static_cast<T*>(stats)) {}

    __device__ void pad(const Place&) const {}
    template <class F>
    __device__ __forceinline__ void over(const Place& p, int64_t begin, int64_t end, F f) const {
        const Rows<T, A> mus(in.mu, p.slot.set, p.slot.row, p.coordinate, p.width);
        const Rows<T, A> logvars(in.logvar, p.slot.set, p.slot.row, p.coordinate, p.width);
        const Rows<T, A>* const all[2] = {&mus, &logvars};
        over_parts<T, A, 2>(all, begin, end,
                            [&](int64_t k, const auto& v) { f(k, !in.mask || in.mask[p.slot.set * sets.parts + k], v); });
    }
    template <int>
    __device__ __forceinline__ void reduce(const Place& p, Kept (&)[QUAD], int64_t begin, int64_t end, State<0> (&state)[QUAD]) const {
        for (int j = 0; j < QUAD; ++j) state[j].reference = start();
        over(p, begin, end, [&](int64_t, bool there, const auto& v) {
#pragma unroll
            for (int j = 0; j < QUAD; ++j)
                if (there) state[j].reference = -v[1][j] > state[j].reference ? -v[1][j] : state[j].reference;
        });
        over(p, begin, end, [&](int64_t, bool there, const auto& v) {
            if (!there) return;
#pragma unroll
            for (int j = 0; j < QUAD; ++j) {
                const double t = double(exp(-v[1][j] - State<0>::finite(state[j].reference)));
                state[j].total += t;
                state[j].weighted += t * double(v[0][j]);
            }
        });
    }
    // with the prior the reference is at least 0
    __device__ __forceinline__ T start() const { return in.prior ? T(0) : -gpu::infinity<T>(); }

    template <int>
    __device__ __forceinline__ void finish(const Place& p, Kept (&)[QUAD], State<0> (&state)[QUAD], double&) const {
        double means[QUAD], logvars[QUAD];
        T v[QUAD][STATS];
#pragma unroll
        for (int j = 0; j < QUAD; ++j) {
            const T reference = p.slot.size ? state[j].reference : start();
            const double experts = state[j].total, infinity = gpu::infinity<double>();
            const bool none = reference == -gpu::infinity<T>();
            const double ref = none ? 0 : double(reference);
            const double total = in.prior ? exp(-ref) + experts : experts;
            // 1 + x must keep the digits of a small x
            const double log_total = ref + (in.prior ? log1p(expm1(-ref) + experts) : log(total));
            means[j] = none ? 0 : state[j].weighted / total;
            logvars[j] = none ? infinity : -log_total;
            v[j][MEAN] = T(means[j]);
            v[j][MEAN_REST] = T(means[j] - double(T(means[j])));
            v[j][REFERENCE] = T(ref);
            v[j][INVERSE] = none ? T(0) : T(1 / total);
        }
        store_quad(mean, p.slot.set, 0, p.coordinate, p.width, means);
        store_quad(logvar, p.slot.set, 0, p.coordinate, p.width, logvars);
        store_stats(stats, sets, p, v);
    }
};

template <class T, Access A>
struct ProductGradient : Product<T, A> {
    static constexpr int PHASES = 0;
    static constexpr bool APPLIES = true;
    using typename Product<T, A>::Kept;

    Tensor to_mu, to_logvar;  // Product's mean and logvar are their upstream gradients

    ProductGradient(const Launch& launch, const Sets& s, const Experts& in, const Tensor& grad_mean, const Tensor& grad_logvar,
                    const void* stats, const Tensor& to_mu, const Tensor& to_logvar)
        : Product<T, A>(launch, s, in, grad_mean, grad_logvar, const_cast<void*>(stats)), to_mu(to_mu), to_logvar(to_logvar) {}

    __device__ void pad(const Place& p) const { pad_rows<T, A>({&to_mu, &to_logvar}, p); }
    __device__ __forceinline__ void apply(const Place& p, Kept (&)[QUAD], int64_t begin, int64_t end) const {
        T v[QUAD][STATS], grad_mean[QUAD], grad_logvar[QUAD];
        load_stats<T, STATS>(this->stats, this->sets, p, v);
        load_quad(this->mean, p.slot.set, 0, p.coordinate, p.width, grad_mean);
        load_quad(this->logvar, p.slot.set, 0, p.coordinate, p.width, grad_logvar);
        const Rows<T, A> mus(to_mu, p.slot.set, p.slot.row, p.coordinate, p.width);
        const Rows<T, A> logvars(to_logvar, p.slot.set, p.slot.row, p.coordinate, p.width);
        this->over(p, begin, end, [&](int64_t k, bool there, const auto& x) {
            T mu[QUAD] = {}, logvar[QUAD] = {};
            if (there) {
#pragma unroll
                for (int j = 0; j < QUAD; ++j) {
                    const T weight = exp(-x[1][j] - v[j][REFERENCE]) * v[j][INVERSE];
                    const T apart = (x[0][j] - v[j][MEAN]) - v[j][MEAN_REST];
                    mu[j] = weight * grad_mean[j];
                    logvar[j] = weight * (grad_logvar[j] - grad_mean[j] * apart);
                }
            }
            mus.store(k, mu);
            logvars.store(k, logvar);
        });
    }
};

}  // namespace

Status product_of_experts_forward(const Launch& launch, const Sets& s, const Experts& in, const Tensor& mean,
                                  const Tensor& logvar, void* stats, bool float64) {
    const Tensor* tensors[] = {&in.mu, &in.logvar};
    return by_access(float64, tensors, s.width, [&](auto zero, auto access) {
        return run(launch, Product<decltype(zero), decltype(access)::value>(launch, s, in, mean, logvar, stats));
    });
}

Status product_of_experts_backward(const Launch& launch, const Sets& s, const Experts& in, const Tensor& grad_mean,
                                   const Tensor& grad_logvar, const void* stats, const Tensor& to_mu, const Tensor& to_logvar,
                                   bool float64) {
    const Tensor* tensors[] = {&in.mu, &in.logvar, &to_mu, &to_logvar};
    return by_access(float64, tensors, s.width, [&](auto zero, auto access) {
        return run(launch, ProductGradient<decltype(zero), decltype(access)::value>(launch, s, in, grad_mean, grad_logvar, stats,
                                                                                   to_mu, to_logvar));
    });
}

}  // namespace gpu
}  // namespace compvae
