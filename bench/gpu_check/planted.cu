// Two faults that compute-sanitizer must find: with the argument "memory" a write beyond the end of device memory, with
// "race" two warps that exchange numbers through shared memory without a barrier. With "none" there is no fault.
#include <cuda_runtime.h>

#include <cstdio>
#include <cstring>

__global__ void work(float* out, int count, bool beyond, bool barrier) {
    __shared__ float numbers[64];
    numbers[threadIdx.x] = float(threadIdx.x);
    if (barrier) __syncthreads();
    const float other = numbers[63 - threadIdx.x];
    if (threadIdx.x < count + (beyond ? 1 : 0)) out[threadIdx.x] = other;
}

int main(int, char** arguments) {
    const bool memory = !std::strcmp(arguments[1], "memory"), race = !std::strcmp(arguments[1], "race");
    float* out = nullptr;
    if (cudaMalloc(&out, 32 * sizeof(float)) != cudaSuccess) return 2;
    work<<<1, 64>>>(out, 32, memory, !race);
    const cudaError_t status = cudaDeviceSynchronize();
    std::puts(cudaGetErrorString(status));
    return cudaFree(out) != cudaSuccess || status != cudaSuccess;
}
