// Elementary functions of the compute type, one number at a time, under the names that the shared formulas use.
#pragma once
#include "../common/normals.h"

#define COMPVAE_INLINE COMPVAE_HOST_DEVICE
#define COMPVAE_ISA gpu  // the namespace that shared formulas are compiled in

namespace compvae {
namespace gpu {

template <class V>
COMPVAE_INLINE V select(bool mask, V yes, V no) {
    return mask ? yes : no;
}
template <class V>
COMPVAE_INLINE V infinity() {
    return V(INFINITY);
}
template <class V>
COMPVAE_INLINE V splat(V x) {
    return x;
}
COMPVAE_INLINE float exp(float x) { return ::expf(x); }
COMPVAE_INLINE double exp(double x) { return ::exp(x); }
COMPVAE_INLINE float log(float x) { return ::logf(x); }
COMPVAE_INLINE double log(double x) { return ::log(x); }
COMPVAE_INLINE float log1p(float x) { return ::log1pf(x); }
COMPVAE_INLINE double log1p(double x) { return ::log1p(x); }
COMPVAE_INLINE float expm1(float x) { return ::expm1f(x); }
COMPVAE_INLINE double expm1(double x) { return ::expm1(x); }
COMPVAE_INLINE float tanh(float x) { return ::tanhf(x); }
COMPVAE_INLINE double tanh(double x) { return ::tanh(x); }
COMPVAE_INLINE float abs(float x) { return ::fabsf(x); }
COMPVAE_INLINE double abs(double x) { return ::fabs(x); }

// a * b as it is rounded: never fused with what it is added to, so that equal products differ by nothing.
COMPVAE_INLINE float rounded_product(float a, float b) {
#ifdef __CUDA_ARCH__
    return __fmul_rn(a, b);
#else
    volatile float r = a * b;
    return r;
#endif
}
COMPVAE_INLINE double rounded_product(double a, double b) {
#ifdef __CUDA_ARCH__
    return __dmul_rn(a, b);
#else
    volatile double r = a * b;
    return r;
#endif
}

// (e^x - 1 - x) / x^2 on |x| < 1/2, where the difference itself would cancel: its series
COMPVAE_INLINE float exp_tail(float x) {
    float r = 1.0f / 40320;
    r = r * x + 1.0f / 5040;
    r = r * x + 1.0f / 720;
    r = r * x + 1.0f / 120;
    r = r * x + 1.0f / 24;
    r = r * x + 1.0f / 6;
    return r * x + 0.5f;
}
COMPVAE_INLINE double exp_tail(double x) {
    double r = 1;
    for (int n = 17; n >= 3; --n) r = 1 + x / n * r;  // 1/2 (1 + x/3 (1 + x/4 (...)))
    return 0.5 * r;
}
// e^x - 1 - x, given e^x
template <class V>
COMPVAE_INLINE V exp_excess(V x, V exp_x) {
    return x < V(0.5) && x > V(-0.5) ? exp_tail(x) * (x * x) : exp_x - 1 - x;
}
template <class V>
COMPVAE_INLINE V sigmoid(V x) {
    const V e = exp(-abs(x)), s = 1 / (1 + e);
    return x < 0 ? e * s : s;
}
// log(1 + e^x)
template <class V>
COMPVAE_INLINE V softplus(V x) {
    return (x > 0 ? x : V(0)) + log1p(exp(-abs(x)));
}

}  // namespace gpu
}  // namespace compvae
