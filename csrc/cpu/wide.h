// Vectors of the compute type in float64, for sums that must keep every digit.
#pragma once
#include "simd.h"

namespace compvae {
namespace COMPVAE_ISA {

// The lanes of a vector of T, in order: two vectors of float64 for float32, one for float64.
template <class T>
struct Wide {
    static constexpr int COUNT = int(sizeof(double) / sizeof(T));
    VD part[COUNT] = {};

    Wide& operator+=(const Wide& other) {
        COMPVAE_UNROLL
        for (int i = 0; i < COUNT; ++i) part[i] += other.part[i];
        return *this;
    }
    friend Wide operator+(Wide a, const Wide& b) { return a += b; }
    friend Wide operator*(Wide a, const Wide& b) {
        COMPVAE_UNROLL
        for (int i = 0; i < COUNT; ++i) a.part[i] *= b.part[i];
        return a;
    }
};

typedef float HalfVF __attribute__((vector_size(2 * LANES)));

COMPVAE_INLINE Wide<float> widen(VF x) {
    HalfVF halves[2];
    std::memcpy(halves, &x, sizeof x);
    return {{__builtin_convertvector(halves[0], VD), __builtin_convertvector(halves[1], VD)}};
}
COMPVAE_INLINE Wide<double> widen(VD x) { return {{x}}; }
COMPVAE_INLINE VF narrow(const Wide<float>& x) {
    const HalfVF halves[2] = {__builtin_convertvector(x.part[0], HalfVF), __builtin_convertvector(x.part[1], HalfVF)};
    VF r;
    std::memcpy(&r, halves, sizeof r);
    return r;
}
COMPVAE_INLINE VD narrow(const Wide<double>& x) { return x.part[0]; }

COMPVAE_INLINE double sum_of_lanes(VD x) {
    double r = 0;
    for (int i = 0; i < LANES / 2; ++i) r += x[i];
    return r;
}

// Numbers in memory as a vector of float64, half as many as a vector of float32 has.
COMPVAE_INLINE VD load_double(const float* p) { return __builtin_convertvector(load<HalfVF>(p), VD); }
COMPVAE_INLINE VD load_double(const double* p) { return load<VD>(p); }
// The same as a vector of numbers of type T, as many as it has.
template <class T>
COMPVAE_INLINE auto as_rounded(VD x) {
    if constexpr (sizeof(T) == sizeof(double))
        return x;
    else
        return __builtin_convertvector(x, HalfVF);
}

// The float64 numbers in memory that add_to adds to.
template <class T>
COMPVAE_INLINE Wide<T> load_wide(const double* sums) {
    Wide<T> r;
    for (int i = 0; i < Wide<T>::COUNT; ++i) r.part[i] = load<VD>(sums + i * (LANES / 2));
    return r;
}

template <class T>
COMPVAE_INLINE void store_wide(double* sums, const Wide<T>& x) {
    for (int i = 0; i < Wide<T>::COUNT; ++i) store(sums + i * (LANES / 2), x.part[i]);
}

// Adds to float64 numbers in memory.
template <class T>
COMPVAE_INLINE void add_to(double* sums, const Wide<T>& x) {
    store_wide(sums, load_wide<T>(sums) + x);
}

}  // namespace COMPVAE_ISA
}  // namespace compvae
