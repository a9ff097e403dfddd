// Rows of tensors as contiguous runs of the compute type, whatever their dtype and strides.
#pragma once
#include "../common/tensor.h"
#include "simd.h"

namespace compvae {
namespace COMPVAE_ISA {

inline float float_from_half(uint16_t h) {
    const uint32_t sign = uint32_t(h & 0x8000) << 16, exponent = (h >> 10) & 31, mantissa = h & 1023;
    if (exponent == 31) return bits<float>(sign | 0x7f800000u | mantissa << 13);
    if (exponent) return bits<float>(sign | (exponent + 112) << 23 | mantissa << 13);
    const float tiny = float(mantissa) * 0x1p-24f;
    return sign ? -tiny : tiny;
}
inline uint16_t half_from_float(float f) {
    const uint32_t x = bits<uint32_t>(f), sign = (x >> 16) & 0x8000, magnitude = x & 0x7fffffff;
    if (magnitude > 0x7f800000) return uint16_t(sign | 0x7e00);
    if (magnitude >= 0x477ff000) return uint16_t(sign | 0x7c00);
    if (magnitude < 0x38800000) {  // subnormal: adding 0.5 rounds at 2^-24
        const float r = bits<float>(magnitude) + 0.5f;
        return uint16_t(sign | (bits<uint32_t>(r) - 0x3f000000));
    }
    const uint32_t rounded = magnitude + 0xfff + ((magnitude >> 13) & 1);
    return uint16_t(sign | (rounded - 0x38000000) >> 13);
}
inline float float_from_bfloat(uint16_t b) { return bits<float>(uint32_t(b) << 16); }
inline uint16_t bfloat_from_float(float f) {
    const uint32_t x = bits<uint32_t>(f);
    return (x & 0x7fffffff) > 0x7f800000 ? uint16_t(x >> 16 | 0x40) : uint16_t((x + 0x7fff + ((x >> 16) & 1)) >> 16);
}

template <class T>
constexpr DType dtype_of = sizeof(T) == 8 ? DType::float64 : DType::float32;

// f(pointer to the element type, conversion to and from it) for the tensor's dtype
template <class T, class From, class Convert>
inline void gather(const char* data, int64_t stride, int n, T* out, Convert convert) {
    const From* p = reinterpret_cast<const From*>(data);
    if (stride == 1) {
        for (int i = 0; i < n; ++i) out[i] = T(convert(p[i]));
    } else {
        for (int i = 0; i < n; ++i) out[i] = T(convert(p[i * stride]));
    }
}
template <class To, class T, class Convert>
inline void scatter(char* data, int64_t stride, int n, const T* in, Convert convert) {
    To* p = reinterpret_cast<To*>(data);
    if (stride == 1) {
        for (int i = 0; i < n; ++i) p[i] = convert(in[i]);
    } else {
        for (int i = 0; i < n; ++i) p[i * stride] = convert(in[i]);
    }
}

#if defined(__F16C__)
template <class T>
inline void gather_halves(const char* data, int64_t stride, int n, T* out) {
    gather<T, uint16_t>(data, stride, n, out, [](uint16_t h) { return _cvtsh_ss(h); });
}
template <class T>
inline void scatter_halves(char* data, int64_t stride, int n, const T* in) {
    scatter<uint16_t>(data, stride, n, in, [](T v) { return uint16_t(_cvtss_sh(float(v), 0)); });
}
#else
template <class T>
inline void gather_halves(const char* data, int64_t stride, int n, T* out) {
    gather<T, uint16_t>(data, stride, n, out, float_from_half);
}
template <class T>
inline void scatter_halves(char* data, int64_t stride, int n, const T* in) {
    scatter<uint16_t>(data, stride, n, in, [](T v) { return half_from_float(float(v)); });
}
#endif

template <class T>
inline void read_row(const char* data, DType dtype, int64_t stride, int n, T* out) {
    switch (dtype) {
        case DType::float32: return gather<T, float>(data, stride, n, out, [](float v) { return v; });
        case DType::float64: return gather<T, double>(data, stride, n, out, [](double v) { return v; });
        case DType::bfloat16: return gather<T, uint16_t>(data, stride, n, out, float_from_bfloat);
        case DType::float16: return gather_halves(data, stride, n, out);
    }
}
template <class T>
inline void write_row(char* data, DType dtype, int64_t stride, int n, const T* in) {
    switch (dtype) {
        case DType::float32: return scatter<float>(data, stride, n, in, [](T v) { return float(v); });
        case DType::float64: return scatter<double>(data, stride, n, in, [](T v) { return double(v); });
        case DType::bfloat16:
            return scatter<uint16_t>(data, stride, n, in, [](T v) { return bfloat_from_float(float(v)); });
        case DType::float16: return scatter_halves(data, stride, n, in);
    }
}

inline char* address(const Tensor& t, int64_t set, int64_t part, int64_t coordinate) {
    return t.data + (set * t.stride_set + part * t.stride_part + coordinate * t.stride_coordinate) * element_size(t.dtype);
}

// Whether whole vectors may be loaded from and stored to the tensor's own memory in a block of n coordinates.
template <class T, int BLOCK>
inline bool is_direct(const Tensor& t, int n) {
    return n == BLOCK && t.dtype == dtype_of<T> && t.stride_coordinate == 1;
}

// Where the rows that are read after this chunk are: so many sets, parts and coordinates further.
struct Next {
    int64_t sets = 0, parts = 0, coordinates = 0;
};

// The rows [part, part + PARTS) of one block of coordinates: the tensor's own memory where that serves, else a
// converted copy, padded with zeros to the full block.
template <class T, int PARTS, int BLOCK>
class InputRows {
  public:
    const T* operator[](int k) const { return rows_ + k * stride_; }

