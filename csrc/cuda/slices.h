// How sets are cut into the pieces that blocks of threads work on, and how their sums come together.
//
// A block works on one slice of one set's parts and up to THREADS quads of coordinates. How a set is cut depends on its
// own size alone, and slices are joined in their order: the bits depend on nothing else in the batch.
#pragma once
#include "kernels.h"
#include "rows.h"

namespace compvae {
namespace gpu {

constexpr int CHUNK = 32;       // parts summed in the compute type before they join float64 sums
constexpr int THREADS = 128;    // of a block, at most
constexpr int MAX_SLICES = 256; // of a set
constexpr int FIELDS = 13;      // float64 numbers that a slice of a set leaves for each coordinate, at most

COMPVAE_HOST_DEVICE int64_t slice_length(int64_t parts) {
    int64_t length = parts / CHUNK;
    length = length < CHUNK ? CHUNK : length > 4 * CHUNK ? 4 * CHUNK : length;
    const int64_t least = (parts + MAX_SLICES - 1) / MAX_SLICES;
    length = length < least ? least : length;
    return (length + CHUNK - 1) / CHUNK * CHUNK;
}
// An empty set has one slice, which writes its outputs.
COMPVAE_HOST_DEVICE int64_t slices_of(int64_t parts) {
    return parts > 0 ? (parts + slice_length(parts) - 1) / slice_length(parts) : 1;
}

// Slots are what blocks are counted by: one for each slice, and some of a ragged batch idle, since its sets' sizes are
// known to the device alone. Set b's slots begin at offsets[b] / CHUNK + b.
COMPVAE_HOST_DEVICE int64_t slot_count(const Sets& s) {
    return s.offsets ? s.parts / CHUNK + s.count : s.count * slices_of(s.parts);
}
COMPVAE_HOST_DEVICE int64_t partial_count(const Sets& s) {
    if (!s.offsets) return s.count * slices_of(s.parts);
    const int64_t most = s.count * MAX_SLICES;
    return slot_count(s) < most ? slot_count(s) : most;
}
// Whether a set may have more than one slice, as far as the host knows.
inline bool may_be_cut(const Sets& s) { return s.parts > CHUNK; }

inline int block_of(int64_t width) {
    const int64_t quads = (width + QUAD - 1) / QUAD, warps = (quads + 31) / 32;
    return int(warps < THREADS / 32 ? (warps ? warps : 1) * 32 : THREADS);
}
inline int64_t column_blocks(int64_t width) {
    const int64_t span = int64_t(block_of(width)) * QUAD;
    return width ? (width + span - 1) / span : 1;
}

struct Bounds {
    int64_t row = 0, size = 0;  // first row in a ragged tensor; parts
};

// Where a set lies, with nothing beyond the tensors: one with a wrong offset or length counts as empty.
__device__ __forceinline__ Bounds bounds_of(const Sets& s, int64_t set) {
    if (s.offsets) {
        const int64_t first = s.offsets[set], end = s.offsets[set + 1];
        return first >= 0 && first <= end && end <= s.parts ? Bounds{first, end - first} : Bounds{};
    }
    if (!s.lengths) return {0, s.parts};
    const int64_t length = s.lengths[set];
    return {0, length >= 0 && length <= s.parts ? length : 0};
}

struct Slot {
    int64_t set = -1;  // -1: idle
    int64_t row = 0, size = 0;
    int64_t begin = 0, end = 0;  // the slice's parts
    int64_t slice = 0, slices = 1;
    int64_t pad_begin = 0, pad_end = 0;  // rows beyond the set's length that this slot writes zeros to
};

__device__ __forceinline__ int64_t partial_base(const Sets& s, const Slot& slot) {
    if (!s.offsets) return slot.set * slices_of(s.parts);
    return slot_count(s) <= s.count * MAX_SLICES ? slot.row / CHUNK + slot.set : slot.set * MAX_SLICES;
}

// The last set whose slots begin at or before `index`, found by a whole warp.
__device__ __forceinline__ int64_t set_of_slot(const Sets& s, int64_t index) {
    const int lane = threadIdx.x & 31;
    int64_t low = 0, high = s.count;
    while (high - low > 1) {
        const int64_t step = (high - low + 31) / 32, pivot = low + lane * step;
        const bool before = pivot < high && s.offsets[pivot] / CHUNK + pivot <= index;
        const unsigned votes = __ballot_sync(0xffffffffu, before);
        const int64_t last = votes ? 31 - __clz(votes) : 0;
        low += last * step;
        high = low + step < high ? low + step : high;
    }
    return low;
}

__device__ __forceinline__ Slot slot_at(const Sets& s, int64_t index) {
    Slot slot;
    const int64_t nominal = s.offsets ? 0 : slices_of(s.parts);
    const int64_t set = s.offsets ? set_of_slot(s, index) : index / nominal;
    if (set >= s.count) return slot;
    const Bounds bounds = bounds_of(s, set);
    slot.row = bounds.row;
    slot.size = bounds.size;
    slot.slices = slices_of(slot.size);
    slot.slice = s.offsets ? index - (bounds.row / CHUNK + set) : index % nominal;
    const int64_t length = slice_length(slot.size);
    if (slot.slice >= 0 && slot.slice < slot.slices) {
        slot.begin = slot.slice * length;
        slot.end = slot.begin + length < slot.size ? slot.begin + length : slot.size;
    } else {
        if (!s.lengths) return slot;
        slot.begin = slot.end = slot.size;
        slot.slices = 0;  // nothing to sum, padding alone
    }
    if (s.lengths) {
        const int64_t share = slice_length(s.parts), first = slot.slice * share, end = first + share;
        slot.pad_begin = first > slot.size ? first : slot.size;
        slot.pad_end = end < s.parts ? end : s.parts;
    }
    slot.set = set;
    return slot;
}

// The sum over a block's threads, in a fixed order; of use in thread 0. Every thread of the block must call it.
__device__ __forceinline__ double block_sum(double v) {
    __shared__ double warps[THREADS / 32];
    for (int distance = 16; distance; distance /= 2) v += __shfl_down_sync(0xffffffffu, v, distance);
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = v;
    __syncthreads();
    v = 0;
    if (threadIdx.x == 0)
        for (int w = 0; w < int(blockDim.x) / 32; ++w) v += warps[w];
    __syncthreads();
    return v;
}

// Working memory: numbers [B][column blocks]; partial sums [FIELDS][partials][D]; what is kept of a set that is cut,
// [FIELDS][B][D].
struct Scratch {
    double *numbers, *partials, *kept;
};
inline Scratch scratch_of(const Launch& launch, const Sets& s) {
    double* numbers = launch.scratch;
    double* partials = numbers + s.count * column_blocks(s.width);
    return {numbers, partials, partials + FIELDS * partial_count(s) * s.width};
}

// Queues `items` times `columns` blocks; what went wrong, if anything.
template <class... Parameters, class... Arguments>
Status queue(const Launch& launch, void (*kernel)(Parameters...), int64_t items, int64_t columns, int threads,
             const Arguments&... arguments) {
    if (items <= 0 || columns <= 0) return cudaSuccess;
    if (items > 0x7fffffff / columns) return cudaErrorInvalidConfiguration;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(unsigned(items * columns), 1, 1);
    config.blockDim = dim3(unsigned(threads), 1, 1);
    config.stream = launch.stream;
    return cudaLaunchKernelEx(&config, kernel, arguments...);
}

}  // namespace gpu
}  // namespace compvae
