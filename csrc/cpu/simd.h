// Vectors of the instruction set this file is compiled for. Every source in csrc/cpu is compiled once for each
// of them, in a namespace of its own (COMPVAE_ISA), and chosen at run time.
#pragma once
#include <cstdint>
#include <cstring>

// Vector functions must not become calls: every vector register is the caller's to save.
#define COMPVAE_INLINE inline __attribute__((always_inline))

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

namespace compvae {
namespace COMPVAE_ISA {

#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX2__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif

template <class T>
struct Simd;
template <>
struct Simd<float> {
    static constexpr int N = LANES;
    typedef float V __attribute__((vector_size(4 * N)));
    typedef int32_t I __attribute__((vector_size(4 * N)));
};
template <>
struct Simd<double> {
    static constexpr int N = LANES / 2;
    typedef double V __attribute__((vector_size(8 * N)));
    typedef int64_t I __attribute__((vector_size(8 * N)));
};
typedef uint32_t Words32 __attribute__((vector_size(4 * LANES)));
using VF = Simd<float>::V;
using IF = Simd<float>::I;
using VD = Simd<double>::V;
using ID = Simd<double>::I;

template <class V>
COMPVAE_INLINE V load(const void* p) {
    V v;
    std::memcpy(&v, p, sizeof v);
    return v;
}
template <class V>
COMPVAE_INLINE void store(void* p, V v) {
    std::memcpy(p, &v, sizeof v);
}
// To memory that is not read soon, past the caches; p is aligned to the vector. finish_streams() before others read it.
template <class V>
COMPVAE_INLINE void stream(void* p, V v) {
#if defined(__AVX512F__)
    _mm512_stream_si512(reinterpret_cast<__m512i*>(p), (__m512i)v);
#elif defined(__AVX2__)
    _mm256_stream_si256(reinterpret_cast<__m256i*>(p), (__m256i)v);
#else
    store(p, v);
#endif
}
COMPVAE_INLINE void finish_streams() {
#if defined(__AVX2__)
    _mm_sfence();
#endif
}
template <class To, class From>
COMPVAE_INLINE To bits(From v) {
    static_assert(sizeof(To) == sizeof(From), "same size");
    To r;
    std::memcpy(&r, &v, sizeof r);
    return r;
}
template <class V, class S>
COMPVAE_INLINE V splat(S s) {
    return V{} + s;
}

// x as it is rounded: a product that goes into a difference through this is not fused with it, so that equal products
// differ by nothing.
template <class V>
COMPVAE_INLINE V rounded(V x) {
#if defined(__FMA__)
    asm("" : "+x"(x));
#elif defined(__ARM_FEATURE_FMA)
    asm("" : "+w"(x));
#endif
    return x;
}

COMPVAE_INLINE VF sqrt(VF x) {
#if defined(__AVX512F__)
    // Newton's step on the estimate: within an ulp, in a fraction of the time of the instruction. 0 stays 0.
    const VF y = _mm512_rsqrt14_ps(_mm512_max_ps(x, _mm512_set1_ps(1e-30f))), s = x * y;
    return s + 0.5f * y * (x - s * s);
#elif defined(__AVX2__)
    return _mm256_sqrt_ps(x);
#else
    VF r;
    for (int i = 0; i < LANES; ++i) r[i] = __builtin_sqrtf(x[i]);
    return r;
#endif
}
COMPVAE_INLINE VD sqrt(VD x) {
#if defined(__AVX512F__)
    return _mm512_sqrt_pd(x);
#elif defined(__AVX2__)
    return _mm256_sqrt_pd(x);
#else
    VD r;
    for (int i = 0; i < LANES / 2; ++i) r[i] = __builtin_sqrt(x[i]);
    return r;
#endif
}

// x between two bounds; NaN stays.
COMPVAE_INLINE VF clamp(VF x, float low, float high) {
#if defined(__AVX512F__)
    return _mm512_max_ps(_mm512_set1_ps(low), _mm512_min_ps(_mm512_set1_ps(high), x));
#elif defined(__AVX2__)
    return _mm256_max_ps(_mm256_set1_ps(low), _mm256_min_ps(_mm256_set1_ps(high), x));
#else
    x = x > high ? splat<VF>(high) : x;
    return x < low ? splat<VF>(low) : x;
#endif
}
COMPVAE_INLINE VD clamp(VD x, double low, double high) {
    x = x > high ? splat<VD>(high) : x;
    return x < low ? splat<VD>(low) : x;
}

// x * 2^n for integral n, with gradual underflow and overflow to infinity.
COMPVAE_INLINE VF scale_by_power(VF x, VF n) {
#if defined(__AVX512F__)
    return _mm512_scalef_ps(x, n);
#else
    const IF e = __builtin_convertvector(n, IF), half = e >> 1;
    return x * bits<VF>((half + 127) << 23) * bits<VF>((e - half + 127) << 23);
#endif
}
COMPVAE_INLINE VD scale_by_power(VD x, VD n) {
#if defined(__AVX512F__)
    return _mm512_scalef_pd(x, n);
#else
    const ID e = __builtin_convertvector(n, ID), half = e >> 1;
    return x * bits<VD>((half + 1023) << 52) * bits<VD>((e - half + 1023) << 52);
#endif
}

// 32 x 32 -> 64 bit products of every lane with one constant, as high and low words.
COMPVAE_INLINE void multiply_words(Words32 x, uint32_t m, Words32& high, Words32& low) {
#if defined(__AVX512F__)
    const __m512i v = (__m512i)x, c = _mm512_set1_epi64(m);
    const __m512i even = _mm512_mul_epu32(v, c), odd = _mm512_mul_epu32(_mm512_srli_epi64(v, 32), c);
    high = (Words32)_mm512_mask_blend_epi32(0xAAAA, _mm512_srli_epi64(even, 32), odd);
    low = (Words32)_mm512_mask_blend_epi32(0xAAAA, even, _mm512_slli_epi64(odd, 32));
#elif defined(__AVX2__)
    const __m256i v = (__m256i)x, c = _mm256_set1_epi64x(m);
    const __m256i even = _mm256_mul_epu32(v, c), odd = _mm256_mul_epu32(_mm256_srli_epi64(v, 32), c);
    high = (Words32)_mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xAA);
    low = (Words32)_mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xAA);
#else
    for (int i = 0; i < LANES; ++i) {
        const uint64_t p = uint64_t(m) * x[i];
        high[i] = uint32_t(p >> 32);
        low[i] = uint32_t(p);
    }
#endif
}

