// Normals from Philox's words by Box-Muller, one at a time, for host and device. float32 within 2^-22 max(1, |n|),
// which takes fused multiply-adds; float64 within 1e-14.
#pragma once
#include <cmath>

#include "philox.h"

namespace compvae {

COMPVAE_HOST_DEVICE float uniform_from_word(uint32_t x) { return fmaf(float(int32_t(x >> 1)), 0x1p-31f, 0x1p-32f); }
COMPVAE_HOST_DEVICE float half_turns_from_word(uint32_t x) { return float(int32_t(x)) * 0x1p-31f; }

COMPVAE_HOST_DEVICE int32_t bits_of_float(float x) {
#ifdef __CUDA_ARCH__
    return __float_as_int(x);
#else
    int32_t i;
    __builtin_memcpy(&i, &x, sizeof i);
    return i;
#endif
}
COMPVAE_HOST_DEVICE float float_of_bits(int32_t i) {
#ifdef __CUDA_ARCH__
    return __int_as_float(i);
#else
    float x;
    __builtin_memcpy(&x, &i, sizeof x);
    return x;
#endif
}

// ln u of normal numbers u > 0. The machine's fast logarithm is too coarse near 1.
COMPVAE_HOST_DEVICE float log_of_uniform(float u) {
    const int32_t shifted = bits_of_float(u) - 0x3f3504f3;  // sqrt(1/2): the mantissa lands in [sqrt(1/2), sqrt 2)
    const float e = float(shifted >> 23), f = float_of_bits((shifted & 0x7fffff) + 0x3f3504f3) - 1.0f;
    float p = 7.0376836292e-2f;
    p = fmaf(p, f, -1.1514610310e-1f);
    p = fmaf(p, f, 1.1676998740e-1f);
    p = fmaf(p, f, -1.2420140846e-1f);
    p = fmaf(p, f, 1.4249322787e-1f);
    p = fmaf(p, f, -1.6668057665e-1f);
    p = fmaf(p, f, 2.0000714765e-1f);
    p = fmaf(p, f, -2.4999993993e-1f);
    p = fmaf(p, f, 3.3333331174e-1f);
    const float f2 = f * f;
    const float tail = fmaf(p, f * f2, fmaf(e, -2.12194440e-4f, -0.5f * f2));
    return fmaf(e, 0.693359375f, f + tail);
}
COMPVAE_HOST_DEVICE double log_of_uniform(double u) { return ::log(u); }

// cos(pi t) and sin(pi t) for |t| <= 1.
COMPVAE_HOST_DEVICE void cos_sin_of_half_turns(float t, float& cosine, float& sine) {
    const float shifted = fmaf(t, 2.0f, 12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
    const float q = shifted - 12582912.0f, r = fmaf(q, -0.5f, t), r2 = r * r;
    const int32_t quadrant = bits_of_float(shifted);
    // sin(pi r) = r (pi_high + pi_low + r^2 (...)), cos(pi r) = 1 + r^2 (...) on |r| <= 1/4
    const float s = fmaf(fmaf(fmaf(0.08214588661112822f, r2, -0.5992645293207921f), r2, 2.550164039877345f), r2,
                         -5.16771278004997f);
    const float c = fmaf(fmaf(fmaf(fmaf(-0.025806891390014f, r2, 0.23533063035889312f), r2, -1.3352627688545893f), r2,
                              4.058712126416768f), r2, -4.934802200544679f);
    const float sin_r = fmaf(r, 3.14159274f, r * fmaf(s, r2, -8.742278e-8f)), cos_r = fmaf(c, r2, 1.0f);
    const bool odd = quadrant & 1;
    cosine = float_of_bits(bits_of_float(odd ? sin_r : cos_r) ^ int32_t(uint32_t((quadrant + 1) & 2) << 30));
    sine = float_of_bits(bits_of_float(odd ? cos_r : sin_r) ^ int32_t(uint32_t(quadrant & 2) << 30));
}
COMPVAE_HOST_DEVICE void cos_sin_of_half_turns(double t, double& cosine, double& sine) {
    // quarter turns are exact; what is left lies within pi/4 of zero
    const double q = ::rint(2 * t), r = (t - 0.5 * q) * 3.14159265358979323846, c = ::cos(r), s = ::sin(r);
    const int quadrant = int(q) & 3;
    cosine = quadrant == 0 ? c : quadrant == 1 ? -s : quadrant == 2 ? -c : s;
    sine = quadrant == 0 ? s : quadrant == 1 ? c : quadrant == 2 ? -s : -c;
}

template <class T>
COMPVAE_HOST_DEVICE void normals_from_words(uint32_t radius, uint32_t angle, T& first, T& second) {
    const T r = ::sqrt(T(-2) * log_of_uniform(T(uniform_from_word(radius))));
    T cosine, sine;
    cos_sin_of_half_turns(T(half_turns_from_word(angle)), cosine, sine);
    first = r * cosine;
    second = r * sine;
}

// The normals of coordinates 4 * call .. 4 * call + 3.
template <class T>
COMPVAE_HOST_DEVICE void normals_of_call(uint64_t seed, uint64_t set, uint64_t part, uint32_t call, T (&out)[4]) {
    const Words w = philox4x32_10(noise_counter(set, part, call), uint32_t(seed), uint32_t(seed >> 32));
    normals_from_words(w.x[0], w.x[1], out[0], out[1]);
    normals_from_words(w.x[2], w.x[3], out[2], out[3]);
}

}  // namespace compvae
