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
// ("unit"). It is taken relative to a_r, r being m where rho_m > 1/2, else the first part:
//     (a_i - a_r) + a_r (1 - sum rho) - sum_j rho_j (a_j - a_r).
template <class T>
struct Centred {
    T reference;
    double sum, rhos, has_m;  // sum_j rho_j (a_j - a_r), sum rho, whether r is m

    template <class F>
    __device__ __forceinline__ void visit(F f) {
        f(reference), f(sum), f(rhos), f(has_m);
    }
    __device__ __forceinline__ void join(const Centred& next) {
        const T r = next.has_m > 0 ? next.reference : reference;
        sum = (sum + (double(reference) - double(r)) * rhos) + (next.sum + (double(next.reference) - double(r)) * next.rhos);
        rhos += next.rhos;
        has_m = has_m > next.has_m ? has_m : next.has_m;
        reference = r;
    }
    // What to add to a_i - a_r.
    __device__ __forceinline__ T offset(T rest_of_rho) const { return reference * rest_of_rho - T(sum); }
};

// The same over one chunk: m stays out of the sums, which are relative to the first part's a until m's is known.
template <class T>
struct CentredChunk {
    T first, of_m, sum, rhos, rho_m;

    __device__ __forceinline__ void add(bool is_first, T rho, T a) {
        const bool is_m = rho > T(0.5);
        first = is_first ? a : first;
        of_m = is_m ? a : of_m;
        rho_m = is_m ? rho : rho_m;
        sum += is_m ? T(0) : rho * (a - first);
        rhos += is_m ? T(0) : rho;
    }
    __device__ __forceinline__ Centred<T> centred() const {
        if (!(rho_m > 0)) return {first, double(sum), double(rhos), 0};
        return {of_m, double(sum) + (double(first) - double(of_m)) * double(rhos), double(rhos) + double(rho_m), 1};
    }
};

}  // namespace gpu
}  // namespace compvae
