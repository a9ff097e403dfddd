// Normals of the package's noise, 64 consecutive coordinates of one part at a time.
//
// The counter words that do not depend on the part (the coordinate, the set) run through the first rounds once for
// all parts: five of the twenty multiplications. Lane 4 m + j holds call (LANES / 4) j + m, so that transposes
// inside groups of four lanes give consecutive coordinates.
#pragma once
#include "../common/philox.h"
#include "places.h"
#include "vecmath.h"

namespace compvae {
namespace COMPVAE_ISA {


COMPVAE_INLINE VF uniform_from_words(Words32 x) {
    return __builtin_convertvector((IF)(x >> 1), VF) * 0x1p-31f + 0x1p-32f;
}
COMPVAE_INLINE VF half_turns_from_words(Words32 x) { return __builtin_convertvector((IF)x, VF) * 0x1p-31f; }

// Box-Muller: two words to two normals.
COMPVAE_INLINE void normals_from_words(Words32 radius, Words32 angle, VF& first, VF& second) {
    const VF r = sqrt(-2.0f * log(uniform_from_words(radius)));
    VF cosine, sine;
    cos_sin_pi(half_turns_from_words(angle), cosine, sine);
    first = r * cosine;
    second = r * sine;
}

COMPVAE_INLINE void store_normals(const Words32 (&x)[4], double* out);

COMPVAE_INLINE void store_normals(const Words32 (&x)[4], float* out) {
#if !defined(__FMA__) && !defined(__ARM_FEATURE_FMA)
    // Without fused multiply-adds float32 arithmetic comes too close to the promised 2^-22: round float64 results.
    double exact[4 * LANES];
    store_normals(x, exact);
    for (int i = 0; i < 4 * LANES; ++i) out[i] = float(exact[i]);
#else
    VF n0, n1, n2, n3, rows[4];
    normals_from_words(x[0], x[1], n0, n1);
    normals_from_words(x[2], x[3], n2, n3);
    transpose_quads(n0, n1, n2, n3, rows);
    for (int j = 0; j < 4; ++j) store(out + j * LANES, rows[j]);
#endif
}

COMPVAE_INLINE void store_normals(const Words32 (&x)[4], double* out) {
    Words32 words[4];
    VF rows[4];
    transpose_quads(bits<VF>(x[0]), bits<VF>(x[1]), bits<VF>(x[2]), bits<VF>(x[3]), rows);
    std::memcpy(words, rows, sizeof words);
    // words now holds the calls' words in order: four of them for each four coordinates
    const uint32_t* w = reinterpret_cast<const uint32_t*>(words);
    constexpr int N = LANES / 2;
    for (int i = 0; i < 2 * LANES; i += N) {
        VD u{}, t{}, cosine, sine;
        for (int j = 0; j < N; ++j) {
            u[j] = double(float(w[2 * (i + j)] >> 1) * 0x1p-31f + 0x1p-32f);
            t[j] = double(float(int32_t(w[2 * (i + j) + 1])) * 0x1p-31f);
        }
        const VD r = sqrt(-2.0 * log(u));
        cos_sin_pi(t, cosine, sine);
        for (int j = 0; j < N; ++j) {
            out[2 * (i + j)] = r[j] * cosine[j];
            out[2 * (i + j) + 1] = r[j] * sine[j];
        }
    }
}

class NoiseBlock {
  public:
    // first_coordinate: a multiple of 64
    void prepare(uint64_t seed, uint64_t set, uint64_t first_coordinate) {
        seed_ = seed;
        set_ = set;
        first_call_ = uint32_t(first_coordinate >> 2);
        prepare_rounds(0);
    }

    template <class T>
    void fill(uint64_t part, T* out) {
        if (uint32_t(part >> 32) != part_high_) prepare_rounds(part >> 32);
        const uint64_t set_product = uint64_t(PHILOX_M1) * uint32_t(set_);
        const uint32_t k0 = uint32_t(seed_), k1 = uint32_t(seed_ >> 32);
        const uint64_t p = uint64_t(PHILOX_M0) * (uint32_t(set_product >> 32) ^ uint32_t(part) ^ k0);
        const uint32_t part_high_word = uint32_t(p >> 32), part_low_word = uint32_t(p);
        for (int b = 0; b < BATCHES; ++b) {
            const Hoisted& h = hoisted_[b];
            Words32 x[4], high0, low0, high1, low1;
            multiply_words(h.b2 ^ part_high_word, PHILOX_M1, high1, low1);
            x[0] = high1 ^ h.c0;
            x[1] = low1;
            x[2] = h.c2 ^ part_low_word;
            x[3] = h.c3;
            for (int round = 3; round < 10; ++round) {
                multiply_words(x[0], PHILOX_M0, high0, low0);
                multiply_words(x[2], PHILOX_M1, high1, low1);
                x[0] = high1 ^ x[1] ^ (k0 + uint32_t(round) * PHILOX_W0);
                x[1] = low1;
                x[2] = high0 ^ x[3] ^ (k1 + uint32_t(round) * PHILOX_W1);
                x[3] = low0;
            }
            store_normals(x, out + b * 4 * LANES);
        }
    }

  private:
    static constexpr int BATCHES = BLOCK / (4 * LANES);

    void prepare_rounds(uint64_t part_high) {
        part_high_ = uint32_t(part_high);
        const uint32_t k0 = uint32_t(seed_), k1 = uint32_t(seed_ >> 32);
        const uint32_t c3 = counter_high(set_, part_high << 32);
        const uint64_t set_product = uint64_t(PHILOX_M1) * uint32_t(set_);
        for (int b = 0; b < BATCHES; ++b) {
            Words32 call, high, low, a2, a3;
            for (int lane = 0; lane < LANES; ++lane)
                call[lane] = first_call_ + b * LANES + (LANES / 4) * (lane % 4) + lane / 4;
            multiply_words(call, PHILOX_M0, high, low);
            a2 = high ^ c3 ^ k1;
            a3 = low;
            Words32 b0, b1;
            multiply_words(a2, PHILOX_M1, high, low);
            b0 = high ^ uint32_t(set_product) ^ (k0 + PHILOX_W0);
            b1 = low;
            Hoisted& h = hoisted_[b];
            h.b2 = a3 ^ (k1 + PHILOX_W1);
            h.c0 = b1 ^ (k0 + 2 * PHILOX_W0);
            multiply_words(b0, PHILOX_M0, high, low);
            h.c2 = high ^ (k1 + 2 * PHILOX_W1);
            h.c3 = low;
        }
    }

    struct Hoisted {
        Words32 b2, c0, c2, c3;
    };
    Hoisted hoisted_[BATCHES];
    uint64_t seed_ = 0, set_ = 0;
    uint32_t first_call_ = 0, part_high_ = 0;
};

}  // namespace COMPVAE_ISA
}  // namespace compvae
