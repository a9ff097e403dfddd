// The values of index tensors, looked at where they lie. Kernels of operations follow no wrong index; here the sets that
// have one become NaN, and the host is told.
#include "multiset.h"

namespace compvae {
namespace gpu {

int64_t scratch_size(const Sets& s) {
    const int64_t cut = may_be_cut(s) ? FIELDS * (partial_count(s) + s.count) * s.width : 0;
    return s.count * column_blocks(s.width) + cut;
}

namespace {

constexpr int64_t MAX_PART = int64_t(1) << 48, MAX_SET = (int64_t(1) << 48) - 1;

__device__ __forceinline__ bool tell(Report* report, Argument which, int64_t place, int64_t value) {
    if (report && threadIdx.x == 0) report[which] = {place + 1, value};
    return true;
}

// Whether a set's indices are wrong; thread 0 tells of the first that is.
__device__ __forceinline__ bool is_wrong(const Sets& s, int64_t set, Report* report) {
    int64_t size = s.parts;
    if (s.offsets) {
        const int64_t first = s.offsets[set], end = s.offsets[set + 1];
        if (set == 0 && first != 0) return tell(report, OFFSETS, 0, first);
        if (first < 0 || first > s.parts) return tell(report, OFFSETS, set, first);
        if (end < first || end > s.parts || (set + 1 == s.count && end != s.parts)) return tell(report, OFFSETS, set + 1, end);
        size = end - first;
    }
    if (s.lengths) {
        size = s.lengths[set];
        if (size < 0 || size > s.parts) return tell(report, LENGTHS, set, size);
    }
    if (s.set_index && (s.set_index[set] < 0 || s.set_index[set] >= MAX_SET))
        return tell(report, SET_INDEX, set, s.set_index[set]);
    if (s.part_start && (s.part_start[set] < 0 || s.part_start[set] > MAX_PART - size))
        return tell(report, PART_START, set, s.part_start[set]);
    return false;
}

__device__ void fill_row(const Tensor& t, int64_t set, int64_t part, int64_t width) {
    for (int64_t c = threadIdx.x; c < width; c += blockDim.x)
        store_number<double>(address(t, set, part, c), t.dtype, nan(""));
}

// A block to a set.
__global__ void __launch_bounds__(THREADS) check_each_set(const __grid_constant__ Sets s, const __grid_constant__ Outputs outputs, Report* report) {
    const int64_t set = blockIdx.x;
    if (!is_wrong(s, set, report)) return;
    for (int i = 0; i < OUTPUTS; ++i) {
        const Output& out = outputs.list[i];
        if (!out.tensor.data || (out.parts && s.offsets)) continue;
        for (int64_t k = 0; k < (out.parts ? s.parts : out.rows); ++k)
            fill_row(out.tensor, set, k, out.width);
    }
}

// Where offsets are wrong, which rows belong to whom is not known: all of them become NaN. Every block looks at all
// offsets, then takes its share of the rows.
__global__ void __launch_bounds__(THREADS) fill_rows_of_wrong_offsets(const __grid_constant__ Sets s, const __grid_constant__ Outputs outputs) {
    int wrong = 0;
    for (int64_t set = threadIdx.x; set < s.count; set += blockDim.x) {
        const int64_t first = s.offsets[set], end = s.offsets[set + 1];
        wrong |= first < 0 || end < first || end > s.parts || (set == 0 && first != 0) || (set + 1 == s.count && end != s.parts);
    }
    if (!__syncthreads_or(wrong)) return;
    for (int i = 0; i < OUTPUTS; ++i)
        if (outputs.list[i].tensor.data && outputs.list[i].parts)
            for (int64_t row = blockIdx.x; row < s.parts; row += gridDim.x) fill_row(outputs.list[i].tensor, 0, row, outputs.list[i].width);
}

}  // namespace

Status check_sets(const Launch& launch, const Sets& s, const Outputs& outputs) {
    if (!s.offsets && !s.lengths && !s.set_index && !s.part_start) return cudaSuccess;
    Status status = queue(launch, check_each_set, s.count, 1, block_of(s.width), s, outputs, launch.report);
    bool rows = false;
    for (const Output& out : outputs.list) rows = rows || (out.parts && out.tensor.data);
    constexpr int64_t BLOCKS = 256;
    if (!status && s.offsets && rows)
        status = queue(launch, fill_rows_of_wrong_offsets, s.parts < BLOCKS ? s.parts : BLOCKS, 1, THREADS, s, outputs);
    return status;
}

}  // namespace gpu
}  // namespace compvae
