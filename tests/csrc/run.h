// One call of a kernel on an example: its tensors in guarded memory, and what it left in them.
#pragma once
#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>

#include "cpu/dispatch.h"
#include "guarded.h"

namespace compvae {

enum class Layout { dense, ragged, padded };

// The sizes of an example and the dtype of its inputs: q's own, and a p's of float32 at least.
struct Example {
    std::vector<int64_t> sizes;
    int64_t width;
    DType dtype;
};

// How the example is laid out and called; none of it may change a result.
struct Manner {
    Layout layout = Layout::ragged;
    Strides strides = Strides::contiguous;
    int threads = 1;
};

// A number in (-1, 1) for an element of an array.
inline double number(uint64_t array, uint64_t set, uint64_t part, uint64_t coordinate) {
    uint64_t x = array * 0x9e3779b97f4a7c15u + set * 0xbf58476d1ce4e5b9u + part * 0x94d049bb133111ebu + coordinate;
    for (int i = 0; i < 3; ++i) x = (x ^ (x >> 29)) * 0xbf58476d1ce4e5b9u;
    return double(int64_t(x ^ (x >> 32))) * 0x1p-63;
}

class Run {
  public:
    enum Fault { NONE, WRITE, READ };

    Run(const Example& example, const Manner& manner, Fault fault = NONE)
        : example_(example), manner_(manner), fault_(fault) {
        sets.count = int64_t(example.sizes.size());
        sets.width = example.width;
        sets.threads = manner.threads;
        std::vector<int64_t> offsets{0}, index, start;
        for (const int64_t size : example.sizes) {
            offsets.push_back(offsets.back() + size);
            slots_ = size > slots_ ? size : slots_;
            start.push_back(3 * int64_t(start.size()));
            index.push_back(7 + int64_t(index.size()));
        }
        rows_ = offsets.back();
        if (manner.layout == Layout::padded) slots_ += 2;
        if (manner.layout == Layout::ragged)
            sets.offsets = integers(offsets);
        else
            sets.parts = slots_;
        if (manner.layout == Layout::padded) sets.lengths = integers(example.sizes);
        sets.set_index = integers(index);
        sets.part_start = integers(start);
        sets.seeds = integers({0x123456789abcdef});
    }

    Sets sets;

    bool float64() const { return example_.dtype == DType::float64; }
    DType wide() const { return float64() ? DType::float64 : DType::float32; }
    Options options(int coupling) const { return {coupling, float64()}; }
    const Example& example() const { return example_; }
    int64_t slots() const { return slots_; }
    int64_t rows() const { return rows_; }
    bool ragged() const { return manner_.layout == Layout::ragged; }
    // Where a part lies in an array of parts: (0, row) of ragged tensors, else (set, part).
    std::pair<int64_t, int64_t> place(int64_t set, int64_t part) const {
        return ragged() ? std::make_pair(int64_t(0), sets.offsets[set] + part) : std::make_pair(set, part);
    }

    // Inputs: of parts, of sets, one number a set, of the classes of a table.
    Tensor parts(double scale = 1, double shift = 0, bool prior = false) {
        Array& a = make(prior ? wide() : example_.dtype, ragged() ? 1 : sets.count, ragged() ? rows_ : slots_,
                        sets.width, READ);
        const uint64_t id = inputs_.size();
        for (int64_t b = 0; b < sets.count; ++b)
            for (int64_t k = 0; k < example_.sizes[size_t(b)]; ++k)
                for (int64_t d = 0; d < sets.width; ++d)
                    fill(a, place(b, k).first, place(b, k).second, d, shift + scale * number(id, b, k, d));
        inputs_.emplace_back(&a, a.bytes());
        return ragged() ? a.ragged() : a.dense();
    }
    Tensor per_set(int64_t width, DType dtype) { return filled(dtype, sets.count, 1, width).per_set(); }
    Tensor table(int64_t classes) { return filled(example_.dtype, 1, classes, sets.width).ragged(); }

    // Outputs of the same kinds; what they hold joins the results.
    Tensor out_parts(bool prior = false) {
        Array& a = make(prior ? wide() : example_.dtype, ragged() ? 1 : sets.count, ragged() ? rows_ : slots_, sets.width, WRITE);
        outputs_.push_back([this, &a](std::vector<double>& results) {
            for (int64_t b = 0; b < sets.count; ++b)
                for (int64_t k = 0; k < (ragged() ? example_.sizes[size_t(b)] : slots_); ++k)
                    for (int64_t d = 0; d < sets.width; ++d) {
                        const double value = a.at(place(b, k).first, place(b, k).second, d);
                        if (k < example_.sizes[size_t(b)])
                            results.push_back(value);
                        else if (value != 0)
                            throw Damage("the padding of an output is not 0");
                    }
        });
        return ragged() ? a.ragged() : a.dense();
    }
    Tensor out_per_set(int64_t width, DType dtype) { return out(dtype, sets.count, 1, width).per_set(); }
    Tensor out_table(int64_t classes) { return out(example_.dtype, 1, classes, sets.width).ragged(); }

