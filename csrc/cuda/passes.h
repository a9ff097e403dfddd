// The passes over the sets of a call that an operation is made of.
//
// An Op says what is summed over a set's parts and what is done with the sums:
//     PHASES                      how often the parts are summed over, 0 to 2; the second time with the first's result
//     State<P>                    the sums of phase P at one coordinate: visit(f) calls f for every number, join adds
//                                 those of the parts that follow
//     Kept                        what is known of a set at one coordinate: visit(f)
//     reduce<P>(place, kept, begin, end, state)  sums over one chunk of parts, [begin, end), at least one
//     finish<P>(place, kept, state, number)      the sums are complete: writes outputs, adds to `number`
//     apply(place, kept, begin, end)             writes what each part has, where APPLIES
//     pad(place)                                 writes zeros beyond a set's length
//     BLOCKS                      how many blocks a multiprocessor must hold, which bounds the registers
//     numbers                     the output [B] that `number` is summed into over the coordinates, where NUMBERS
// A set of one slice is done in one pass over memory, its parts read again from the caches. Others take a pass over
// the slices and one that joins them for each phase, and one to apply.
#pragma once
#include <type_traits>

#include "../common/stats.h"
#include "slices.h"

namespace compvae {
namespace gpu {

// One thread's work: a set, a slice of its parts, a quad of coordinates.
struct Place {
    Slot slot;
    int64_t coordinate = 0;
    int width = 0;  // coordinates of the quad; 0 beyond the tensor's
};

__device__ __forceinline__ int64_t column_of_block(int64_t columns) { return blockIdx.x % uint32_t(columns); }
__device__ __forceinline__ int64_t item_of_block(int64_t columns) { return blockIdx.x / uint32_t(columns); }

__device__ __forceinline__ Place place_of(const Sets& s, const Slot& slot, int64_t columns) {
    Place place;
    place.slot = slot;
    place.coordinate = (column_of_block(columns) * blockDim.x + threadIdx.x) * QUAD;
    const int64_t left = s.width - place.coordinate;
    place.width = left <= 0 ? 0 : left < QUAD ? int(left) : QUAD;
    return place;
}

// The numbers of a thing with visit(f), `stride` apart in memory.
template <class Thing>
__device__ __forceinline__ void store_fields(double* p, int64_t stride, Thing& thing) {
    thing.visit([&](auto& x) {
        *p = double(x);
        p += stride;
    });
}
template <class Thing>
__device__ __forceinline__ void load_fields(const double* p, int64_t stride, Thing& thing) {
    thing.visit([&](auto& x) {
        x = std::decay_t<decltype(x)>(*p);
        p += stride;
    });
}

// Where a slice's sums lie, for the quad's first coordinate; [fields][partials][D].
template <class Op>
__device__ __forceinline__ double* partial_of(const Op& op, const Place& place, int64_t slice) {
    return op.scratch.partials + (partial_base(op.sets, place.slot) + slice) * op.sets.width + place.coordinate;
}
template <class Op>
__device__ __forceinline__ int64_t partial_stride(const Op& op) {
    return partial_count(op.sets) * op.sets.width;
}
// state = the slice's sums so far joined with state
template <class Op, class State>
__device__ __forceinline__ void join_after_partial(const Op& op, const Place& place, int64_t slice, State (&state)[QUAD]) {
    const double* p = partial_of(op, place, slice);
#pragma unroll
    for (int j = 0; j < QUAD; ++j)
        if (j < place.width) {
            State before = {};
            load_fields(p + j, partial_stride(op), before);
            before.join(state[j]);
            state[j] = before;
        }
}
template <class Op, class State>
__device__ __forceinline__ void store_partial(const Op& op, const Place& place, State (&state)[QUAD]) {
    double* p = partial_of(op, place, place.slot.slice);
#pragma unroll
    for (int j = 0; j < QUAD; ++j)
        if (j < place.width) store_fields(p + j, partial_stride(op), state[j]);
}
template <class Op>
__device__ __forceinline__ double* kept_of(const Op& op, const Place& place) {
    return op.scratch.kept + place.slot.set * op.sets.width + place.coordinate;
}
template <class Op>
__device__ __forceinline__ void store_kept(const Op& op, const Place& place, typename Op::Kept (&kept)[QUAD]) {
#pragma unroll
    for (int j = 0; j < QUAD; ++j)
        if (j < place.width) store_fields(kept_of(op, place) + j, op.sets.count * op.sets.width, kept[j]);
}
template <class Op>
__device__ __forceinline__ void load_kept(const Op& op, const Place& place, typename Op::Kept (&kept)[QUAD]) {
#pragma unroll
    for (int j = 0; j < QUAD; ++j)
        if (j < place.width) load_fields(kept_of(op, place) + j, op.sets.count * op.sets.width, kept[j]);
}

template <class Op>
__device__ __forceinline__ void write_number(const Op& op, int64_t set, double number) {
    const double sum = block_sum(number);
    if (threadIdx.x == 0) op.scratch.numbers[set * op.columns + column_of_block(op.columns)] = sum;
}

// The sums over a slice, chunk by chunk. Those of a set that is cut come together in memory: there is no room for two in
// the registers while parts are read.
template <class Op, int P>
__device__ __forceinline__ void sum_slice(const Op& op, const Place& place, typename Op::Kept (&kept)[QUAD],
                                          typename Op::template State<P> (&state)[QUAD]) {
    const Slot& slot = place.slot;
    if (!slot.size) return;
#pragma unroll 1
    for (int64_t part = slot.begin; part < slot.end; part += CHUNK) {
        for (int j = 0; j < QUAD; ++j) state[j] = {};
        op.template reduce<P>(place, kept, part, part + CHUNK < slot.end ? part + CHUNK : slot.end, state);
        if (slot.slices == 1) break;
        if (part > slot.begin) join_after_partial(op, place, slot.slice, state);
        store_partial(op, place, state);
    }
}

// Sums over a slice, and all the rest where it is the whole set.
template <class Op>
__global__ void __launch_bounds__(THREADS, Op::BLOCKS) first_pass(const __grid_constant__ Op op) {
    const Slot slot = slot_at(op.sets, item_of_block(op.columns));
    if (slot.set < 0) return;
    const Place place = place_of(op.sets, slot, op.columns);
    double number = 0;
    if (place.width) {
        op.pad(place);
        typename Op::Kept kept[QUAD] = {};
        if constexpr (Op::PHASES > 0) {
            if (slot.slices > 0) {
                typename Op::template State<0> state[QUAD] = {};
                sum_slice<Op, 0>(op, place, kept, state);
                if (slot.slices == 1) op.template finish<0>(place, kept, state, number);
            }
        }
        if constexpr (Op::PHASES > 1) {
            if (slot.slices == 1) {
                typename Op::template State<1> state[QUAD] = {};
                if (slot.size) op.template reduce<1>(place, kept, slot.begin, slot.end, state);
                op.template finish<1>(place, kept, state, number);
            }
        }
        if constexpr (Op::APPLIES) {
            if (slot.begin < slot.end && (Op::PHASES == 0 || slot.slices == 1)) op.apply(place, kept, slot.begin, slot.end);
        }
    }
    if constexpr (Op::NUMBERS) {
        if (slot.slices == 1) write_number(op, slot.set, number);
    }
}

// Of sets that are cut: the second phase (P = 1), or what each part has (P = PHASES).
template <class Op, int P>
__global__ void __launch_bounds__(THREADS) later_pass(const __grid_constant__ Op op) {
    const Slot slot = slot_at(op.sets, item_of_block(op.columns));
    if (slot.set < 0 || slot.slices < 2) return;
    const Place place = place_of(op.sets, slot, op.columns);
    if (!place.width) return;
    typename Op::Kept kept[QUAD] = {};
    load_kept(op, place, kept);
    if constexpr (P < Op::PHASES) {
        typename Op::template State<P> state[QUAD] = {};
        sum_slice<Op, P>(op, place, kept, state);
    } else {
        op.apply(place, kept, slot.begin, slot.end);
    }
}

// Joins the slices of sets that are cut.
template <class Op, int P>
__global__ void __launch_bounds__(THREADS) join_pass(const __grid_constant__ Op op) {
    Slot slot;
    slot.set = item_of_block(op.columns);
    const Bounds bounds = bounds_of(op.sets, slot.set);
    slot.row = bounds.row;
    slot.size = bounds.size;
    slot.slices = slices_of(slot.size);
    if (slot.slices < 2) return;
    const Place place = place_of(op.sets, slot, op.columns);
    double number = 0;
    if (place.width) {
        typename Op::template State<P> state[QUAD] = {};
#pragma unroll
        for (int j = 0; j < QUAD; ++j)
            if (j < place.width) {
                const double* p = partial_of(op, place, 0) + j;
                load_fields(p, partial_stride(op), state[j]);
#pragma unroll 1
                for (int64_t slice = 1; slice < slot.slices; ++slice) {
                    typename Op::template State<P> next = {};
                    load_fields(p + slice * op.sets.width, partial_stride(op), next);
                    state[j].join(next);
                }
            }
        typename Op::Kept kept[QUAD] = {};
        if constexpr (P > 0) load_kept(op, place, kept);
        op.template finish<P>(place, kept, state, number);
        if constexpr (P + 1 < Op::PHASES || Op::APPLIES) store_kept(op, place, kept);
    }
    if constexpr (Op::NUMBERS) {
        if (P > 0) {
            if (threadIdx.x == 0) number += op.scratch.numbers[slot.set * op.columns + column_of_block(op.columns)];
        }
        write_number(op, slot.set, number);
    }
}

// out[b] = the sum of set b's numbers, in their order
static __global__ void __launch_bounds__(THREADS) sum_numbers(Tensor out, const double* numbers, int64_t count, int64_t each) {
    const int64_t set = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (set >= count) return;
    double sum = 0;
    for (int64_t i = 0; i < each; ++i) sum += numbers[set * each + i];
    store_number<double>(address(out, set, 0, 0), out.dtype, sum);
}
static inline Status join_numbers(const Launch& launch, const Tensor& out, const double* numbers, int64_t count, int64_t each) {
    return queue(launch, sum_numbers, (count + THREADS - 1) / THREADS, 1, THREADS, out, numbers, count, each);
}

// Blocks to a multiprocessor: as wanted for float32; float64 takes the registers that it needs.
template <class T>
constexpr int blocks_for(int wanted) {
    return sizeof(T) == sizeof(float) ? wanted : 1;
}

// Everything that every Op holds.
struct Call {
    Sets sets;
    Scratch scratch;
    int64_t columns;

