// Four neighbouring coordinates at a time: one call of Philox, one 16-byte load of float32.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <initializer_list>

#include "../common/tensor.h"
#include "scalars.h"

namespace compvae {
namespace gpu {

constexpr int QUAD = 4;  // coordinates of one thread

// How the tensors of a call are read and written. vector32: float32, vector16: bfloat16 and float16, both in whole
// aligned quads; any: every dtype and stride, one number at a time.
enum class Access { vector32, vector16, any };

template <class T>
__device__ __noinline__ T load_number(const char* p, DType dtype) {
    switch (dtype) {
        case DType::float32: return T(*reinterpret_cast<const float*>(p));
        case DType::float64: return T(*reinterpret_cast<const double*>(p));
        case DType::bfloat16: return T(__bfloat162float(*reinterpret_cast<const __nv_bfloat16*>(p)));
        default: return T(__half2float(*reinterpret_cast<const __half*>(p)));
    }
}
template <class T>
__device__ __noinline__ void store_number(char* p, DType dtype, T v) {
    switch (dtype) {
        case DType::float32: *reinterpret_cast<float*>(p) = float(v); break;
        case DType::float64: *reinterpret_cast<double*>(p) = double(v); break;
        case DType::bfloat16: *reinterpret_cast<__nv_bfloat16*>(p) = __float2bfloat16_rn(float(v)); break;
        default: *reinterpret_cast<__half*>(p) = __float2half_rn(float(v));
    }
}

__device__ __forceinline__ char* address(const Tensor& t, int64_t set, int64_t part, int64_t coordinate) {
    return t.data + (set * t.stride_set + part * t.stride_part + coordinate * t.stride_coordinate) * element_size(t.dtype);
}

// The values of one number per set; 0 where the tensor is absent.
template <class T>
__device__ __forceinline__ T value_of_set(const Tensor& t, int64_t set) {
    return t.data ? load_number<T>(address(t, set, 0, 0), t.dtype) : T(0);
}

// n <= QUAD coordinates of a row; zeros beyond, and where the tensor is absent.
template <class T>
__device__ __forceinline__ void load_quad(const Tensor& t, int64_t set, int64_t part, int64_t coordinate, int n, T (&out)[QUAD]) {
#pragma unroll 1
    for (int j = 0; j < QUAD; ++j) out[j] = T(0);
    if (!t.data) return;
    const char* p = address(t, set, part, coordinate);
    const int64_t step = t.stride_coordinate * element_size(t.dtype);
    for (int j = 0; j < QUAD; ++j)
        if (j < n) out[j] = load_number<T>(p + j * step, t.dtype);
}
template <class T>
__device__ __forceinline__ void store_quad(const Tensor& t, int64_t set, int64_t part, int64_t coordinate, int n, const T (&v)[QUAD]) {
    if (!t.data) return;
    char* p = address(t, set, part, coordinate);
    const int64_t step = t.stride_coordinate * element_size(t.dtype);
    for (int j = 0; j < QUAD; ++j)
        if (j < n) store_number<T>(p + j * step, t.dtype, v[j]);
}

// What a load leaves in registers until it is needed, so that several loads can be under way.
template <class T, Access A>
struct Raw {
    T v[QUAD];
};
template <class T>
struct Raw<T, Access::vector32> {
    float4 v;
};
template <class T>
struct Raw<T, Access::vector16> {
    uint2 v;
};

__device__ __forceinline__ float number_of_half(uint32_t half, bool bfloat) {
    __half_raw raw;
    raw.x = uint16_t(half);
    return bfloat ? float_of_bits(int32_t(half << 16)) : __half2float(__half(raw));
}
__device__ __forceinline__ uint32_t half_of_number(float x, bool bfloat) {
    return bfloat ? __bfloat16_as_ushort(__float2bfloat16_rn(x)) : __half_as_ushort(__float2half_rn(x));
}

// The rows of one set at one quad of coordinates.
template <class T, Access A>
class Rows {
  public:
    __device__ Rows(const Tensor& t, int64_t set, int64_t row, int64_t coordinate, int n)
        : data_(t.data ? address(t, set, row, coordinate) : nullptr),
          step_(t.stride_part * element_size(t.dtype)),
          coordinate_step_(t.stride_coordinate * element_size(t.dtype)),
          dtype_(t.dtype),
          n_(n) {}

