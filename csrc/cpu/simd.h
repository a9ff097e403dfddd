// Vectors of the instruction set this file is compiled for. Every source in csrc/cpu is compiled once for each
// of them, in a namespace of its own (COMPVAE_ISA), and chosen at run time.
#pragma once
#include <cstdint>
#include <cstring>

// Vector functions must not become calls: every vector register is the caller's to save.
#define COMPVAE_INLINE inline __attribute__((always_inline))
// The same for a lambda, after its parameters.
#define COMPVAE_INLINE_LAMBDA __attribute__((always_inline))
// Before a loop of a few steps, so that what it indexes stays in registers; -O2 alone leaves such loops rolled up.
#define COMPVAE_UNROLL _Pragma("GCC unroll 32")

#if defined(__SSE2__)
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
typedef uint64_t Words64 __attribute__((vector_size(4 * LANES)));
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
    if constexpr (sizeof v == 64) return _mm512_stream_si512(reinterpret_cast<__m512i*>(p), (__m512i)v);
#endif
#if defined(__AVX2__)
    if constexpr (sizeof v == 32) return _mm256_stream_si256(reinterpret_cast<__m256i*>(p), (__m256i)v);
#endif
    store(p, v);
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
    return _mm512_sqrt_ps(x);
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

COMPVAE_INLINE VF at_least(VF x, float low) {  // NaN stays
#if defined(__AVX512F__)
    return _mm512_max_ps(_mm512_set1_ps(low), x);
#elif defined(__AVX2__)
    return _mm256_max_ps(_mm256_set1_ps(low), x);
#else
    return x < low ? splat<VF>(low) : x;
#endif
}

COMPVAE_INLINE VD at_least(VD x, double low) { return x < low ? splat<VD>(low) : x; }

// Whether a comparison holds in every lane.
template <class M>
COMPVAE_INLINE bool all(M mask) {
#if defined(__AVX512F__)
    return _mm512_movepi32_mask((__m512i)mask) == 0xFFFF;
#elif defined(__AVX2__)
    return _mm256_movemask_epi8((__m256i)mask) == -1;
#else
    bool r = true;
    for (unsigned i = 0; i < sizeof(mask) / sizeof(mask[0]); ++i) r = r && mask[i];
    return r;
#endif
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
// The same where the result is a normal number, as x is; the low bits of `shifted` hold n.
COMPVAE_INLINE VF scale_by_moderate_power(VF x, VF shifted) {
    return bits<VF>(bits<IF>(x) + (bits<IF>(shifted) << 23));
}
COMPVAE_INLINE VD scale_by_power(VD x, VD n) {
#if defined(__AVX512F__)
    return _mm512_scalef_pd(x, n);
#else
    const ID e = __builtin_convertvector(n, ID), half = e >> 1;
    return x * bits<VD>((half + 1023) << 52) * bits<VD>((e - half + 1023) << 52);
#endif
}

// 32 x 32 -> 64 bit products of the low word of every lane with one constant.
COMPVAE_INLINE Words64 multiply_low_words(Words64 x, uint32_t m) {
#if defined(__AVX512F__)
    return (Words64)_mm512_mul_epu32((__m512i)x, _mm512_set1_epi64(m));
#elif defined(__AVX2__)
    return (Words64)_mm256_mul_epu32((__m256i)x, _mm256_set1_epi64x(m));
#elif defined(__SSE2__)
    return (Words64)_mm_mul_epu32((__m128i)x, _mm_set1_epi64x(m));
#else
    return (x & 0xFFFFFFFFu) * uint64_t(m);
#endif
}

// The low words of two vectors, in turn: lane 2 i from `even`, lane 2 i + 1 from `odd`.
COMPVAE_INLINE Words32 interleave_low_words(Words64 even, Words64 odd) {
#if defined(__AVX512F__)
    return (Words32)_mm512_mask_shuffle_epi32((__m512i)even, 0xAAAA, (__m512i)odd, _MM_PERM_CCAA);
#elif defined(__AVX2__)
    return (Words32)_mm256_blend_epi32((__m256i)even, _mm256_slli_epi64((__m256i)odd, 32), 0xAA);
#else
    Words32 r;
    for (int i = 0; i < LANES / 2; ++i) {
        r[2 * i] = uint32_t(even[i]);
        r[2 * i + 1] = uint32_t(odd[i]);
    }
    return r;
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
