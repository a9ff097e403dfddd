// Sums over the rows of [B, M] tensors of a term of their elements, and the gradients of such sums.
#pragma once
#include "passes.h"

namespace compvae {
namespace gpu {

constexpr int64_t SEGMENT = 32 * QUAD * THREADS;  // elements of a row that one block sums

inline int64_t segments_of(int64_t width) { return width ? (width + SEGMENT - 1) / SEGMENT : 1; }

template <int COUNT>
struct Inputs {
    Tensor list[COUNT];
};

// f(coordinate, width, values) for this thread's quads of one segment of one row.
template <class T, Access A, int COUNT, class F>
__device__ __forceinline__ void over_segment(const Inputs<COUNT>& in, int64_t set, int64_t segment, int64_t width, F f) {
    const int64_t end = (segment + 1) * SEGMENT < width ? (segment + 1) * SEGMENT : width;
    for (int64_t c = segment * SEGMENT + threadIdx.x * QUAD; c < end; c += int64_t(blockDim.x) * QUAD) {
        const int n = end - c < QUAD ? int(end - c) : QUAD;
        T values[COUNT][QUAD];
#pragma unroll
        for (int i = 0; i < COUNT; ++i) Rows<T, A>(in.list[i], set, 0, c, n).load(0, values[i]);
        f(c, n, values);
    }
}

template <class T, Access A, class Term>
__global__ void __launch_bounds__(THREADS) sum_of_terms(const __grid_constant__ Inputs<Term::INPUTS> in, int64_t width,
                                                        int64_t segments, double* numbers) {
    const int64_t set = item_of_block(segments), segment = column_of_block(segments);
    double sum = 0;
    over_segment<T, A>(in, set, segment, width, [&](int64_t, int n, const auto& v) {
#pragma unroll
        for (int j = 0; j < QUAD; ++j) {
            T x[Term::INPUTS];
#pragma unroll
            for (int i = 0; i < Term::INPUTS; ++i) x[i] = v[i][j];
            if (j < n) sum += double(Term::value(x));
        }
    });
    sum = block_sum(sum);
    if (threadIdx.x == 0) numbers[blockIdx.x] = sum;
}

template <class T, Access A, class Term>
__global__ void __launch_bounds__(THREADS) gradient_of_terms(const __grid_constant__ Inputs<Term::INPUTS> in, int64_t width,
                                                             int64_t segments, Tensor grad_out,
                                                             const __grid_constant__ Inputs<Term::INPUTS> grad) {
    const int64_t set = item_of_block(segments), segment = column_of_block(segments);
    const T g = value_of_set<T>(grad_out, set);
    over_segment<T, A>(in, set, segment, width, [&](int64_t c, int n, const auto& v) {
        T to[Term::INPUTS][QUAD];
#pragma unroll
        for (int j = 0; j < QUAD; ++j) {
            T x[Term::INPUTS], d[Term::INPUTS];
#pragma unroll
            for (int i = 0; i < Term::INPUTS; ++i) x[i] = v[i][j];
            Term::gradient(x, d);
#pragma unroll
            for (int i = 0; i < Term::INPUTS; ++i) to[i][j] = g * d[i];
        }
#pragma unroll
        for (int i = 0; i < Term::INPUTS; ++i) Rows<T, A>(grad.list[i], set, 0, c, n).store(0, to[i]);
    });
}

template <template <class> class Term>
Status terms_forward(const Launch& launch, const Sets& s, const Tensor* in, const Tensor& out, bool float64) {
    constexpr int COUNT = Term<float>::INPUTS;
    Inputs<COUNT> inputs;
    const Tensor* tensors[COUNT];
    for (int i = 0; i < COUNT; ++i) inputs.list[i] = in[i], tensors[i] = in + i;
    const int64_t segments = segments_of(s.width);
    Status status = by_access(float64, tensors, s.width, [&](auto zero, auto access) {
        using T = decltype(zero);
        return queue(launch, sum_of_terms<T, decltype(access)::value, Term<T>>, s.count, segments, block_of(s.width), inputs,
                     s.width, segments, launch.scratch);
    });
    return status ? status : join_numbers(launch, out, launch.scratch, s.count, segments);
}

template <template <class> class Term>
Status terms_backward(const Launch& launch, const Sets& s, const Tensor* in, const Tensor& grad_out, const Tensor* grad,
                      bool float64) {
    constexpr int COUNT = Term<float>::INPUTS;
    Inputs<COUNT> inputs, gradients;
    const Tensor* tensors[2 * COUNT];
    for (int i = 0; i < COUNT; ++i) {
        inputs.list[i] = in[i], gradients.list[i] = grad[i];
        tensors[i] = in + i, tensors[COUNT + i] = grad + i;
    }
    const int64_t segments = segments_of(s.width);
    return by_access(float64, tensors, s.width, [&](auto zero, auto access) {
        using T = decltype(zero);
        return queue(launch, gradient_of_terms<T, decltype(access)::value, Term<T>>, s.count, segments, block_of(s.width),
                     inputs, s.width, segments, grad_out, gradients);
    });
}

// The two functions of an operation whose term is the class template Term<V>.
#define COMPVAE_DEFINE_SUM_OF_TERMS(operation, Term)                                                                   \
    Status operation##_forward(const Launch& launch, const Sets& s, const Tensor* in, const Tensor& out, bool float64) { \
        return terms_forward<Term>(launch, s, in, out, float64);                                                       \
    }                                                                                                                  \
    Status operation##_backward(const Launch& launch, const Sets& s, const Tensor* in, const Tensor& grad_out,         \
                                const Tensor* grad, bool float64) {                                                    \
        return terms_backward<Term>(launch, s, in, grad_out, grad, float64);                                           \
    }

}  // namespace gpu
}  // namespace compvae
