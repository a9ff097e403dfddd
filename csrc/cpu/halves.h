// bfloat16 and float16 beside float32: a number at a time, and vectors.
#pragma once
#include "simd.h"

namespace compvae {
namespace COMPVAE_ISA {

typedef uint16_t Halves __attribute__((vector_size(2 * LANES)));      // as many as a vector of float32 has
typedef uint16_t HalvesPair __attribute__((vector_size(4 * LANES)));  // and twice as many, in as much memory

struct BFloat16 {
    static float widen(uint16_t b) { return bits<float>(uint32_t(b) << 16); }
    static uint16_t narrow(float f) {
        const uint32_t x = bits<uint32_t>(f);
        return (x & 0x7fffffff) > 0x7f800000 ? uint16_t(x >> 16 | 0x40) : uint16_t((x + 0x7fff + ((x >> 16) & 1)) >> 16);
    }
    COMPVAE_INLINE static VF widen(Halves b) { return bits<VF>(__builtin_convertvector(b, Words32) << 16); }
    COMPVAE_INLINE static Halves narrow(VF f) {
        const Words32 x = bits<Words32>(f), nan = x >> 16 | 0x40, rounded = (x + 0x7fff + ((x >> 16) & 1)) >> 16;
        return __builtin_convertvector(f != f ? nan : rounded, Halves);
    }
};

struct Float16 {
    static float widen(uint16_t h) {
#if defined(__F16C__)
        return _cvtsh_ss(h);
#else
        const uint32_t sign = uint32_t(h & 0x8000) << 16, exponent = (h >> 10) & 31, mantissa = h & 1023;
        if (exponent == 31) return bits<float>(sign | 0x7f800000u | mantissa << 13);
        if (exponent) return bits<float>(sign | (exponent + 112) << 23 | mantissa << 13);
        const float tiny = float(mantissa) * 0x1p-24f;
        return sign ? -tiny : tiny;
#endif
    }
    static uint16_t narrow(float f) {
#if defined(__F16C__)
        return uint16_t(_cvtss_sh(f, 0));
#else
        const uint32_t x = bits<uint32_t>(f), sign = (x >> 16) & 0x8000, magnitude = x & 0x7fffffff;
        if (magnitude > 0x7f800000) return uint16_t(sign | 0x7e00);
        if (magnitude >= 0x477ff000) return uint16_t(sign | 0x7c00);
        if (magnitude < 0x38800000) {  // subnormal: adding 0.5 rounds at 2^-24
            const float r = bits<float>(magnitude) + 0.5f;
            return uint16_t(sign | (bits<uint32_t>(r) - 0x3f000000));
        }
        const uint32_t rounded = magnitude + 0xfff + ((magnitude >> 13) & 1);
        return uint16_t(sign | (rounded - 0x38000000) >> 13);
#endif
    }
    COMPVAE_INLINE static VF widen(Halves h) {
#if defined(__AVX512F__)
        return _mm512_cvtph_ps((__m256i)h);
#elif defined(__F16C__)
        return _mm256_cvtph_ps((__m128i)h);
#else
        VF r;
        for (int i = 0; i < LANES; ++i) r[i] = widen(h[i]);
        return r;
#endif
    }
    COMPVAE_INLINE static Halves narrow(VF f) {
#if defined(__AVX512F__)
        return (Halves)_mm512_cvtps_ph(f, 0);
#elif defined(__F16C__)
        return (Halves)_mm256_cvtps_ph(f, 0);
#else
        Halves r;
        for (int i = 0; i < LANES; ++i) r[i] = narrow(f[i]);
        return r;
#endif
    }
};

template <class Half>
inline void widen_row(const uint16_t* p, int n, float* out) {
    int i = 0;
    for (; i + LANES <= n; i += LANES) store(out + i, Half::widen(load<Halves>(p + i)));
    for (; i < n; ++i) out[i] = Half::widen(p[i]);
}
template <class Half>
inline void narrow_row(const float* in, int n, uint16_t* p) {
    int i = 0;
    for (; i + LANES <= n; i += LANES) store(p + i, Half::narrow(load<VF>(in + i)));
    for (; i < n; ++i) p[i] = Half::narrow(in[i]);
}
// Past the caches: p is aligned to a vector, n a multiple of two.
template <class Half>
inline void stream_row(const float* in, int n, uint16_t* p) {
    for (int i = 0; i < n; i += 2 * LANES) {
        const Halves pair[2] = {Half::narrow(load<VF>(in + i)), Half::narrow(load<VF>(in + i + LANES))};
        stream(p + i, load<HalvesPair>(pair));
    }
}

}  // namespace COMPVAE_ISA
}  // namespace compvae