    const int64_t* integers(const std::vector<int64_t>& values) { return copied(values); }
    const bool* flags(const std::vector<char>& values) { return reinterpret_cast<const bool*>(copied(values)); }
    // Working memory of so many numbers for each set and coordinate, of the compute type; nothing of it is a result.
    void* stats(int64_t count) {
        plain_.emplace_back(new Guarded(count * sets.count * sets.width * (float64() ? 8 : 4)));
        return plain_.back()->data();
    }
    double* doubles(int64_t count) {
        plain_.emplace_back(new Guarded(8 * count));
        return reinterpret_cast<double*>(plain_.back()->data());
    }
    // So many numbers for each set and coordinate, of the compute type, between 0.1 and 0.9.
    const void* sums(int64_t count) {
        void* memory = stats(count);
        for (int64_t i = 0; i < count * sets.count * sets.width; ++i) {
            const double value = 0.5 + 0.4 * number(99, 0, 0, uint64_t(i));
            if (float64())
                static_cast<double*>(memory)[i] = value;
            else
                static_cast<float*>(memory)[i] = float(value);
        }
        return memory;
    }
    const double* double_sums(int64_t count) {
        count *= sets.count * sets.width;
        double* memory = doubles(count);
        for (int64_t i = 0; i < count; ++i) memory[i] = 0.5 + 0.4 * number(98, 0, 0, uint64_t(i));
        return memory;
    }
    // Float64 results, so many for each set and coordinate.
    double* out_doubles(int64_t count) {
        count *= sets.count * sets.width;
        double* memory = doubles(count);
        outputs_.push_back([=](std::vector<double>& results) { results.insert(results.end(), memory, memory + count); });
        return memory;
    }
    // One float64 for each set and block of coordinates.
    double* scratch() { return doubles(sets.count * ((sets.width + 63) / 64)); }

    // The elements of all outputs in their logical order. Throws Damage where guarded memory or an input has changed,
    // or an output holds NaN: nobody wrote it, or it was computed from what is no input.
    std::vector<double> results() const {
        for (const auto& memory : plain_) memory->check("working memory");
        for (const auto& array : arrays_) array->check("a tensor");
        for (const auto& input : inputs_)
            if (input.first->bytes() != input.second) throw Damage("an input was written");
        std::vector<double> found;
        for (const auto& output : outputs_) output(found);
        for (const double value : found)
            if (std::isnan(value)) throw Damage("an output holds NaN");
        return found;
    }

  private:
    Example example_;
    Manner manner_;
    Fault fault_;
    int64_t slots_ = 0, rows_ = 0;
    std::vector<std::unique_ptr<Array>> arrays_;
    std::vector<std::unique_ptr<Guarded>> plain_;
    std::vector<std::pair<const Array*, std::string>> inputs_;
    std::vector<std::function<void(std::vector<double>&)>> outputs_;

    Array& make(DType dtype, int64_t sets_, int64_t parts, int64_t width, Fault kind) {
        const int64_t missing = fault_ == kind ? element_size(dtype) : 0;
        if (missing) fault_ = NONE;  // of the first array alone
        arrays_.emplace_back(new Array(dtype, sets_, parts, width, manner_.strides, missing));
        last_missing_ = missing > 0;
        return *arrays_.back();
    }
    template <class T>
    const T* copied(const std::vector<T>& values) {
        plain_.emplace_back(new Guarded(int64_t(values.size() * sizeof(T))));
        T* memory = reinterpret_cast<T*>(plain_.back()->data());
        std::copy(values.begin(), values.end(), memory);
        return memory;
    }
    void fill(Array& a, int64_t set, int64_t part, int64_t coordinate, double value) {
        const bool last = set == a.sets() - 1 && part == a.parts() - 1 && coordinate == a.width() - 1;
        if (!(last && last_missing_)) a.put(set, part, coordinate, value);
    }
    bool last_missing_ = false;

    const Array& filled(DType dtype, int64_t count, int64_t parts, int64_t width) {
        Array& a = make(dtype, count, parts, width, READ);
        const uint64_t id = inputs_.size();
        for (int64_t b = 0; b < count; ++b)
            for (int64_t k = 0; k < parts; ++k)
                for (int64_t d = 0; d < width; ++d) fill(a, b, k, d, number(id, uint64_t(b), uint64_t(k), uint64_t(d)));
        inputs_.emplace_back(&a, a.bytes());
        return a;
    }
    const Array& out(DType dtype, int64_t count, int64_t parts, int64_t width) {
        const Array& a = make(dtype, count, parts, width, WRITE);
        outputs_.push_back([&a](std::vector<double>& results) {
            for (int64_t b = 0; b < a.sets(); ++b)
                for (int64_t k = 0; k < a.parts(); ++k)
                    for (int64_t d = 0; d < a.width(); ++d) results.push_back(a.at(b, k, d));
        });
        return a;
    }
};

}  // namespace compvae
