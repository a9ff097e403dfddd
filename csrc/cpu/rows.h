// Rows of tensors as contiguous runs of the compute type, whatever their dtype and strides.
#pragma once
#include <initializer_list>
#include <type_traits>

#include "../common/tensor.h"
#include "halves.h"

namespace compvae {
namespace COMPVAE_ISA {

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

// The dtypes of 16 bits: rows of float32 in order go by vectors.
template <class Half, class T>
inline void gather_halves(const char* data, int64_t stride, int n, T* out) {
    if constexpr (sizeof(T) == sizeof(float))
        if (stride == 1) return widen_row<Half>(reinterpret_cast<const uint16_t*>(data), n, out);
    gather<T, uint16_t>(data, stride, n, out, [](uint16_t h) { return Half::widen(h); });
}
template <class Half, class T>
inline void scatter_halves(char* data, int64_t stride, int n, const T* in) {
    if constexpr (sizeof(T) == sizeof(float))
        if (stride == 1) return narrow_row<Half>(in, n, reinterpret_cast<uint16_t*>(data));
    scatter<uint16_t>(data, stride, n, in, [](T v) { return Half::narrow(float(v)); });
}

template <class T>
inline void read_row(const char* data, DType dtype, int64_t stride, int n, T* out) {
    switch (dtype) {
        case DType::float32: return gather<T, float>(data, stride, n, out, [](float v) { return v; });
        case DType::float64: return gather<T, double>(data, stride, n, out, [](double v) { return v; });
        case DType::bfloat16: return gather_halves<BFloat16>(data, stride, n, out);
        case DType::float16: return gather_halves<Float16>(data, stride, n, out);
    }
}
template <class T>
inline void write_row(char* data, DType dtype, int64_t stride, int n, const T* in) {
    switch (dtype) {
        case DType::float32: return scatter<float>(data, stride, n, in, [](T v) { return float(v); });
        case DType::float64: return scatter<double>(data, stride, n, in, [](T v) { return double(v); });
        case DType::bfloat16: return scatter_halves<BFloat16>(data, stride, n, in);
        case DType::float16: return scatter_halves<Float16>(data, stride, n, in);
    }
}

// A whole block's row of 16-bit numbers past the caches; `to` is aligned to a line.
template <class T>
inline void stream_halves(char* to, DType dtype, const T* in, int n) {
    if constexpr (sizeof(T) == sizeof(float)) {
        uint16_t* p = reinterpret_cast<uint16_t*>(to);
        return dtype == DType::bfloat16 ? stream_row<BFloat16>(in, n, p) : stream_row<Float16>(in, n, p);
    }
    write_row(to, dtype, 1, n, in);
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

// Calls for lines of rows that are read a while later.
class RowsAhead {
  public:
    RowsAhead(const Tensor& t, int64_t set, int64_t part, int64_t coordinate)
        : first_(address(t, set, part, coordinate)), element_(element_size(t.dtype)), row_(t.stride_part * element_) {}
    COMPVAE_INLINE void prefetch(int k, int column) const {
        __builtin_prefetch(first_ + k * row_ + column * element_, 0, 2);
    }

  private:
    const char* first_;
    int64_t element_, row_;
};

// The rows [part, part + PARTS) of one block of coordinates: the tensor's own memory where that serves, else a
// converted copy, padded with zeros to the full block. E is T, for tensors of any dtype, or that dtype of 16 bits which
// the tensor has; then numbers are converted where they are loaded.
template <class T, int PARTS, int BLOCK, class E = T>
class InputRows {
    static constexpr bool IS_HALF = !std::is_same_v<E, T>;
    using Number = std::conditional_t<IS_HALF, uint16_t, T>;

  public:
    const Number* operator[](int k) const { return rows_ + k * stride_; }
    COMPVAE_INLINE typename Simd<T>::V at(int k, int column) const {
        if constexpr (IS_HALF)
            return E::widen(load<Halves>((*this)[k] + column));
        else
            return load<typename Simd<T>::V>((*this)[k] + column);
    }

    void stage(const Tensor& t, int64_t set, int64_t part, int parts, int64_t coordinate, int n, Next next = {}) {
        if (IS_HALF ? n == BLOCK && t.stride_coordinate == 1 : is_direct<T, BLOCK>(t, n)) {
            rows_ = reinterpret_cast<const Number*>(address(t, set, part, coordinate));
            stride_ = t.stride_part;
        } else {
            copy(t, set, part, parts, coordinate, n);
        }
        const char* row = address(t, set + next.sets, part + next.parts, coordinate + next.coordinates);
        for (int k = 0; k < parts; ++k, row += t.stride_part * element_size(t.dtype)) ahead_[k] = row;
    }

    // Calls for a line of the rows that are read next: a row is too short for the hardware to see a stream in it.
    // Spread over the arithmetic, since the processor can wait for a few lines only. As a call it would have no effect
    // that the compiler knows of, and be left out. Rows that are read side by side take turns through the quarters of the
    // block: large tensors begin at the same place of a page, and the same lines of all would go to the same few places of
    // the caches, one after the other.
    COMPVAE_INLINE void prefetch(int k, int column, int turn = 0) const {
        __builtin_prefetch(ahead_[k] + (column + turn * (BLOCK / 4)) % BLOCK * int64_t(sizeof(Number)), 0, 2);
    }

  private:
    const Number* rows_;
    int64_t stride_;
    const char* ahead_[PARTS];
    alignas(64) Number copies_[PARTS * BLOCK];

    // Out of line, and so without effect on how the kernels are compiled.
    __attribute__((noinline)) void copy(const Tensor& t, int64_t set, int64_t part, int parts, int64_t coordinate, int n) {
        for (int k = 0; k < parts; ++k) {
            Number* row = copies_ + k * BLOCK;
            const char* from = address(t, set, part + k, coordinate);
            if constexpr (IS_HALF)
                gather<Number, Number>(from, t.stride_coordinate, n, row, [](Number h) { return h; });
            else
                read_row(from, t.dtype, t.stride_coordinate, n, row);
            for (int i = n; i < BLOCK; ++i) row[i] = Number(0);
        }
        rows_ = copies_;
        stride_ = BLOCK;
    }
};

// f(a zero of the compute type, one of the type of the elements E of InputRows: BFloat16 where all inputs have that dtype).
template <class F>
inline void by_elements(bool float64, std::initializer_list<const Tensor*> inputs, F f) {
    bool halves = true;
    for (const Tensor* t : inputs) halves = halves && t->dtype == DType::bfloat16;
    if (float64)
        f(0.0, 0.0);
    else
        halves ? f(0.0f, BFloat16()) : f(0.0f, 0.0f);
}

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
        streamed_ = streamed && wanted_ && n == BLOCK && t.stride_coordinate == 1 &&
                    (reinterpret_cast<uintptr_t>(address(t, set, part, coordinate)) | t.stride_part * element_size(t.dtype)) % 64 == 0;
    }
    // A vector of row k. Where columns are written one after the other, half a line that goes past the caches by itself
    // costs as much as a whole one.
    template <class V>
    void put(int k, int column, V v) const {
        if constexpr (sizeof v == LINE)
            put_in_row(k, column, v);
        else
            store((*this)[k] + column, v);
    }
    // The same where what is beside it in the row is written at once, so that halves of a line are joined.
    template <class V>
    void put_in_row(int k, int column, V v) const {
        if (streamed_ && !copied_)
            stream((*this)[k] + column, v);
        else
            store((*this)[k] + column, v);
    }
    void finish(const Tensor& t, int64_t set, int64_t part, int parts, int64_t coordinate, int n) {
        if (wanted_ && copied_) convert(t, set, part, parts, coordinate, n);
    }
    bool wanted() const { return wanted_; }

  private:
    static constexpr int LINE = 64;  // bytes
    T* rows_;
    int64_t stride_;
    alignas(64) T copies_[PARTS * BLOCK];
    bool wanted_ = false, copied_ = false, streamed_ = false;

    __attribute__((noinline)) void convert(const Tensor& t, int64_t set, int64_t part, int parts, int64_t coordinate, int n) {
        for (int k = 0; k < parts; ++k) {
            char* to = address(t, set, part + k, coordinate);
            if (streamed_ && element_size(t.dtype) == 2)
                stream_halves(to, t.dtype, (*this)[k], n);
            else
                write_row(to, t.dtype, t.stride_coordinate, n, (*this)[k]);
        }
    }
};

}  // namespace COMPVAE_ISA
}  // namespace compvae