    __device__ bool wanted() const { return data_ != nullptr; }

    __device__ __forceinline__ Raw<T, A> raw(int64_t k) const {
        const char* p = data_ + k * step_;
        Raw<T, A> r;
        if constexpr (A == Access::vector32) {
            r.v = __ldg(reinterpret_cast<const float4*>(p));
        } else if constexpr (A == Access::vector16) {
            r.v = __ldg(reinterpret_cast<const uint2*>(p));
        } else {
#pragma unroll
            for (int j = 0; j < QUAD; ++j) r.v[j] = j < n_ ? load_number<T>(p + j * coordinate_step_, dtype_) : T(0);
        }
        return r;
    }
    __device__ __forceinline__ void values(const Raw<T, A>& r, T (&out)[QUAD]) const {
        if constexpr (A == Access::vector32) {
            out[0] = r.v.x, out[1] = r.v.y, out[2] = r.v.z, out[3] = r.v.w;
        } else if constexpr (A == Access::vector16) {
            const bool bfloat = dtype_ == DType::bfloat16;
            out[0] = number_of_half(r.v.x & 0xffff, bfloat), out[1] = number_of_half(r.v.x >> 16, bfloat);
            out[2] = number_of_half(r.v.y & 0xffff, bfloat), out[3] = number_of_half(r.v.y >> 16, bfloat);
        } else {
            for (int j = 0; j < QUAD; ++j) out[j] = r.v[j];
        }
    }
    __device__ __forceinline__ void load(int64_t k, T (&out)[QUAD]) const { values(raw(k), out); }

    // Does nothing where nobody wants the output.
    __device__ __forceinline__ void store(int64_t k, const T (&v)[QUAD]) const {
        if (!data_) return;
        char* p = const_cast<char*>(data_) + k * step_;
        if constexpr (A == Access::vector32) {
            *reinterpret_cast<float4*>(p) = make_float4(v[0], v[1], v[2], v[3]);
        } else if constexpr (A == Access::vector16) {
            const bool bfloat = dtype_ == DType::bfloat16;
            *reinterpret_cast<uint2*>(p) =
                make_uint2(half_of_number(v[0], bfloat) | half_of_number(v[1], bfloat) << 16,
                           half_of_number(v[2], bfloat) | half_of_number(v[3], bfloat) << 16);
        } else {
#pragma unroll
            for (int j = 0; j < QUAD; ++j)
                if (j < n_) store_number<T>(p + j * coordinate_step_, dtype_, v[j]);
        }
    }

  private:
    const char* data_;
    int64_t step_, coordinate_step_;
    DType dtype_;
    int n_;
};

// f(k, values of COUNT tensors at part k) for k in [begin, end); a part's loads are under way while the one before it
// is worked on.
template <class T, Access A, int COUNT, class F>
__device__ __forceinline__ void over_parts(const Rows<T, A>* const (&rows)[COUNT], int64_t begin, int64_t end, F f) {
    Raw<T, A> next[COUNT];
#pragma unroll
    for (int i = 0; i < COUNT; ++i) next[i] = rows[i]->raw(begin);
#pragma unroll 1
    for (int64_t k = begin; k < end; ++k) {
        Raw<T, A> now[COUNT];
#pragma unroll
        for (int i = 0; i < COUNT; ++i) {
            now[i] = next[i];
            if (k + 1 < end) next[i] = rows[i]->raw(k + 1);
        }
        T values[COUNT][QUAD];
#pragma unroll
        for (int i = 0; i < COUNT; ++i) rows[i]->values(now[i], values[i]);
        f(k, values);
    }
}

// The access that serves all these tensors, absent ones aside.
template <class List>
Access access_of(const List& tensors, int64_t width) {
    bool words = width % QUAD == 0, halves = words;
    for (const Tensor* t : tensors) {
        if (!t->data) continue;
        const uintptr_t address = reinterpret_cast<uintptr_t>(t->data);
        const bool rows = t->stride_coordinate == 1 && t->stride_part % QUAD == 0 && t->stride_set % QUAD == 0;
        words = words && rows && t->dtype == DType::float32 && address % 16 == 0;
        halves = halves && rows && element_size(t->dtype) == 2 && address % 8 == 0;
    }
    return words ? Access::vector32 : halves ? Access::vector16 : Access::any;
}

}  // namespace gpu
}  // namespace compvae
