// Elementary functions of vectors, by polynomials; float32 within about 1 ulp, float64 within a few.
#pragma once
#include "../common/scalar_of.h"
#include "simd.h"

namespace compvae {
namespace COMPVAE_ISA {

// f(0) ... f(M - 1): one step of M computations that do not depend on each other. Taken abreast, they fill the time in
// which each alone would wait for its step before.
template <int M, class F>
COMPVAE_INLINE void abreast(F f) {
    COMPVAE_UNROLL
    for (int i = 0; i < M; ++i) f(i);
}

// The same for a few neighbouring vectors of a row.
constexpr int FEW = 4;
template <class F>
COMPVAE_INLINE void each(F f) {
    abreast<FEW>(f);
}

template <class V, int n>
COMPVAE_INLINE V horner(V x, const double (&c)[n]) {  // c[0] + c[1] x + ...
    using T = decltype(V{}[0] + V{}[0]);
    V r = splat<V>(T(c[n - 1]));
    COMPVAE_UNROLL
    for (int i = n - 2; i >= 0; --i) r = r * x + T(c[i]);
    return r;
}

template <class V>
COMPVAE_INLINE V select(decltype(V{} < V{}) mask, V yes, V no) {
    return mask ? yes : no;
}
// The bits of |x|: as integers they are in the order of the magnitudes, NaN's the largest.
COMPVAE_INLINE IF magnitude_bits(VF x) { return bits<IF>(x) & 0x7fffffff; }
COMPVAE_INLINE ID magnitude_bits(VD x) { return bits<ID>(x) & 0x7fffffffffffffffLL; }
template <class V>
COMPVAE_INLINE V abs(V x) {
    return bits<V>(magnitude_bits(x));
}
template <class I>
COMPVAE_INLINE I maximum(I a, I b) {
    return a > b ? a : b;
}
COMPVAE_INLINE auto is_small(VF x, double bound) { return magnitude_bits(x) < bits<int32_t>(float(bound)); }
COMPVAE_INLINE auto is_small(VD x, double bound) { return magnitude_bits(x) < bits<int64_t>(bound); }

constexpr double INVERSE_FACTORIAL[] = {1.0,           1.0,           1.0 / 2,         1.0 / 6,          1.0 / 24,
                                        1.0 / 120,     1.0 / 720,     1.0 / 5040,      1.0 / 40320,      1.0 / 362880,
                                        1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600, 1.0 / 6227020800.0};

constexpr float ROUNDING = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, in the low bits

COMPVAE_INLINE VF exp(VF x) {
    x = clamp(x, -104.0f, 89.0f);
    const VF n = (x * 1.44269504f + ROUNDING) - ROUNDING;
    VF r = x - n * 0.693359375f;
    r = r - n * -2.12194440e-4f;
    // a minimax polynomial of (e^r - 1 - r) / r^2 on |r| <= ln 2 / 2
    static constexpr double c[] = {5.0000001201e-1, 1.6666665459e-1, 4.1665795894e-2,
                                   8.3334519073e-3, 1.3981999507e-3, 1.9875691500e-4};
    return scale_by_power(horner(r, c) * (r * r) + r + 1.0f, n);
}
// Log-variances up to this are not extreme.
constexpr float MODERATE = 80.0f;
// In place, e^x for x[0] <= 0 (NaN stays; 0 from -104 on) and |x[i]| <= MODERATE (beyond, nothing is promised): within
// 4e-7 of itself. The steps go abreast, since one polynomial is a chain of products that each wait for the one before.
template <int M>
COMPVAE_INLINE void exp_abreast(VF (&x)[M]) {
    // the same on |r| <= ln 2 / 2 to 1e-7 of e^r
    static constexpr double c[] = {4.9999231495e-1, 1.6667114650e-1, 4.1890156821e-2, 8.3125201456e-3};
    VF shifted[M], n[M], y[M];
    x[0] = at_least(x[0], -104.0f);
    abreast<M>([&](int i) COMPVAE_INLINE_LAMBDA { shifted[i] = x[i] * 1.44269504f + ROUNDING; });
    abreast<M>([&](int i) COMPVAE_INLINE_LAMBDA { n[i] = shifted[i] - ROUNDING; });
    abreast<M>([&](int i) COMPVAE_INLINE_LAMBDA { x[i] -= n[i] * 0.693147182f; });
    abreast<M>([&](int i) COMPVAE_INLINE_LAMBDA { y[i] = splat<VF>(float(c[3])); });
    COMPVAE_UNROLL
    for (int k = 2; k >= 0; --k) abreast<M>([&](int i) COMPVAE_INLINE_LAMBDA { y[i] = y[i] * x[i] + float(c[k]); });
    abreast<M>([&](int i) COMPVAE_INLINE_LAMBDA { y[i] = y[i] * x[i] + 1.0f; });
    abreast<M>([&](int i) COMPVAE_INLINE_LAMBDA { y[i] = y[i] * x[i] + 1.0f; });
    abreast<M>([&](int i) COMPVAE_INLINE_LAMBDA { x[i] = i ? scale_by_moderate_power(y[i], shifted[i]) : scale_by_power(y[i], n[i]); });
}
COMPVAE_INLINE VD exp(VD x) {
    x = clamp(x, -746.0, 710.0);
    const double magic = 6755399441055744.0;  // 1.5 * 2^52
    const VD n = (x * 1.4426950408889634 + magic) - magic;
    VD r = x - n * 6.93147180369123816490e-01;
    r = r - n * 1.90821492927058770002e-10;
    return scale_by_power(horner(r, INVERSE_FACTORIAL), n);
}
template <int M>
COMPVAE_INLINE void exp_abreast(VD (&x)[M]) {
    for (int i = 0; i < M; ++i) x[i] = exp(x[i]);
}

// 2^n and, in the low bits of `shifted`, the integer n.
COMPVAE_INLINE VF power_of_two(VF shifted) { return bits<VF>((bits<IF>(shifted) << 23) + (127 << 23)); }
COMPVAE_INLINE VD power_of_two(VD shifted) { return bits<VD>((bits<ID>(shifted) << 52) + (1023LL << 52)); }

// (e^x - 1 - x) / x^2 for |x| <= TAIL, where the difference itself would cancel; float32 within 1.4e-7
constexpr double TAIL = 0.35;
COMPVAE_INLINE VF exp_tail(VF x) {
    static constexpr double c[] = {4.9999999526e-1, 1.6666573736e-1, 4.1666860845e-2, 8.3637330149e-3, 1.3901531035e-3};
    return horner(x, c);
}
COMPVAE_INLINE VD exp_tail(VD x) {
    static constexpr double c[] = {1.0 / 2,       1.0 / 6,        1.0 / 24,        1.0 / 120,          1.0 / 720,
                                   1.0 / 5040,    1.0 / 40320,    1.0 / 362880,    1.0 / 3628800,      1.0 / 39916800,
                                   1.0 / 479001600, 1.0 / 6227020800.0, 1.0 / 87178291200.0, 1.0 / 1307674368000.0};
    return horner(x, c);
}
// e^x and e^x - 1 of one polynomial, for x <= 0 (NaN stays; above 0 nothing is promised), M of them abreast: float32
// within 1.5 ulp, and e^x not below e^-87 (float64: e^-700).
template <class V, int M = 1>
class FallingExponential {
    using T = ScalarOf<V>;
    V scale_[M], scaled_excess_[M];  // e^x = 2^n (1 + excess)

