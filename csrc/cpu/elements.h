// Sums over the rows of [B, M] tensors of a term of their elements, and the gradients of such sums.
#pragma once
#include "kernels.h"
#include "places.h"
#include "rows.h"
#include "wide.h"

namespace compvae {
namespace COMPVAE_ISA {

constexpr int64_t SEGMENT = 16 * BLOCK;  // elements that one thread handles at a time

inline int64_t segments_of(int64_t width) { return (width + SEGMENT - 1) / SEGMENT; }

// body(worker, set, first, end, index) for every segment [first, end) of every row; a Worker for each.
template <class Worker, class Body>
inline void for_each_segment(const Sets& sets, Body body) {
    const int64_t segments = segments_of(sets.width), count = sets.count * segments;
    const int threads = int(count < sets.threads ? count : sets.threads);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
#pragma omp for schedule(static)
        for (int64_t i = 0; i < count; ++i) {
            Worker worker;
            const int64_t first = i % segments * SEGMENT;
            body(worker, i / segments, first, sets.width - first < SEGMENT ? sets.width : first + SEGMENT, i);
        }
        finish_streams();
    }
}

// out[b] = sum of Term::value(inputs) over row b; scratch [B * segments]
template <class T, class Term>
void sum_of_terms(const Sets& sets, const Tensor* in, const Tensor& out, double* scratch) {
    using V = typename Simd<T>::V;
    constexpr int N = Simd<T>::N, INPUTS = Term::INPUTS;
    struct Worker {
        InputRows<T, 1, BLOCK> rows[INPUTS];
        double lanes[N] = {};
    };
    for_each_segment<Worker>(sets, [&](Worker& worker, int64_t set, int64_t first, int64_t end, int64_t index) {
        for (int64_t c = first; c < end; c += BLOCK) {
            const int width = int(end - c < BLOCK ? end - c : BLOCK);
            COMPVAE_UNROLL
            for (int i = 0; i < INPUTS; ++i) worker.rows[i].stage(in[i], set, 0, 1, c, width);
            V sum{};
            for (int column = 0; column < width; column += N) {
                V x[INPUTS];
                COMPVAE_UNROLL
                for (int i = 0; i < INPUTS; ++i) x[i] = load<V>(worker.rows[i][0] + column);
                const V term = Term::value(x);
                if (width - column >= N)
                    sum += term;
                else
                    for (int i = 0; i < width - column; ++i) worker.lanes[i] += term[i];
            }
            add_to(worker.lanes, widen(sum));
        }
        double sum = 0;
        for (double lane : worker.lanes) sum += lane;
        scratch[index] = sum;
    });
    join(sets, segments_of(sets.width), scratch, out);
}

// grad[i] = grad_out[b] * Term::gradient(inputs)[i]
template <class T, class Term>
void gradient_of_terms(const Sets& sets, const Tensor* in, const Tensor& grad_out, const Tensor* grad) {
    using V = typename Simd<T>::V;
    constexpr int N = Simd<T>::N, INPUTS = Term::INPUTS;
    struct Worker {
        InputRows<T, 1, BLOCK> rows[INPUTS];
        OutputRows<T, 1, BLOCK> out[INPUTS];
    };
    const bool streamed = is_streamed<T>(sets, sets.count * INPUTS);
    for_each_segment<Worker>(sets, [&](Worker& worker, int64_t set, int64_t first, int64_t end, int64_t) {
        const T g = read_value<T>(grad_out, set);
        for (int64_t c = first; c < end; c += BLOCK) {
            const int width = int(end - c < BLOCK ? end - c : BLOCK);
            COMPVAE_UNROLL
            for (int i = 0; i < INPUTS; ++i) {
                worker.rows[i].stage(in[i], set, 0, 1, c, width);
                worker.out[i].stage(grad[i], set, 0, 1, c, width, streamed);
            }
            for (int column = 0; column < width; column += N) {
                V x[INPUTS], d[INPUTS];
                COMPVAE_UNROLL
                for (int i = 0; i < INPUTS; ++i) x[i] = load<V>(worker.rows[i][0] + column);
                Term::gradient(x, d);
                COMPVAE_UNROLL
                for (int i = 0; i < INPUTS; ++i) worker.out[i].put_in_row(0, column, g * d[i]);
            }
            COMPVAE_UNROLL
            for (int i = 0; i < INPUTS; ++i) worker.out[i].finish(grad[i], set, 0, 1, c, width);
        }
    });
}

// The two native functions of an operation whose term is the class template Term<V>.
#define COMPVAE_DEFINE_SUM_OF_TERMS(operation, Term)                                                                   \
    void operation##_forward(const Sets& sets, const Tensor* in, const Tensor& out, double* scratch, bool float64) {   \
        float64 ? sum_of_terms<double, Term<VD>>(sets, in, out, scratch)                                           \
                : sum_of_terms<float, Term<VF>>(sets, in, out, scratch);                                            \
    }                                                                                                                  \
    void operation##_backward(const Sets& sets, const Tensor* in, const Tensor& grad_out, const Tensor* grad,          \
                              bool float64) {                                                                          \
        float64 ? gradient_of_terms<double, Term<VD>>(sets, in, grad_out, grad)                                    \
                : gradient_of_terms<float, Term<VF>>(sets, in, grad_out, grad);                                     \
    }

}  // namespace COMPVAE_ISA
}  // namespace compvae
