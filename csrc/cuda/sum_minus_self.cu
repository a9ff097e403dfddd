// out_i = post(sum over j != i of pre(h_j)), exact to rounding of the true sum: the part with the largest |pre(h)| is
// kept out of the float64 total, so that total minus self never cancels beyond what the true sum holds.
#include "multiset.h"

namespace compvae {
namespace gpu {
namespace {

template <class T>
struct Total {
    T largest;
    double others;               // the sum without the largest
    int64_t where;               // which part that is
    int plus, minus, undefined;  // how many parts are infinite or NaN

    template <class F>
    __device__ __forceinline__ void visit(F f) {
        f(largest), f(others), f(where), f(plus), f(minus), f(undefined);
    }
    static __device__ __forceinline__ T magnitude(T v) { return v == v ? abs(v) : gpu::infinity<T>(); }

    __device__ __forceinline__ void add(bool first, int64_t part, T v) {
        const T size = magnitude(v);
        if (first) {
            largest = v;
            where = part;
        } else {
            const bool larger = size > magnitude(largest);
            others += double(larger ? largest : v);
            largest = larger ? v : largest;
            where = larger ? part : where;
        }
        if (size == gpu::infinity<T>()) {
            plus += v > 0;
            minus += v < 0;
            undefined += v != v;
        }
    }
    __device__ __forceinline__ void join(const Total& next) {
        const bool larger = magnitude(next.largest) > magnitude(largest);
        others += next.others + double(larger ? largest : next.largest);
        largest = larger ? next.largest : largest;
        where = larger ? next.where : where;
        plus += next.plus, minus += next.minus, undefined += next.undefined;
    }
    // The sum without a part whose value is `self`, times factor.
    __device__ __forceinline__ T without(int64_t part, T self, double factor) const {
        const T infinity = gpu::infinity<T>();
        if (plus + minus + undefined > 1) {  // what remains is told by the counts
            const int p = plus - (self == infinity), m = minus - (self == -infinity);
            if (undefined - (self != self) > 0 || (p > 0 && m > 0)) return T(NAN);
            return p > 0 ? infinity : -infinity;
        }
        return T(where == part ? others * factor : ((others - double(self)) + double(largest)) * factor);
    }
};

template <class T>
__device__ __forceinline__ T before_sum(T x, bool elu) {
    return elu && !(x > 0) ? expm1(x) : x;
}
__device__ __forceinline__ double factor_of(const Aggregate& how, int64_t size) {
    return !how.mean ? 1 : size > 1 ? 1.0 / double(size - 1) : 0;
}

template <class T, Access A>
struct Aggregation : Call {
    static constexpr int PHASES = 1, BLOCKS = blocks_for<T>(4);
    static constexpr bool APPLIES = true, NUMBERS = false;
    template <int>
    using State = Total<T>;
    using Kept = Total<T>;

    Tensor h, out;
    Aggregate how;

    Aggregation(const Launch& launch, const Sets& s, const Tensor& h, const Tensor& out, Aggregate how)
        : Call(launch, s), h(h), out(out), how(how) {}

    __device__ void pad(const Place& p) const { pad_rows<T, A>({&out}, p); }
    template <class F>
    __device__ __forceinline__ void over(const Place& p, int64_t begin, int64_t end, F f) const {
        const Rows<T, A> rows(h, p.slot.set, p.slot.row, p.coordinate, p.width);
        const Rows<T, A>* const all[1] = {&rows};
        over_parts<T, A, 1>(all, begin, end, f);
    }
    template <int>
    __device__ __forceinline__ void reduce(const Place& p, Kept (&)[QUAD], int64_t begin, int64_t end, State<0> (&state)[QUAD]) const {
        over(p, begin, end, [&](int64_t k, const auto& v) {
#pragma unroll
            for (int j = 0; j < QUAD; ++j) state[j].add(k == begin, k, before_sum(v[0][j], how.elu));
        });
    }
    template <int>
    __device__ __forceinline__ void finish(const Place&, Kept (&kept)[QUAD], State<0> (&state)[QUAD], double&) const {
        for (int j = 0; j < QUAD; ++j) kept[j] = state[j];
    }
    __device__ __forceinline__ void apply(const Place& p, Kept (&kept)[QUAD], int64_t begin, int64_t end) const {
        const Rows<T, A> to(out, p.slot.set, p.slot.row, p.coordinate, p.width);
        const double factor = factor_of(how, p.slot.size);
        over(p, begin, end, [&](int64_t k, const auto& v) {
            T r[QUAD];
#pragma unroll
            for (int j = 0; j < QUAD; ++j) {
                const T sum = kept[j].without(k, before_sum(v[0][j], how.elu), factor);
                r[j] = how.tanh ? tanh(sum) : sum;
            }
            to.store(k, r);
        });
    }
};

// The gradient of h is pre'(h_j) times the sum over i != j of the upstream gradients of the sums.
template <class T, Access A>
struct AggregationGradient : Call {
    static constexpr int PHASES = 2, BLOCKS = blocks_for<T>(3);
    static constexpr bool APPLIES = true, NUMBERS = false;
    template <int>
    using State = Total<T>;
    struct Kept {
        Total<T> values, upstream;
        template <class F>
        __device__ __forceinline__ void visit(F f) {
            values.visit(f);
            upstream.visit(f);
        }
    };