    void stage(const Tensor& t, int64_t set, int64_t part, int parts, int64_t coordinate, int n, Next next = {}) {
        if (is_direct<T, BLOCK>(t, n)) {
            rows_ = reinterpret_cast<const T*>(address(t, set, part, coordinate));
            stride_ = t.stride_part;
            ahead_ = rows_ + next.sets * t.stride_set + next.parts * t.stride_part + next.coordinates;
            return;
        }
        for (int k = 0; k < parts; ++k) {
            T* row = copies_ + k * BLOCK;
            read_row(address(t, set, part + k, coordinate), t.dtype, t.stride_coordinate, n, row);
            for (int i = n; i < BLOCK; ++i) row[i] = T(0);
        }
        rows_ = ahead_ = copies_;
        stride_ = BLOCK;
    }

    // Calls for a line of the rows that are read next: a row is too short for the hardware to see a stream in it.
    // Spread over the arithmetic, since the processor can wait for a few lines only. As a call it would have no effect
    // that the compiler knows of, and be left out.
    COMPVAE_INLINE void prefetch(int k, int column) const {
        __builtin_prefetch(ahead_ + k * stride_ + column, 0, 2);
    }

  private:
    const T *rows_, *ahead_;
    int64_t stride_;
    alignas(64) T copies_[PARTS * BLOCK];
};

// Where to write rows of one block: the tensor's own memory, or a copy that finish() converts into it.
template <class T, int PARTS, int BLOCK>
class OutputRows {
  public:
    T* operator[](int k) const { return rows_ + k * stride_; }

    // streamed: the output is larger than the caches and is not read back from them
    void stage(const Tensor& t, int64_t set, int64_t part, int, int64_t coordinate, int n, bool streamed = false) {
        wanted_ = t.data != nullptr;
        copied_ = !wanted_ || !is_direct<T, BLOCK>(t, n);
        rows_ = copied_ ? copies_ : reinterpret_cast<T*>(address(t, set, part, coordinate));
        stride_ = copied_ ? BLOCK : t.stride_part;
        streamed_ = streamed && !copied_ && (reinterpret_cast<uintptr_t>(rows_) | t.stride_part * sizeof(T)) % 64 == 0;
    }
    template <class V>
    void put(int k, int column, V v) const {
        if (streamed_)
            stream((*this)[k] + column, v);
        else
            store((*this)[k] + column, v);
    }
    void finish(const Tensor& t, int64_t set, int64_t part, int parts, int64_t coordinate, int n) {
        if (!wanted_ || !copied_) return;
        for (int k = 0; k < parts; ++k)
            write_row(address(t, set, part + k, coordinate), t.dtype, t.stride_coordinate, n, (*this)[k]);
    }
    bool wanted() const { return wanted_; }

  private:
    T* rows_;
    int64_t stride_;
    alignas(64) T copies_[PARTS * BLOCK];
    bool wanted_ = false, copied_ = false, streamed_ = false;
};

}  // namespace COMPVAE_ISA
}  // namespace compvae
