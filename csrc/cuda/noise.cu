// The noise itself, as the kernels see it, at any indices.
#include "multiset.h"

namespace compvae {
namespace gpu {
namespace {

__device__ __forceinline__ int64_t thread_index() { return int64_t(blockIdx.x) * blockDim.x + threadIdx.x; }

template <class Kernel, class... Arguments>
Status queue_for_each(const Launch& launch, Kernel kernel, int64_t count, const Arguments&... arguments) {
    return queue(launch, kernel, (count + THREADS - 1) / THREADS, 1, THREADS, count, arguments...);
}

__global__ void __launch_bounds__(THREADS) philox_each(int64_t count, const int64_t* counters, const int64_t* keys, int64_t* out) {
    const int64_t i = thread_index();
    if (i >= count) return;
    Words c;
    for (int j = 0; j < 4; ++j) c.x[j] = uint32_t(counters[4 * i + j]);
    c = philox4x32_10(c, uint32_t(keys[2 * i]), uint32_t(keys[2 * i + 1]));
    for (int j = 0; j < 4; ++j) out[4 * i + j] = c.x[j];
}

__global__ void __launch_bounds__(THREADS) normal_each(int64_t count, const int64_t* seed, const int64_t* sets, const int64_t* parts,
                                                       const int64_t* coordinates, float* out) {
    const int64_t i = thread_index();
    if (i >= count) return;
    float normals[4];
    normals_of_call<float>(uint64_t(*seed), uint64_t(sets[i]), uint64_t(parts[i]), uint32_t(coordinates[i] >> 2), normals);
    const int lane = int(coordinates[i] & 3);
    out[i] = lane == 0 ? normals[0] : lane == 1 ? normals[1] : lane == 2 ? normals[2] : normals[3];
}

__global__ void __launch_bounds__(THREADS) uniform_each(int64_t count, const int64_t* seed, const int64_t* sets, const int64_t* parts,
                                                        const int64_t* coordinates, float* out) {
    const int64_t i = thread_index();
    if (i >= count) return;
    const Words c = noise_counter(uint64_t(sets[i]), uint64_t(parts[i]), uint32_t(coordinates[i] >> 2));
    const Words words = philox4x32_10(c, uint32_t(uint64_t(*seed)), uint32_t(uint64_t(*seed) >> 32));
    out[i] = uniform_from_word(words.x[coordinates[i] & 3]);
}

}  // namespace

Status philox(const Launch& launch, int64_t count, const int64_t* counters, const int64_t* keys, int64_t* out) {
    return queue_for_each(launch, philox_each, count, counters, keys, out);
}
Status normal(const Launch& launch, const int64_t* seed, int64_t count, const int64_t* sets, const int64_t* parts,
              const int64_t* coordinates, float* out) {
    return queue_for_each(launch, normal_each, count, seed, sets, parts, coordinates, out);
}
Status uniform(const Launch& launch, const int64_t* seed, int64_t count, const int64_t* sets, const int64_t* parts,
               const int64_t* coordinates, float* out) {
    return queue_for_each(launch, uniform_each, count, seed, sets, parts, coordinates, out);
}

}  // namespace gpu
}  // namespace compvae
