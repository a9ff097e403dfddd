// The noise itself, as the kernels see it, at any indices.
#include "noise.h"

#include "kernels.h"

namespace compvae {
namespace COMPVAE_ISA {
namespace {

// body(first, end) over pieces of [0, count) for each thread
template <class Body>
void split(int64_t count, int threads, Body body) {
    constexpr int64_t PIECE = 4096;
    const int64_t pieces = (count + PIECE - 1) / PIECE;
    if (pieces < threads) threads = int(pieces);
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (int64_t i = 0; i < pieces; ++i) body(i * PIECE, count - i * PIECE < PIECE ? count : (i + 1) * PIECE);
}

}  // namespace

void philox(int64_t count, const int64_t* counters, const int64_t* keys, int64_t* out, int threads) {
    split(count, threads, [&](int64_t first, int64_t end) {
        for (int64_t i = first; i < end; ++i) {
            Words c;
            for (int j = 0; j < 4; ++j) c.x[j] = uint32_t(counters[4 * i + j]);
            c = philox4x32_10(c, uint32_t(keys[2 * i]), uint32_t(keys[2 * i + 1]));
            for (int j = 0; j < 4; ++j) out[4 * i + j] = c.x[j];
        }
    });
}

void normal(int64_t seed, int64_t count, const int64_t* sets, const int64_t* parts, const int64_t* coordinates,
            float* out, int threads) {
    split(count, threads, [&](int64_t first, int64_t end) {
        NoiseBlock block;
        alignas(64) float normals[BLOCK];
        int64_t set = -1, part = -1, origin = -1;
        for (int64_t i = first; i < end; ++i) {
            const int64_t start = coordinates[i] / BLOCK * BLOCK;
            const bool moved = sets[i] != set || start != origin;
            if (moved) block.prepare(uint64_t(seed), uint64_t(sets[i]), uint64_t(start));
            if (moved || parts[i] != part) block.fill_row(uint64_t(parts[i]), normals);
            set = sets[i];
            part = parts[i];
            origin = start;
            out[i] = normals[coordinates[i] - start];
        }
    });
}

void uniform(int64_t seed, int64_t count, const int64_t* sets, const int64_t* parts, const int64_t* coordinates,
             float* out, int threads) {
    split(count, threads, [&](int64_t first, int64_t end) {
        for (int64_t i = first; i < end; ++i) {
            const Words c = noise_counter(uint64_t(sets[i]), uint64_t(parts[i]), uint32_t(coordinates[i] >> 2));
            const Words words = philox4x32_10(c, uint32_t(uint64_t(seed)), uint32_t(uint64_t(seed) >> 32));
            out[i] = float(words.x[coordinates[i] & 3] >> 1) * 0x1p-31f + 0x1p-32f;
        }
    });
}

}  // namespace COMPVAE_ISA
}  // namespace compvae
