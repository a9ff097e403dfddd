// The units of work: one block of coordinates of one set, spread over threads; their sums joined in a fixed order.
#pragma once
#include "../common/tensor.h"
#include "rows.h"

namespace compvae {
namespace COMPVAE_ISA {

constexpr int BLOCK = 64;  // coordinates handled together
constexpr int CHUNK = 64;  // parts handled together

struct Place {
    int64_t set, coordinate;  // index in the batch, first coordinate
    int width;                // coordinates in the block
};

// What is read after the chunk of n parts from `part` on: the set's next parts; after its last ones the first parts of the
// next block, or after the last block of the next set.
inline Next next_of(const Sets& sets, const Place& place, int64_t part, int n) {
    if (part + n < sets.size(place.set)) return {0, n, 0};
    if (place.coordinate + BLOCK < sets.width) return {0, -part, BLOCK};
    return {sets.offsets ? 0 : 1, sets.offsets ? n : -part, -place.coordinate};
}
// Where blocks from `first` to `end` go through the set together, the next of them comes before the next parts. What
// follows a set of several chunks is another thread's.
inline Next next_of(const Sets& sets, const Place& place, int64_t part, int n, int64_t first, int64_t end) {
    if (place.coordinate + BLOCK < end) return {0, 0, BLOCK};
    return sets.size(place.set) > n ? Next{0, n, first - place.coordinate} : next_of(sets, place, part, n);
}

// Whether so many rows, all that a call writes of a kind, are better written past the caches.
template <class T>
inline bool is_streamed(const Sets& sets, int64_t rows) {
    return rows * sets.width * int64_t(sizeof(T)) >= int64_t(8) << 20;
}
// The same for outputs with a row for each part, of which some may be absent.
template <class T, size_t COUNT>
inline bool is_streamed(const Sets& sets, const Tensor* const (&outputs)[COUNT]) {
    int64_t rows = 0;
    for (const Tensor* t : outputs)
        if (t->data) rows += sets.offsets ? sets.offsets[sets.count] : sets.count * sets.parts;
    return is_streamed<T>(sets, rows);
}
template <class T>
inline bool is_streamed(const Sets& sets, const Tensor& output) {
    const Tensor* outputs[] = {&output};
    return is_streamed<T>(sets, outputs);
}

inline int64_t blocks_of(int64_t width) { return (width + BLOCK - 1) / BLOCK; }

inline Place place_of(const Sets& sets, int64_t set, int64_t block) {
    const int64_t coordinate = block * BLOCK;
    return {set, coordinate, int(sets.width - coordinate < BLOCK ? sets.width - coordinate : BLOCK)};
}

// body(worker, places, count, index of the first) for neighbouring blocks of a set: up to `most` together, where that
// leaves every thread some; of each set where one of them may be nearly all there is. Each thread has a Worker of its own.
constexpr int ABREAST = 8;
template <class Worker, class Body>
inline void for_each_run(const Sets& sets, Body body, int most = ABREAST) {
    const int64_t blocks = blocks_of(sets.width), count = sets.count * blocks;
    const int64_t fair = (sets.offsets || sets.lengths ? blocks : count) / (sets.threads > 0 ? sets.threads : 1);
    const int64_t together = fair < 1 ? 1 : fair < most ? fair : most, runs = (blocks + together - 1) / together;
    const int64_t units = sets.count * runs;
    // A block of a small set takes about a microsecond, as waking a thread does.
    const int threads = int(units < sets.threads ? units : sets.threads);
    // Neighbouring blocks to one thread, which reads ahead; but where sets differ, all the work may be in a few blocks.
    const int64_t share = sets.offsets || sets.lengths ? 1 : units / (threads * 16 + 1) + 1;
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        Worker worker;
#pragma omp for schedule(dynamic, share)
        for (int64_t i = 0; i < units; ++i) {
            const int64_t set = i / runs, block = i % runs * together;
            const int n = int(blocks - block < together ? blocks - block : together);
            Place places[ABREAST];
            for (int b = 0; b < n; ++b) places[b] = place_of(sets, set, block + b);
            body(worker, places, n, set * blocks + block);
        }
        finish_streams();
    }
}

// body(worker, place, index) for every place.
template <class Worker, class Body>
inline void for_each_place(const Sets& sets, Body body) {
    for_each_run<Worker>(
        sets, [&](Worker& worker, const Place* place, int, int64_t index) { body(worker, *place, index); }, 1);
}

// out[b] = the sum of set b's numbers in scratch [B * per_set]
inline void join(const Sets& sets, int64_t per_set, const double* scratch, const Tensor& out) {
    for (int64_t b = 0; b < sets.count; ++b) {
        double sum = 0;
        for (int64_t i = 0; i < per_set; ++i) sum += scratch[b * per_set + i];
        write_row(address(out, b, 0, 0), out.dtype, 1, 1, &sum);
    }
}
inline void join_blocks(const Sets& sets, const double* scratch, const Tensor& out) {
    join(sets, blocks_of(sets.width), scratch, out);
}

template <class T>
inline T read_value(const Tensor& t, int64_t set) {  // of a [B] tensor; 0 where it is absent
    T v = 0;
    if (t.data) read_row(address(t, set, 0, 0), t.dtype, 1, 1, &v);
    return v;
}

// A row of a [B, D] tensor in a padded buffer; zeros where it is absent.
template <class T>
inline void read_block(const Tensor& t, const Place& p, T (&out)[BLOCK]) {
    for (int i = 0; i < BLOCK; ++i) out[i] = T(0);
    if (t.data) read_row(address(t, p.set, 0, p.coordinate), t.dtype, t.stride_coordinate, p.width, out);
}
template <class T>
inline void write_block(const Tensor& t, const Place& p, const T* in) {
    if (t.data) write_row(address(t, p.set, 0, p.coordinate), t.dtype, t.stride_coordinate, p.width, in);
}

// Rows of stats [count][B][D], kept in the compute type.
template <class T>
inline void write_stats(T* stats, int count, const Sets& sets, const Place& p, const T (*in)[BLOCK]) {
    const bool streamed = p.width == BLOCK && is_streamed<T>(sets, sets.count * count) && sets.width * sizeof(T) % 64 == 0 &&
                          reinterpret_cast<uintptr_t>(stats) % 64 == 0;
    for (int s = 0; s < count; ++s) {
        T* row = stats + (s * sets.count + p.set) * sets.width + p.coordinate;
        if (streamed)
            for (int i = 0; i < BLOCK; i += Simd<T>::N) stream(row + i, load<typename Simd<T>::V>(in[s] + i));
        else
            std::memcpy(row, in[s], sizeof(T) * p.width);
    }
}
template <class T>
inline void read_stats(const T* stats, int count, const Sets& sets, const Place& p, T (*out)[BLOCK]) {
    for (int s = 0; s < count; ++s) {
        std::memcpy(out[s], stats + (s * sets.count + p.set) * sets.width + p.coordinate, sizeof(T) * p.width);
        for (int i = p.width; i < BLOCK; ++i) out[s][i] = T(0);
    }
}

// Padded tensors: the rows beyond a set's length are zero in every output.
inline void zero_padding(const Sets& sets, const Place& p, const Tensor& t) {
    if (!sets.lengths || !t.data) return;
    const double zeros[BLOCK] = {};
    for (int64_t k = sets.size(p.set); k < sets.parts; ++k)
        write_row(address(t, p.set, k, p.coordinate), t.dtype, t.stride_coordinate, p.width, zeros);
}

}  // namespace COMPVAE_ISA
}  // namespace compvae
