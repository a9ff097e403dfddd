// Runs CUDA kernels on the host, so that their logic can be tested where there is no GPU: the blocks of a launch one
// after the other, the threads of a block as fibers that take turns at every barrier and every exchange within a warp.
// Only what csrc/cuda uses is here. It shows nothing of memory ordering, of races between warps, or of speed.
#pragma once
#include <setjmp.h>
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __shared__ static
#define __grid_constant__
#define __launch_bounds__(...)
#define CUDART_VERSION 0

using cudaStream_t = struct CUstream_st*;
enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidConfiguration = 9 };
inline const char* cudaGetErrorString(cudaError_t e) { return e ? "invalid configuration argument" : "no error"; }
inline cudaError_t cudaGetDeviceCount(int* count) {
    *count = 1;
    return cudaSuccess;
}

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct float4 {
    float x, y, z, w;
};
struct uint2 {
    unsigned x, y;
};
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
template <class T>
T __ldg(const T* p) {
    if (reinterpret_cast<uintptr_t>(p) % sizeof(T)) {
        std::fprintf(stderr, "emulation: a load of %zu bytes at a misaligned address\n", sizeof(T));
        std::abort();
    }
    return *p;
}

inline dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace emulation {

struct Fiber {
    jmp_buf at;
    ucontext_t context;
    std::vector<char> stack;
    bool started = false, done = false;
};

// One block's threads. A thread that arrives at a barrier gives way until all threads that still run have arrived.
struct Block {
    static constexpr int WARP = 32;
    std::vector<Fiber> fibers;
    std::function<void()> body;
    jmp_buf scheduler;
    int current = 0, live = 0, arrived = 0, generation = 0;
    int warp_arrived[32] = {}, warp_generation[32] = {}, warp_live[32] = {};
    uint64_t exchanged[1024] = {};
    int collecting = 0;
};
inline Block& now() {
    static Block block;
    return block;
}

inline void give_way() {
    Block& b = now();
    Fiber& f = b.fibers[b.current];
    if (!_setjmp(f.at)) _longjmp(b.scheduler, 1);
    threadIdx = dim3(unsigned(b.current));
}
inline void barrier() {
    Block& b = now();
    const int generation = b.generation;
    ++b.arrived;
    while (b.generation == generation) {
        if (b.arrived >= b.live) {
            b.arrived = 0;
            ++b.generation;
        } else {
            give_way();
        }
    }
}
inline void warp_barrier() {
    Block& b = now();
    const int warp = b.current / Block::WARP, generation = b.warp_generation[warp];
    ++b.warp_arrived[warp];
    while (b.warp_generation[warp] == generation) {
        if (b.warp_arrived[warp] >= b.warp_live[warp]) {
            b.warp_arrived[warp] = 0;
            ++b.warp_generation[warp];
        } else {
            give_way();
        }
    }
}
inline void enter() {
    Block& b = now();
    b.body();
    b.fibers[b.current].done = true;
    --b.live;
    --b.warp_live[b.current / Block::WARP];
    _longjmp(b.scheduler, 1);
}

inline void run(dim3 grid, dim3 threads, std::function<void()> body) {
    Block& b = now();
    b.body = std::move(body);
    blockDim = threads;
    gridDim = grid;
    if (b.fibers.size() < threads.x) b.fibers.resize(threads.x);
    for (unsigned index = 0; index < grid.x; ++index) {
        blockIdx = dim3(index);
        b.live = int(threads.x);
        b.arrived = 0;
        for (int w = 0; w < 32; ++w) {
            b.warp_arrived[w] = 0;
            const int left = int(threads.x) - w * Block::WARP;
            b.warp_live[w] = left < 0 ? 0 : left < Block::WARP ? left : Block::WARP;
        }
        for (unsigned i = 0; i < threads.x; ++i) b.fibers[i].started = b.fibers[i].done = false;
        while (b.live > 0)
            for (unsigned i = 0; i < threads.x; ++i) {
                Fiber& f = b.fibers[i];
                if (f.done) continue;
                b.current = int(i);
                threadIdx = dim3(i);
                if (_setjmp(b.scheduler)) continue;
                if (f.started) _longjmp(f.at, 1);
                f.started = true;
                f.stack.resize(256 << 10);
                getcontext(&f.context);
                f.context.uc_stack.ss_sp = f.stack.data();
                f.context.uc_stack.ss_size = f.stack.size();
                makecontext(&f.context, enter, 0);
                setcontext(&f.context);
            }
    }
}

}  // namespace emulation

inline void __syncthreads() { emulation::barrier(); }
inline int __syncthreads_or(int predicate) {
    emulation::Block& b = emulation::now();
    b.collecting |= predicate;
    emulation::barrier();
    const int result = b.collecting;
    emulation::barrier();
    b.collecting = 0;
    emulation::barrier();
    return result;
}
inline unsigned __ballot_sync(unsigned, bool predicate) {
    emulation::Block& b = emulation::now();
    b.exchanged[b.current] = predicate;
    emulation::warp_barrier();
    unsigned votes = 0;
    const int first = b.current / 32 * 32;
    for (int lane = 0; lane < 32; ++lane) votes |= unsigned(b.exchanged[first + lane]) << lane;
    emulation::warp_barrier();
    return votes;
}
inline double __shfl_down_sync(unsigned, double v, int distance) {
    emulation::Block& b = emulation::now();
    __builtin_memcpy(&b.exchanged[b.current], &v, sizeof v);
    emulation::warp_barrier();
    const int lane = b.current % 32, from = lane + distance < 32 ? b.current + distance : b.current;
    __builtin_memcpy(&v, &b.exchanged[from], sizeof v);
    emulation::warp_barrier();
    return v;
}
inline unsigned long long atomicAdd(unsigned long long* p, unsigned long long v) {
    const unsigned long long old = *p;
    *p += v;
    return old;
}
inline unsigned long long atomicMax(unsigned long long* p, unsigned long long v) {
    const unsigned long long old = *p;
    *p = old > v ? old : v;
    return old;
}
inline int __clz(unsigned x) { return x ? __builtin_clz(x) : 32; }

struct cudaLaunchConfig_t {
    dim3 gridDim, blockDim;
    size_t dynamicSmemBytes = 0;
    cudaStream_t stream = nullptr;
};
template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...), Arguments&&... arguments) {
    emulation::run(config->gridDim, config->blockDim, [&] { kernel(Parameters(arguments)...); });
    return cudaSuccess;
}
