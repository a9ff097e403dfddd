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

// Box-Muller: M pairs of words to M pairs of normals, r(x) cos pi t(y) and r(x) sin pi t(y).
template <int M>
COMPVAE_INLINE void normals_from_words(const Words32* const (&radius)[M], const Words32* const (&angle)[M],
                                       VF (&cosines)[M], VF (&sines)[M]) {
    VF r[M], t[M];
    abreast<M>([&](int i) COMPVAE_INLINE_LAMBDA { r[i] = uniform_from_words(*radius[i]); });
    minus_two_log<M>(r);
    abreast<M>([&](int i) COMPVAE_INLINE_LAMBDA { r[i] = sqrt(r[i]); });
    abreast<M>([&](int i) COMPVAE_INLINE_LAMBDA { t[i] = half_turns_from_words(*angle[i]); });
    cos_sin_pi<M>(t, cosines, sines);
    abreast<M>([&](int i) COMPVAE_INLINE_LAMBDA { cosines[i] *= r[i]; });
    abreast<M>([&](int i) COMPVAE_INLINE_LAMBDA { sines[i] *= r[i]; });
}

template <int M>
COMPVAE_INLINE void store_normals(const Words32 (&x)[M][4], double* const (&out)[M]) {
    for (int m = 0; m < M; ++m) {
        Words32 words[4];
        VF rows[4];
        transpose_quads(bits<VF>(x[m][0]), bits<VF>(x[m][1]), bits<VF>(x[m][2]), bits<VF>(x[m][3]), rows);
        std::memcpy(words, rows, sizeof words);
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
                out[m][2 * (i + j)] = r[j] * cosine[j];
                out[m][2 * (i + j) + 1] = r[j] * sine[j];
            }
        }
    }
}

template <int M>
COMPVAE_INLINE void store_normals(const Words32 (&x)[M][4], float* const (&out)[M]) {
#if !defined(__FMA__) && !defined(__ARM_FEATURE_FMA)
    // Without fused multiply-adds float32 arithmetic comes too close to the promised 2^-22: round float64 results.
    double exact[M][4 * LANES];
    double* rows[M];
    for (int m = 0; m < M; ++m) rows[m] = exact[m];
    store_normals<M>(x, rows);
    for (int m = 0; m < M; ++m)
        for (int i = 0; i < 4 * LANES; ++i) out[m][i] = float(exact[m][i]);
#else
    const Words32 *radius[2 * M], *angle[2 * M];
    VF cosines[2 * M], sines[2 * M];
    abreast<2 * M>([&](int i) COMPVAE_INLINE_LAMBDA {
        radius[i] = &x[i / 2][2 * (i % 2)];
        angle[i] = &x[i / 2][2 * (i % 2) + 1];
    });
    normals_from_words<2 * M>(radius, angle, cosines, sines);
    abreast<M>([&](int m) COMPVAE_INLINE_LAMBDA {
        VF rows[4];
        transpose_quads(cosines[2 * m], sines[2 * m], cosines[2 * m + 1], sines[2 * m + 1], rows);
        abreast<4>([&](int j) COMPVAE_INLINE_LAMBDA { store(out[m] + j * LANES, rows[j]); });
    });
#endif
}

// The call in each lane, even and odd lanes apart.
struct CallsOfLanes {
    uint64_t of[2][LANES / 2] = {};
    constexpr CallsOfLanes() {
        for (int lane = 0; lane < LANES; ++lane) of[lane % 2][lane / 2] = LANES / 4 * (lane % 4) + lane / 4;
    }
};
constexpr CallsOfLanes CALLS;

class NoiseBlock {
  public:
    // first_coordinate: a multiple of 64
    void prepare(uint64_t seed, uint64_t set, uint64_t first_coordinate) {
        if (seed != seed_ || !has_keys_)
            for (uint32_t round = 0; round < ROUNDS_LEFT; ++round) {
                keys_[round][0] = splat<Words64>(uint64_t(uint32_t(seed) + (round + 3) * PHILOX_W0));
                keys_[round][1] = splat<Words64>(uint64_t(uint32_t(seed >> 32) + (round + 3) * PHILOX_W1));
            }
        has_keys_ = true;
        seed_ = seed;
        set_ = set;
        first_call_ = uint32_t(first_coordinate >> 2);
        prepare_rounds(0);
    }

