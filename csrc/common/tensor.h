// What the native operations are called with: plain descriptions of tensors and of the sets in them.
#pragma once
#include <cstdint>

#include "host_device.h"

namespace compvae {

enum class DType : int32_t { float32 = 0, float64 = 1, bfloat16 = 2, float16 = 3 };

// A tensor of shape [B, K, D] (dense, padded), [N, D] (ragged: stride_set is 0) or [B, D] (stride_part is 0).
// Strides count elements. data may be null: an optional input that is absent, an output that nobody wants.
struct Tensor {
    char* data = nullptr;
    DType dtype = DType::float32;
    int64_t stride_set = 0, stride_part = 0, stride_coordinate = 1;
};

COMPVAE_HOST_DEVICE int64_t element_size(DType t) {
    return t == DType::float64 ? 8 : t == DType::float32 ? 4 : 2;
}

// The sets of a call. Dense: offsets and lengths are null and every set has `parts` parts. Padded: lengths [B].
// Ragged: offsets [B + 1]. Empty sets are legal everywhere.
struct Sets {
    int64_t count = 0;   // B
    int64_t parts = 0;   // K of dense and padded tensors, N of ragged ones
    int64_t width = 0;   // D
    const int64_t* offsets = nullptr;     // [B + 1]
    const int64_t* lengths = nullptr;     // [B]
    const int64_t* set_index = nullptr;   // [B], null: 0..B-1
    const int64_t* part_start = nullptr;  // [B], null: 0
    const int64_t* seeds = nullptr;       // [1], or [B] where seed_stride is 1
    int64_t seed_stride = 0;
    const int64_t* whole_sizes = nullptr;  // [B], parts of the sets that these are shards of; null: they are whole
    int threads = 1;

    COMPVAE_HOST_DEVICE int64_t size(int64_t b) const { return offsets ? offsets[b + 1] - offsets[b] : lengths ? lengths[b] : parts; }
    COMPVAE_HOST_DEVICE int64_t whole_size(int64_t b) const { return whole_sizes ? whole_sizes[b] : size(b); }
    COMPVAE_HOST_DEVICE int64_t row(int64_t b) const { return offsets ? offsets[b] : 0; }
    COMPVAE_HOST_DEVICE uint64_t index(int64_t b) const { return uint64_t(set_index ? set_index[b] : b); }
    COMPVAE_HOST_DEVICE uint64_t start(int64_t b) const { return uint64_t(part_start ? part_start[b] : 0); }
    COMPVAE_HOST_DEVICE uint64_t seed(int64_t b) const { return uint64_t(seeds[b * seed_stride]); }
};

}  // namespace compvae
