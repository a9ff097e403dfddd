// Memory between guard bands, and tensors in it. Every byte that holds no element has all bits set: NaN in each
// floating-point type, -1 in each integer. A kernel that reads such a byte shows it in its results, one that writes it
// is found when the memory is checked; AddressSanitizer, where it is built in, stops either in the act.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "cpu/rows.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#endif

namespace compvae {

struct Damage : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// A run of bytes of a given size, 8 bytes off a cache line.
class Guarded {
  public:
    explicit Guarded(int64_t bytes) : bytes_(bytes), whole_(size_t(BEFORE + bytes + AFTER)) {
        if (posix_memalign(reinterpret_cast<void**>(&memory_), 64, whole_)) throw std::bad_alloc();
        std::memset(memory_, 0xff, whole_);
        guard();
    }
    Guarded(const Guarded&) = delete;
    Guarded& operator=(const Guarded&) = delete;
    ~Guarded() {
        ASAN_UNPOISON_MEMORY_REGION(memory_, whole_);
        std::free(memory_);
    }
    char* data() const { return memory_ + BEFORE; }
    int64_t bytes() const { return bytes_; }

    // Throws Damage where a byte of the bands has changed.
    void check(const std::string& name) const {
        ASAN_UNPOISON_MEMORY_REGION(memory_, whole_);
        const auto written = [&](int64_t first, int64_t last) {
            for (int64_t at = first; at < last; ++at)
                if (data()[at] != char(0xff))
                    throw Damage(name + ": byte " + std::to_string(at) + " was written, outside of its " +
                                 std::to_string(bytes_));
        };
        written(-BEFORE, 0);
        written(bytes_, bytes_ + AFTER);
        guard();
    }

  private:
    static constexpr int64_t BEFORE = 512 + 8, AFTER = 512;
    int64_t bytes_;
    size_t whole_;
    char* memory_ = nullptr;

    void guard() const {
        ASAN_POISON_MEMORY_REGION(memory_, size_t(BEFORE));
        ASAN_POISON_MEMORY_REGION(data() + bytes_, size_t(AFTER));
    }
};

enum class Strides { contiguous, rows_apart, elements_apart, turned };

// A tensor of `sets` x `parts` x `width` elements; `missing` bytes at its end are left out of its memory, to see that
// their use is noticed.
class Array {
  public:
    Array(DType dtype, int64_t sets, int64_t parts, int64_t width, Strides strides, int64_t missing = 0)
        : sets_(sets), parts_(parts), width_(width), contiguous_(strides == Strides::contiguous) {
        tensor_.dtype = dtype;
        const int64_t step = strides == Strides::elements_apart ? 2 : strides == Strides::turned ? sets * parts : 1;
        const int64_t row = strides == Strides::turned ? 1 : width * step + (strides == Strides::rows_apart ? 3 : 0);
        tensor_.stride_coordinate = step;
        tensor_.stride_part = row;
        tensor_.stride_set = row * parts;
        const bool empty = !sets || !parts || !width;
        const int64_t last = empty ? -1 : (sets * parts - 1) * row + (width - 1) * step;
        memory_.reset(new Guarded((last + 1) * element_size(dtype) - missing));
        tensor_.data = memory_->data();
    }
    // Of ragged tensors the part counts over all sets; a [B, D] or [B] tensor has one part.
    Tensor ragged() const {
        Tensor t = tensor_;
        t.stride_set = 0;
        return t;
    }
    Tensor dense() const { return tensor_; }
    Tensor per_set() const {
        Tensor t = tensor_;
        t.stride_part = 0;
        return t;
    }
    int64_t sets() const { return sets_; }
    int64_t parts() const { return parts_; }
    int64_t width() const { return width_; }

    void put(int64_t set, int64_t part, int64_t coordinate, double value) {
        driver::write_row(driver::address(tensor_, set, part, coordinate), tensor_.dtype, 1, 1, &value);
    }
    double at(int64_t set, int64_t part, int64_t coordinate) const {
        double value;
        driver::read_row(driver::address(tensor_, set, part, coordinate), tensor_.dtype, 1, 1, &value);
        return value;
    }
    std::string bytes() const { return std::string(memory_->data(), size_t(memory_->bytes())); }

    // Throws Damage where a band or what lies between the elements has changed.
    void check(const std::string& name) const {
        memory_->check(name);
        if (contiguous_) return;
        std::string gaps = bytes();
        const int64_t size = element_size(tensor_.dtype);
        for (int64_t b = 0; b < sets_; ++b)
            for (int64_t k = 0; k < parts_; ++k)
                for (int64_t d = 0; d < width_; ++d) {
                    const int64_t at = driver::address(tensor_, b, k, d) - tensor_.data;
                    if (at + size <= int64_t(gaps.size())) std::memset(&gaps[size_t(at)], 0xff, size_t(size));
                }
        if (gaps.find_first_not_of(char(0xff)) != std::string::npos)
            throw Damage(name + ": what lies between its elements was written");
    }

  private:
    int64_t sets_, parts_, width_;
    bool contiguous_;
    Tensor tensor_;
    std::unique_ptr<Guarded> memory_;
};

}  // namespace compvae