// 4 x 4 transposes inside each group of four lanes: r[j] holds, in group m, lane 4 m + j of a, b, c and d.
template <class V>
COMPVAE_INLINE void transpose_quads(V a, V b, V c, V d, V (&r)[4]) {
#if defined(__AVX512F__)
    const __m512 ab0 = _mm512_unpacklo_ps(a, b), ab1 = _mm512_unpackhi_ps(a, b);
    const __m512 cd0 = _mm512_unpacklo_ps(c, d), cd1 = _mm512_unpackhi_ps(c, d);
    r[0] = _mm512_shuffle_ps(ab0, cd0, 0x44);
    r[1] = _mm512_shuffle_ps(ab0, cd0, 0xEE);
    r[2] = _mm512_shuffle_ps(ab1, cd1, 0x44);
    r[3] = _mm512_shuffle_ps(ab1, cd1, 0xEE);
#elif defined(__AVX2__)
    const __m256 ab0 = _mm256_unpacklo_ps(a, b), ab1 = _mm256_unpackhi_ps(a, b);
    const __m256 cd0 = _mm256_unpacklo_ps(c, d), cd1 = _mm256_unpackhi_ps(c, d);
    r[0] = _mm256_shuffle_ps(ab0, cd0, 0x44);
    r[1] = _mm256_shuffle_ps(ab0, cd0, 0xEE);
    r[2] = _mm256_shuffle_ps(ab1, cd1, 0x44);
    r[3] = _mm256_shuffle_ps(ab1, cd1, 0xEE);
#else
    for (int j = 0; j < 4; ++j) r[j] = V{a[j], b[j], c[j], d[j]};
#endif
}

}  // namespace COMPVAE_ISA
}  // namespace compvae