    Call(const Launch& launch, const Sets& s) : sets(s), scratch(scratch_of(launch, s)), columns(column_blocks(s.width)) {}
};

template <class Op>
Status run(const Launch& launch, const Op& op) {
    const Sets& s = op.sets;
    const int threads = block_of(s.width);
    Status status = queue(launch, first_pass<Op>, slot_count(s), op.columns, threads, op);
    if constexpr (Op::PHASES > 0) {
        if (may_be_cut(s)) {
            if (!status) status = queue(launch, join_pass<Op, 0>, s.count, op.columns, threads, op);
            if constexpr (Op::PHASES > 1) {
                if (!status) status = queue(launch, later_pass<Op, 1>, slot_count(s), op.columns, threads, op);
                if (!status) status = queue(launch, join_pass<Op, 1>, s.count, op.columns, threads, op);
            }
            if constexpr (Op::APPLIES) {
                if (!status) status = queue(launch, later_pass<Op, Op::PHASES>, slot_count(s), op.columns, threads, op);
            }
        }
    }
    if constexpr (Op::NUMBERS) {
        if (!status && op.numbers.data) status = join_numbers(launch, op.numbers, op.scratch.numbers, s.count, op.columns);
    }
    return status;
}

// Calls f(a zero of the compute type, the coupling, the access) with those that a call on these tensors has. Without
// HALVES 16-bit numbers are read one by one: each kind of access takes nvcc its time.
template <bool HALVES = true, class List, class F>
Status by_type(Options options, const List& tensors, int64_t width, F f) {
    const auto by_access = [&](auto coupling) {
        if (options.float64) return f(0.0, coupling, std::integral_constant<Access, Access::any>());
        switch (access_of(tensors, width)) {
            case Access::vector32: return f(0.0f, coupling, std::integral_constant<Access, Access::vector32>());
            case Access::vector16:
                if constexpr (HALVES) return f(0.0f, coupling, std::integral_constant<Access, Access::vector16>());
            default: return f(0.0f, coupling, std::integral_constant<Access, Access::any>());
        }
    };
    return options.coupling ? by_access(std::integral_constant<Coupling, Coupling::scaled>())
                            : by_access(std::integral_constant<Coupling, Coupling::unit>());
}

template <class List, class F>
Status by_access(bool float64, const List& tensors, int64_t width, F f) {
    return by_type({1, float64}, tensors, width, [&](auto zero, auto, auto access) { return f(zero, access); });
}

}  // namespace gpu
}  // namespace compvae
