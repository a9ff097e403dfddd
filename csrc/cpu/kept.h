// What the first pass over a set leaves for the second one.
#pragma once
#include <cstdlib>
#include <memory>

#include "places.h"
#include "simd.h"

namespace compvae {
namespace COMPVAE_ISA {

// ROWS rows of a block for each part and one for each chunk, of all of a set where that is not too much.
template <class T, int ROWS>
class Kept {
  public:
    // How many of `count` neighbouring blocks best go through a set together: of a set that is kept as few as give memory
    // runs of 512 bytes, since the second pass then finds what the first one has read and made in the nearer caches.
    static int together(int64_t parts, int count) { return parts <= CHUNK ? 1 : fits(parts, 2) ? 2 : count; }

    void begin(int64_t parts, int blocks) {
        const bool is_one_chunk = parts <= CHUNK && blocks == 1;
        parts_ = parts;
        rows_ = own_;
        keeps_ = is_one_chunk || fits(parts, blocks);
        if (is_one_chunk || !keeps_) return;
        // From the heap, since a thread's stack may be smaller; it has room for any set that is kept.
        if (!heap_) heap_.reset(static_cast<T*>(std::aligned_alloc(64, BYTES)));
        keeps_ = heap_ != nullptr;
        if (keeps_) rows_ = heap_.get();
    }
    // Whether all rows are there until another set begins; else there is room for one chunk of one block.
    bool keeps() const { return keeps_; }
    // Rows of a block's parts from `part` on, the first of a chunk. Those of several kinds are not a multiple of 4 KiB
    // apart, which is one place in the first-level cache.
    T* rows(int which, int block, int64_t part) const {
        return rows_ + (keeps_ ? block * rows_of_block(parts_) + which * (parts_ + 1) + part : which * (CHUNK + 1)) * BLOCK;
    }
    T* row_of_chunk(int block, int64_t part) const { return rows(ROWS, block, keeps_ ? part / CHUNK : 0); }

  private:
    static constexpr int64_t BYTES = 4 << 20;
    struct Free {
        void operator()(T* p) const { std::free(p); }
    };
    std::unique_ptr<T, Free> heap_;
    T* rows_ = own_;
    int64_t parts_ = 0;
    bool keeps_ = false;
    alignas(64) T own_[(ROWS * (CHUNK + 1) + 1) * BLOCK];

    static int64_t rows_of_block(int64_t parts) { return ROWS * (parts + 1) + (parts + CHUNK - 1) / CHUNK; }
    static bool fits(int64_t parts, int blocks) {
        return rows_of_block(parts) * blocks <= BYTES / int64_t(BLOCK * sizeof(T));
    }
};

// Where exp(nu_i - ref) and sigma_i of a chunk's parts are, and the ref they go by, which is the one after the chunk.
template <class T>
struct PartFactors {
    using V = typename Simd<T>::V;
    T *powers, *sigmas, *references;

    void put(int k, int column, V power, V sigma) const {
        store(powers + k * BLOCK + column, power);
        store(sigmas + k * BLOCK + column, sigma);
    }
    V power(int k, int column) const { return load<V>(powers + k * BLOCK + column); }
    V sigma(int k, int column) const { return load<V>(sigmas + k * BLOCK + column); }
    V reference(int column) const { return load<V>(references + column); }
};

}  // namespace COMPVAE_ISA
}  // namespace compvae