    Tensor h, grad_out, grad_h;
    Aggregate how;

    AggregationGradient(const Launch& launch, const Sets& s, const Tensor& h, const Tensor& grad_out, const Tensor& grad_h, Aggregate how)
        : Call(launch, s), h(h), grad_out(grad_out), grad_h(grad_h), how(how) {}

    __device__ void pad(const Place& p) const { pad_rows<T, A>({&grad_h}, p); }
    // f(k, values of h and of the upstream gradient)
    template <class F>
    __device__ __forceinline__ void over(const Place& p, int64_t begin, int64_t end, F f) const {
        const Rows<T, A> of_h(h, p.slot.set, p.slot.row, p.coordinate, p.width);
        const Rows<T, A> upstream(grad_out, p.slot.set, p.slot.row, p.coordinate, p.width);
        const Rows<T, A>* const all[2] = {&of_h, &upstream};
        over_parts<T, A, 2>(all, begin, end, f);
    }
    // The upstream gradient of the sum without part k.
    __device__ __forceinline__ T through(const Kept& kept, int64_t k, T x, T g, double factor) const {
        return how.tanh ? g * sech_squared(kept.values.without(k, before_sum(x, how.elu), factor)) : g;
    }
    // 1 - tanh^2, without the cancellation
    static __device__ __forceinline__ T sech_squared(T x) {
        const T e = exp(-2 * abs(x)), q = 1 / (1 + e);
        return 4 * e * q * q;
    }
    template <int P>
    __device__ __forceinline__ void reduce(const Place& p, Kept (&kept)[QUAD], int64_t begin, int64_t end, State<P> (&state)[QUAD]) const {
        if (P == 0 && !how.tanh) return;
        const double factor = factor_of(how, p.slot.size);
        over(p, begin, end, [&](int64_t k, const auto& v) {
#pragma unroll
            for (int j = 0; j < QUAD; ++j) {
                const T x = v[0][j], g = v[1][j];
                state[j].add(k == begin, k, P == 0 ? before_sum(x, how.elu) : through(kept[j], k, x, g, factor));
            }
        });
    }
    template <int P>
    __device__ __forceinline__ void finish(const Place&, Kept (&kept)[QUAD], State<P> (&state)[QUAD], double&) const {
        for (int j = 0; j < QUAD; ++j) (P == 0 ? kept[j].values : kept[j].upstream) = state[j];
    }
    __device__ __forceinline__ void apply(const Place& p, Kept (&kept)[QUAD], int64_t begin, int64_t end) const {
        const Rows<T, A> to(grad_h, p.slot.set, p.slot.row, p.coordinate, p.width);
        const double factor = factor_of(how, p.slot.size);
        over(p, begin, end, [&](int64_t k, const auto& v) {
            T r[QUAD];
#pragma unroll
            for (int j = 0; j < QUAD; ++j) {
                const T x = v[0][j], sum = kept[j].upstream.without(k, through(kept[j], k, x, v[1][j], factor), factor);
                r[j] = how.elu && !(x > 0) ? sum * exp(x) : sum;
            }
            to.store(k, r);
        });
    }
};

}  // namespace

Status sum_minus_self_forward(const Launch& launch, const Sets& s, const Tensor& h, const Tensor& out, Aggregate how,
                              bool float64) {
    const Tensor* tensors[] = {&h, &out};
    return by_access(float64, tensors, s.width, [&](auto zero, auto access) {
        return run(launch, Aggregation<decltype(zero), decltype(access)::value>(launch, s, h, out, how));
    });
}

Status sum_minus_self_backward(const Launch& launch, const Sets& s, const Tensor& h, const Tensor& grad_out,
                               const Tensor& grad_h, Aggregate how, bool float64) {
    const Tensor* tensors[] = {&h, &grad_out, &grad_h};
    return by_access(float64, tensors, s.width, [&](auto zero, auto access) {
        return run(launch, AggregationGradient<decltype(zero), decltype(access)::value>(launch, s, h, grad_out, grad_h, how));
    });
}

}  // namespace gpu
}  // namespace compvae