    // The noise of M parts from `part` on, one row of 64 after the other.
    template <int M, class T>
    COMPVAE_INLINE void fill(uint64_t part, T* out) {
        uint64_t products[M];
        const uint64_t set_product = uint64_t(PHILOX_M1) * uint32_t(set_);
        abreast<M>([&](int m) COMPVAE_INLINE_LAMBDA {
            products[m] = uint64_t(PHILOX_M0) * (uint32_t(set_product >> 32) ^ uint32_t(part + m) ^ uint32_t(seed_));
        });
        for (int b = 0; b < BATCHES; ++b) {
            // words of the counter, even and odd lanes apart
            Words64 x[4][2 * M];
            abreast<2 * M>([&](int i) COMPVAE_INLINE_LAMBDA {
                const Hoisted& h = hoisted_[b][i % 2];
                const uint64_t p = products[i / 2];
                const Words64 product = multiply_low_words(h.b2 ^ splat<Words64>(p >> 32), PHILOX_M1);
                x[0][i] = product >> 32 ^ h.c0;
                x[1][i] = product;
                x[2][i] = h.c2 ^ splat<Words64>(p);
                x[3][i] = h.c3;
            });
            COMPVAE_UNROLL
            for (int round = 0; round < ROUNDS_LEFT; ++round) {
                Words64 product0[2 * M], product1[2 * M];
                abreast<2 * M>([&](int i) COMPVAE_INLINE_LAMBDA { product0[i] = multiply_low_words(x[0][i], PHILOX_M0); });
                abreast<2 * M>([&](int i) COMPVAE_INLINE_LAMBDA { product1[i] = multiply_low_words(x[2][i], PHILOX_M1); });
                abreast<2 * M>([&](int i) COMPVAE_INLINE_LAMBDA {
                    x[0][i] = product1[i] >> 32 ^ x[1][i] ^ keys_[round][0];
                    x[1][i] = product1[i];
                    x[2][i] = product0[i] >> 32 ^ x[3][i] ^ keys_[round][1];
                    x[3][i] = product0[i];
                });
            }
            Words32 words[M][4];
            T* rows[M];
            abreast<M>([&](int m) COMPVAE_INLINE_LAMBDA {
                abreast<4>([&](int i) COMPVAE_INLINE_LAMBDA { words[m][i] = interleave_low_words(x[i][2 * m], x[i][2 * m + 1]); });
                rows[m] = out + m * BLOCK + b * 4 * LANES;
            });
            store_normals<M>(words, rows);
        }
    }

    // The noise of n parts from `part` on; meanwhile(k) is called beside the work on part k.
    template <class T, class F>
    COMPVAE_INLINE void fill_rows(uint64_t part, int n, T* out, F meanwhile) {
        // 32 registers hold the work on two parts
        constexpr int PAIR = LANES == 16 ? 2 : 1;
        for (int k = 0; k < n;) {
            prepare_part(part + k);
            const bool pair = k + PAIR <= n && uint32_t((part + k + PAIR - 1) >> 32) == part_high_;
            meanwhile(k);
            if (pair) {
                if (PAIR > 1) meanwhile(k + 1);
                fill<PAIR>(part + k, out + k * BLOCK);
                k += PAIR;
            } else {
                fill<1>(part + k, out + k * BLOCK);
                ++k;
            }
        }
    }
    template <class T>
    void fill_row(uint64_t part, T* out) {
        prepare_part(part);
        fill<1>(part, out);
    }

  private:
    static constexpr int BATCHES = BLOCK / (4 * LANES), ROUNDS_LEFT = 7;

    void prepare_part(uint64_t part) {
        if (uint32_t(part >> 32) != part_high_) prepare_rounds(part >> 32);
    }

    void prepare_rounds(uint64_t part_high) {
        part_high_ = uint32_t(part_high);
        const uint32_t k0 = uint32_t(seed_), k1 = uint32_t(seed_ >> 32);
        const uint64_t c3 = counter_high(set_, part_high << 32);
        const uint64_t set_product = uint64_t(PHILOX_M1) * uint32_t(set_);
        for (int b = 0; b < BATCHES; ++b)
            for (int parity = 0; parity < 2; ++parity) {
                const Words64 call = load<Words64>(CALLS.of[parity]) + uint64_t(first_call_ + b * LANES);
                const Words64 a = multiply_low_words(call, PHILOX_M0);
                const Words64 b0 = multiply_low_words(a >> 32 ^ c3 ^ uint64_t(k1), PHILOX_M1);
                const Words64 c = multiply_low_words(
                    b0 >> 32 ^ (uint64_t(uint32_t(set_product)) ^ uint64_t(uint32_t(k0 + PHILOX_W0))), PHILOX_M0);
                Hoisted& h = hoisted_[b][parity];
                h.b2 = a ^ uint64_t(uint32_t(k1 + PHILOX_W1));
                h.c0 = b0 ^ uint64_t(uint32_t(k0 + 2 * PHILOX_W0));
                h.c2 = c >> 32 ^ uint64_t(uint32_t(k1 + 2 * PHILOX_W1));
                h.c3 = c;
            }
    }

    struct Hoisted {
        Words64 b2, c0, c2, c3;
    };
    Hoisted hoisted_[BATCHES][2];
    Words64 keys_[ROUNDS_LEFT][2];
    uint64_t seed_ = 0, set_ = 0;
    uint32_t first_call_ = 0, part_high_ = 0;
    bool has_keys_ = false;
};

}  // namespace COMPVAE_ISA
}  // namespace compvae
