// The noise of single parts, w_i - mu_i, once the sums over the set are known; and the gradient of anything that is a
// function of the parts. Only a part with rho > 1/2 needs the forms that keep it apart; it is m, the one with the
// largest logit.
#pragma once
#include "multiset.h"

namespace compvae {
namespace gpu {

// The sums of a set at one coordinate, as the operations on parts keep them.
template <class T, Coupling C>
struct PartStats {
    using S = Stats<C, false, true>;
    static constexpr bool unit = C == Coupling::unit;
    T v[S::COUNT];

    template <class F>
    __device__ __forceinline__ void visit(F f) {
#pragma unroll
        for (int i = 0; i < S::COUNT; ++i) f(v[i]);
    }
    __device__ __forceinline__ T rest_of_rho() const { return v[S::NOISE_FACTOR]; }
    __device__ __forceinline__ T noise() const { return v[S::NOISE]; }
    __device__ __forceinline__ T rho(T logit) const { return exp(logit - reference_of(v[S::LARGEST_LOGIT])) * v[S::INVERSE_Z]; }
    // w_i - mu_i
    __device__ __forceinline__ T of_part(T rho, T sigma, T eps) const {
        const bool is_m = rho > T(0.5);
        const T own = is_m ? v[S::ONE_MINUS_RHO_M] * eps : eps, others = rho * (is_m ? v[S::NOISE_OTHERS] : v[S::NOISE]);
        return unit ? sigma * (own - others) : sigma * own - others;
    }
};

// The stats of a set that a forward pass left.
template <class T, Coupling C>
__device__ __forceinline__ void load_set(const T* stats, const Sets& s, const Place& p, PartStats<T, C> (&set)[QUAD]) {
    T v[QUAD][PartStats<T, C>::S::COUNT];
    load_stats(stats, s, p, v);
#pragma unroll
    for (int j = 0; j < QUAD; ++j)
#pragma unroll
        for (int i = 0; i < PartStats<T, C>::S::COUNT; ++i) set[j].v[i] = v[j][i];
}

// a_i - sum_j rho_j a_j over a set, where a_i is the upstream gradient of w_i ("scaled") or sigma_i times that
// ("unit"). Where sum rho >= 1/2 it is taken relative to a_r, r being the part with the largest rho:
//     (a_i - a_r) + a_r (1 - sum rho) - sum_j rho_j (a_j - a_r),
// so that nothing cancels where all a are nearly the same. Where sum rho is less, nothing does, and a_r could be large.
template <class T>
struct Centred {
    T reference;
    double sum, rhos;  // sum_j rho_j (a_j - a_r), sum rho
    T largest;         // rho_r

    template <class F>
    __device__ __forceinline__ void visit(F f) {
        f(reference), f(sum), f(rhos), f(largest);
    }
    __device__ __forceinline__ void join(const Centred& next) {
        const bool is_larger = next.largest > largest;
        const T r = is_larger ? next.reference : reference;
        sum = (sum + (double(reference) - double(r)) * rhos) + (next.sum + (double(next.reference) - double(r)) * next.rhos);
        rhos += next.rhos;
        largest = is_larger ? next.largest : largest;
        reference = r;
    }
    // After the last part: what to take from each a_i, and what to add to that, given 1 - sum rho.
    __device__ __forceinline__ void settle(T rest_of_rho, T& from, T& offset) const {
        const bool is_little = rhos < 0.5;
        from = is_little ? T(0) : reference;
        offset = is_little ? -T(sum + double(reference) * rhos) : offset_of(reference, sum, rest_of_rho);
    }
    static __device__ __forceinline__ T offset_of(T reference, double sum, T rest_of_rho) {
        return reference * rest_of_rho - T(sum);
    }
};

// The same over one chunk.
template <class T>
struct CentredChunk {
    T reference, largest, sum, rhos;

    __device__ __forceinline__ void add(T rho, T a) {
        const bool is_larger = rho > largest;
        const T r = is_larger ? a : reference;
        sum += (reference - r) * rhos + rho * (a - r);
        rhos += rho;
        largest = is_larger ? rho : largest;
        reference = r;
    }
    __device__ __forceinline__ Centred<T> centred() const { return {reference, double(sum), double(rhos), largest}; }
};

}  // namespace gpu
}  // namespace compvae