  public:
    explicit COMPVAE_INLINE FallingExponential(const V (&x)[M]) {
        constexpr bool single = sizeof(T) == 4;
        constexpr T rounding = single ? T(ROUNDING) : T(6755399441055744.0);
        V r[M], shifted[M], n[M];
        abreast<M>([&](int i) COMPVAE_INLINE_LAMBDA { r[i] = at_least(x[i], T(single ? -87 : -700)); });
        abreast<M>([&](int i) COMPVAE_INLINE_LAMBDA { shifted[i] = r[i] * T(1.4426950408889634) + rounding; });
        abreast<M>([&](int i) COMPVAE_INLINE_LAMBDA { n[i] = shifted[i] - rounding; });
        abreast<M>([&](int i) COMPVAE_INLINE_LAMBDA { r[i] = r[i] - n[i] * (single ? T(0.693359375) : T(6.93147180369123816490e-01)); });
        abreast<M>([&](int i) COMPVAE_INLINE_LAMBDA { r[i] = r[i] - n[i] * (single ? T(-2.12194440e-4) : T(1.90821492927058770002e-10)); });
        abreast<M>([&](int i) COMPVAE_INLINE_LAMBDA { scale_[i] = power_of_two(shifted[i]); });
        abreast<M>([&](int i) COMPVAE_INLINE_LAMBDA { scaled_excess_[i] = scale_[i] * (exp_tail(r[i]) * (r[i] * r[i]) + r[i]); });
    }
    COMPVAE_INLINE V exp(int i = 0) const { return scaled_excess_[i] + scale_[i]; }
    COMPVAE_INLINE V expm1(int i = 0) const { return scaled_excess_[i] + (scale_[i] - 1); }
};
// e^x - 1
template <class V>
COMPVAE_INLINE V expm1(V x) {
    return select<V>(is_small(x, TAIL), exp_tail(x) * (x * x) + x, exp(x) - 1);
}
// e^x - 1 - x, given e^x
template <class V>
COMPVAE_INLINE V exp_excess(V x, V exp_x) {
    return select<V>(is_small(x, TAIL), exp_tail(x) * (x * x), exp_x - 1 - x);
}

// Natural logarithm of finite x > 0 (normal numbers).
COMPVAE_INLINE VF log(VF x) {
    const IF shifted = bits<IF>(x) - 0x3f3504f3;  // sqrt(1/2): the mantissa lands in [sqrt(1/2), sqrt 2)
    const VF e = __builtin_convertvector(shifted >> 23, VF);
    const VF f = bits<VF>((shifted & 0x7fffff) + 0x3f3504f3) - 1.0f;
    static constexpr double c[] = {3.3333331174e-1,  -2.4999993993e-1, 2.0000714765e-1,  -1.6668057665e-1, 1.4249322787e-1,
                                   -1.2420140846e-1, 1.1676998740e-1, -1.1514610310e-1, 7.0376836292e-2};
    const VF f2 = f * f;
    const VF tail = horner(f, c) * (f * f2) + e * -2.12194440e-4f - f2 * 0.5f;
    return f + tail + e * 0.693359375f;
}
// In place, -2 ln x for x in (0, 1], within 2e-7 of itself; M of them abreast.
template <int M>
COMPVAE_INLINE void minus_two_log(VF (&x)[M]) {
    // -2 (ln (1 + f) - f) / f^2
    static constexpr double c[] = {1.0,           -6.6666662348e-1, 4.9999987986e-1,  -4.000142953e-1,  3.333611533e-1,
                                   -2.8498645574e-1, 2.4840281692e-1, -2.335399748e-1, 2.302922062e-1, -1.4075367258e-1};
    VF e[M], f[M], p[M];
    abreast<M>([&](int i) COMPVAE_INLINE_LAMBDA {
        const IF shifted = bits<IF>(x[i]) - 0x3f3504f3;
        e[i] = __builtin_convertvector(shifted >> 23, VF);
        f[i] = bits<VF>((shifted & 0x7fffff) + 0x3f3504f3) - 1.0f;
        p[i] = splat<VF>(float(c[9]));
    });
    COMPVAE_UNROLL
    for (int k = 8; k >= 0; --k) abreast<M>([&](int i) COMPVAE_INLINE_LAMBDA { p[i] = p[i] * f[i] + float(c[k]); });
    abreast<M>([&](int i) COMPVAE_INLINE_LAMBDA { x[i] = e[i] * -1.38629436f + (p[i] * (f[i] * f[i]) + f[i] * -2.0f); });
}
COMPVAE_INLINE VD log(VD x) {
    const ID shifted = bits<ID>(x) - 0x3fe6a09e667f3bcdLL;
    const VD e = __builtin_convertvector(shifted >> 52, VD);
    const VD m = bits<VD>((shifted & 0xfffffffffffffLL) + 0x3fe6a09e667f3bcdLL);
    const VD f = m - 1.0, s = f / (m + 1.0), s2 = s * s;
    static constexpr double c[] = {1.0 / 3,  1.0 / 5,  1.0 / 7,  1.0 / 9,  1.0 / 11,
                                   1.0 / 13, 1.0 / 15, 1.0 / 17, 1.0 / 19, 1.0 / 21, 1.0 / 23};
    // ln m = 2 atanh(s) = f - s (f - 2 s^2 (1/3 + s^2/5 + ...))
    const VD tail = s * (f - 2.0 * s2 * horner(s2, c));
    return e * 6.93147180369123816490e-01 + (f - (tail - e * 1.90821492927058770002e-10));
}

// cos(pi t) and sin(pi t) for |t| <= 1; M of them abreast.
template <int M>
COMPVAE_INLINE void cos_sin_pi(const VF (&t)[M], VF (&cosine)[M], VF (&sine)[M]) {
    // sin(pi r) = r (pi_high + pi_low + r^2 (...)), cos(pi r) = 1 + r^2 (...) on |r| <= 1/4
    static constexpr double s[] = {-8.742278e-8, -5.16771278004997, 2.550164039877345, -0.5992645293207921, 0.08214588661112822};
    static constexpr double c[] = {1.0, -4.934802200544679, 4.058712126416768, -1.3352627688545893, 0.23533063035889312,
                                   -0.025806891390014};
    VF shifted[M], r[M], r2[M], low[M], cos_r[M];
    abreast<M>([&](int i) COMPVAE_INLINE_LAMBDA { shifted[i] = t[i] * 2.0f + ROUNDING; });
    abreast<M>([&](int i) COMPVAE_INLINE_LAMBDA { r[i] = t[i] - (shifted[i] - ROUNDING) * 0.5f; });
    abreast<M>([&](int i) COMPVAE_INLINE_LAMBDA { r2[i] = r[i] * r[i]; });
    abreast<M>([&](int i) COMPVAE_INLINE_LAMBDA { cos_r[i] = r2[i] * float(c[5]) + float(c[4]); });
    abreast<M>([&](int i) COMPVAE_INLINE_LAMBDA { low[i] = r2[i] * float(s[4]) + float(s[3]); });
    COMPVAE_UNROLL
    for (int k = 3; k >= 0; --k) {
        abreast<M>([&](int i) COMPVAE_INLINE_LAMBDA { cos_r[i] = cos_r[i] * r2[i] + float(c[k]); });
        if (k < 3) abreast<M>([&](int i) COMPVAE_INLINE_LAMBDA { low[i] = low[i] * r2[i] + float(s[k]); });
    }
    abreast<M>([&](int i) COMPVAE_INLINE_LAMBDA {
        const VF sin_r = r[i] * 3.14159274f + r[i] * low[i];
        const IF quadrant = bits<IF>(shifted[i]);
        const auto odd = (quadrant & 1) != 0;
        const VF cos_abs = select<VF>(odd, sin_r, cos_r[i]), sin_abs = select<VF>(odd, cos_r[i], sin_r);
        cosine[i] = bits<VF>(bits<IF>(cos_abs) ^ (((quadrant + 1) & 2) << 30));
        sine[i] = bits<VF>(bits<IF>(sin_abs) ^ ((quadrant & 2) << 30));
    });
}
COMPVAE_INLINE void cos_sin_pi(VD t, VD& cosine, VD& sine) {
    const double magic = 6755399441055744.0;
    const VD shifted = t * 2.0 + magic, q = shifted - magic, x = (t - q * 0.5) * 3.14159265358979323846, x2 = x * x;
    const ID quadrant = bits<ID>(shifted);
    static constexpr double s[] = {1.0,          -1.0 / 6,         1.0 / 120,          -1.0 / 5040, 1.0 / 362880,
                                   -1.0 / 39916800, 1.0 / 6227020800.0, -1.0 / 1307674368000.0, 1.0 / 355687428096000.0};
    static constexpr double c[] = {1.0,           -1.0 / 2,          1.0 / 24,           -1.0 / 720,  1.0 / 40320,
                                   -1.0 / 3628800, 1.0 / 479001600.0, -1.0 / 87178291200.0, 1.0 / 20922789888000.0,
                                   -1.0 / 6402373705728000.0};
    const VD sin_r = x * horner(x2, s), cos_r = horner(x2, c);
    const auto odd = (quadrant & 1) != 0;
    const VD cos_abs = select<VD>(odd, sin_r, cos_r), sin_abs = select<VD>(odd, cos_r, sin_r);
    cosine = bits<VD>(bits<ID>(cos_abs) ^ (((quadrant + 1) & 2) << 62));
    sine = bits<VD>(bits<ID>(sin_abs) ^ ((quadrant & 2) << 62));
}

template <class V>
COMPVAE_INLINE V sigmoid(V x) {
    const V e = exp(-abs(x)), s = 1 / (1 + e);
    return select<V>(x < 0, e * s, s);
}
// log(1 + x) for x >= 0: the rounding of 1 + x is given back by the second term
template <class V>
COMPVAE_INLINE V log1p(V x) {
    const V one = 1 + x;
    return select<V>(one == 1, x, log(one) + (x - (one - 1)) / one);
}
// log(1 + e^x)
template <class V>
COMPVAE_INLINE V softplus(V x) {
    return select<V>(x > 0, x, V{}) + log1p(exp(-abs(x)));
}
// In place; M of them abreast.
template <class V, int M>
COMPVAE_INLINE void tanh(V (&x)[M]) {
    V doubled[M];
    abreast<M>([&](int i) COMPVAE_INLINE_LAMBDA { doubled[i] = -2 * abs(x[i]); });
    const FallingExponential<V, M> e(doubled);
    abreast<M>([&](int i) COMPVAE_INLINE_LAMBDA {
        const V y = e.expm1(i), r = y / (y + 2);
        x[i] = select<V>(x[i] < 0, r, -r);
    });
}

}  // namespace COMPVAE_ISA
}  // namespace compvae
