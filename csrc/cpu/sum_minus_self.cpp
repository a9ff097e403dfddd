// out_i = post(sum over j != i of pre(h_j)), exact to rounding of the true sum. Inside a chunk of parts that is what comes
// before the part and what comes after it: nothing is subtracted. Of many chunks, the one with the largest sum is kept out
// of the float64 total, so that total minus own never cancels beyond what the true sum holds.
#include <cmath>
#include <limits>

#include "multiset.h"

namespace compvae {
namespace COMPVAE_ISA {
namespace {

// The sums of a set's chunks, and what remains of them without one.
template <class T>
class ChunkSums {
    using V = typename Simd<T>::V;
    static constexpr int N = Simd<T>::N;
    static constexpr T INFINITE = std::numeric_limits<T>::infinity();

  public:
    void clear() {
        std::memset(others_, 0, sizeof others_);
        std::memset(largest_, 0, sizeof largest_);
        std::memset(where_, 0, sizeof where_);
        is_finite_ = true;
    }
    void add(int column, int64_t chunk, V sum) {
        const V old = load<V>(largest_ + column);
        if (!chunk) {
            store(largest_ + column, sum);
        } else {
            const auto larger = magnitude_bits(sum) > magnitude_bits(old);
            const Wide<T> changed = widen(select<V>(larger, splat<V>(T(1)), V{}));
            Wide<T> where = load_wide<T>(where_ + column);
            for (int i = 0; i < Wide<T>::COUNT; ++i) where.part[i] += changed.part[i] * (double(chunk) - where.part[i]);
            add_to(others_ + column, widen(select<V>(larger, old, sum)));
            store(largest_ + column, select<V>(larger, sum, old));
            store_wide(where_ + column, where);
        }
        if (!all(is_small(sum, INFINITE))) count_undefined(column, sum);
    }
    // The sum of all chunks but this one, whose own is `sum`.
    V without(int column, int64_t chunk, V sum) const {
        const Wide<T> others = load_wide<T>(others_ + column), where = load_wide<T>(where_ + column);
        const Wide<T> own = widen(sum), largest = widen(load<V>(largest_ + column));
        Wide<T> rest;
        for (int i = 0; i < Wide<T>::COUNT; ++i)
            rest.part[i] = select<VD>(where.part[i] == double(chunk), others.part[i],
                                      (others.part[i] - own.part[i]) + largest.part[i]);
        V r = narrow(rest);
        if (!is_finite_)
            for (int i = 0; i < N; ++i)
                if (plus_[column + i] + minus_[column + i] + undefined_[column + i] > 1)
                    r[i] = of_undefined(column + i, sum[i]);
        return r;
    }

  private:
    double others_[BLOCK], where_[BLOCK];  // the sum of all but the largest; the largest's index
    alignas(64) T largest_[BLOCK];
    int64_t plus_[BLOCK], minus_[BLOCK], undefined_[BLOCK];
    bool is_finite_ = true;

    void count_undefined(int column, V sum) {
        if (is_finite_)
            for (int c = 0; c < BLOCK; ++c) plus_[c] = minus_[c] = undefined_[c] = 0;
        is_finite_ = false;
        for (int i = 0; i < N; ++i) {
            plus_[column + i] += sum[i] == INFINITE;
            minus_[column + i] += sum[i] == -INFINITE;
            undefined_[column + i] += sum[i] != sum[i];
        }
    }
    // Two or more chunks are not finite: what remains without this one is told by their counts.
    T of_undefined(int c, T own) const {
        const int64_t plus = plus_[c] - (own == INFINITE), minus = minus_[c] - (own == -INFINITE);
        if (undefined_[c] - (own != own) || (plus && minus)) return std::numeric_limits<T>::quiet_NaN();
        return plus ? INFINITE : -INFINITE;
    }
};

// f(std::bool_constant<flag>)
template <class F>
COMPVAE_INLINE void by_flag(bool flag, F f) {
    flag ? f(std::true_type()) : f(std::false_type());
}

// One sweep over a chunk's rows leaves the values and, beside each, the sum of those before it; the next sweep goes the
// other way, and adds up what comes after. Rows are taken whole, a few neighbouring vectors at a time: those of one
// column may be a multiple of 4 KiB apart, which is one place in the first-level cache.
// E: of the elements of rows that are read
template <class T, class E>
class Aggregation {
    using V = typename Simd<T>::V;
    static constexpr int N = Simd<T>::N;

  public:
    void forward(const Sets& sets, const Place& place, const Tensor& h, const Tensor& out, Aggregate how) {
        begin(sets, place, how);
        if (!is_whole_)
            over_set(sets, place, [&](const Chunk& c) {
                stage(h_, h, sets, place, c);
                each_group(place, [&](int column) {
                    take_values<false>(c, column);
                    add_sums(sums_, c, column);
                });
            });
        over_set(sets, place, [&](const Chunk& c) {
            if (!is_kept_) stage(h_, h, sets, place, c);
            put_rows(out, sets, place, c, [&](int column) {
                if (!is_kept_) take_values<false>(c, column);
                by_flag(how.tanh, [&](auto tanh) { put_sums<tanh.value>(c, column); });
            });
        });
        zero_padding(sets, place, out);
    }

    // The gradient of h is pre'(h_j) sum over i != j of the upstream gradient of the sums.
    void backward(const Sets& sets, const Place& place, const Tensor& h, const Tensor& grad_out, const Tensor& grad_h,
                  Aggregate how) {
        begin(sets, place, how);
        const bool needs_h = how.elu || how.tanh;
        if (!is_whole_ && how.tanh)
            over_set(sets, place, [&](const Chunk& c) {
                stage(h_, h, sets, place, c);
                each_group(place, [&](int column) {
                    take_values<true>(c, column);
                    add_sums(sums_, c, column);
                });
            });
        const bool has_values = is_kept_ && how.tanh;
        const auto stage_both = [&](const Chunk& c) {
            if (needs_h && !has_values) stage(h_, h, sets, place, c);
            stage(upstream_, grad_out, sets, place, c);
        };
        const auto take_both = [&](const Chunk& c, int column) {
            if (needs_h && !has_values) take_values<true>(c, column);
            by_flag(how.tanh, [&](auto tanh) { take_upstream<tanh.value>(c, column); });
        };
        if (!is_whole_)
            over_set(sets, place, [&](const Chunk& c) {
                stage_both(c);
                each_group(place, [&](int column) {
                    take_both(c, column);
                    add_sums(upstream_sums_, c, column);
                });
            });
        over_set(sets, place, [&](const Chunk& c) {
            if (!is_kept_) stage_both(c);
            put_rows(grad_h, sets, place, c, [&](int column) {
                if (!is_kept_) take_both(c, column);
                by_flag(how.elu, [&](auto elu) { put_gradient<elu.value>(c, column); });
            });
        });
        zero_padding(sets, place, grad_h);
    }

  private:
    enum { VALUES, SUMS, SLOPES, KEPT };
    struct Chunk {
        int64_t part;
        int n;
        T *values, *sums, *slopes;  // n rows each: values, or upstream gradients in their place; sums; slopes of pre
        T* total;
    };
    Rows<T, E> h_, upstream_;
    Results<T> out_;
    Kept<T, KEPT> kept_;
    ChunkSums<T> sums_, upstream_sums_;
    Aggregate how_;
    T factor_ = 1;
    bool is_whole_ = true;  // one chunk holds the set
    bool is_kept_ = false;  // what one pass over its chunks has made is there in the next one

    void begin(const Sets& sets, const Place& place, Aggregate how) {
        const int64_t size = sets.size(place.set);
        how_ = how;
        factor_ = T(!how.mean ? 1 : size > 1 ? 1.0 / double(size - 1) : 0);
        kept_.begin(size, 1);
        is_whole_ = size <= CHUNK;
        is_kept_ = !is_whole_ && kept_.keeps();
        if (is_whole_) return;
        sums_.clear();
        upstream_sums_.clear();
    }
    template <class F>
    void over_set(const Sets& sets, const Place& place, F f) const {
        const int64_t size = sets.size(place.set);
        for (int64_t part = 0; part < size; part += CHUNK)
            f(Chunk{part, int(size - part < CHUNK ? size - part : CHUNK), kept_.rows(VALUES, 0, part),
                    kept_.rows(SUMS, 0, part), kept_.rows(SLOPES, 0, part), kept_.row_of_chunk(0, part)});
    }
    template <class F>
    static void each_group(const Place& place, F f) {
        for (int column = 0; column < place.width; column += FEW * N) f(column);
    }
    void stage(Rows<T, E>& rows, const Tensor& t, const Sets& sets, const Place& place, const Chunk& c) const {
        rows.stage(t, place.set, sets.row(place.set) + c.part, c.n, place.coordinate, place.width,
                   next_of(sets, place, c.part, c.n));
    }
    template <class F>
    void put_rows(const Tensor& t, const Sets& sets, const Place& place, const Chunk& c, F f) {
        const int64_t row = sets.row(place.set) + c.part;
        out_.stage(t, place.set, row, c.n, place.coordinate, place.width, is_streamed<T>(sets, t));
        each_group(place, f);
        out_.finish(t, place.set, row, c.n, place.coordinate, place.width);
    }

    static COMPVAE_INLINE T* at(T* rows, int k, int column, int i) { return rows + k * BLOCK + column + i * N; }
    // Row k's values, and the sum of those before it, to which they are added.
    static COMPVAE_INLINE void keep(const Chunk& c, int k, int column, const V (&values)[FEW], V (&sum)[FEW]) {
        each([&](int i) COMPVAE_INLINE_LAMBDA {
            store(at(c.values, k, column, i), values[i]);
            store(at(c.sums, k, column, i), sum[i]);
            sum[i] += values[i];
        });
    }
    static COMPVAE_INLINE void keep_total(const Chunk& c, int column, const V (&sum)[FEW]) {
        each([&](int i) COMPVAE_INLINE_LAMBDA { store(at(c.total, 0, column, i), sum[i]); });
    }
    void add_sums(ChunkSums<T>& sums, const Chunk& c, int column) const {
        for (int i = 0; i < FEW; ++i) sums.add(column + i * N, c.part / CHUNK, load<V>(at(c.total, 0, column, i)));
    }
    void find_rest(const ChunkSums<T>& sums, const Chunk& c, int column, V (&rest)[FEW]) const {
        for (int i = 0; i < FEW; ++i)
            rest[i] = is_whole_ ? V{} : sums.without(column + i * N, c.part / CHUNK, load<V>(at(c.total, 0, column, i)));
    }
    // The sum, or mean, of all but row k; its own values come to those after the next row.
    COMPVAE_INLINE void others(const Chunk& c, int k, int column, const V (&rest)[FEW], V (&after)[FEW], V (&sum)[FEW]) const {
        each([&](int i) COMPVAE_INLINE_LAMBDA {
            sum[i] = (load<V>(at(c.sums, k, column, i)) + after[i] + rest[i]) * factor_;
            after[i] += load<V>(at(c.values, k, column, i));
        });
    }

    template <bool SLOPE>
    void take_values(const Chunk& c, int column) const {
        by_flag(how_.elu, [&](auto elu) { take_values<elu.value, SLOPE>(c, column); });
    }
    template <bool ELU, bool SLOPE>
    void take_values(const Chunk& c, int column) const {
        V sum[FEW] = {};
        for (int k = 0; k < c.n; ++k) {
            V x[FEW];
            each([&](int i) COMPVAE_INLINE_LAMBDA {
                h_.prefetch(k, column + i * N);
                x[i] = h_.at(k, column + i * N);
            });
            if constexpr (ELU) {
                const FallingExponential<V, FEW> e(x);
                each([&](int i) COMPVAE_INLINE_LAMBDA {
                    if (SLOPE) store(at(c.slopes, k, column, i), select<V>(x[i] > 0, splat<V>(T(1)), e.exp(i)));
                    x[i] = select<V>(x[i] > 0, x[i], e.expm1(i));
                });
            }
            keep(c, k, column, x, sum);
        }
        keep_total(c, column, sum);
    }
    template <bool TANH>
    void put_sums(const Chunk& c, int column) const {
        V after[FEW] = {}, rest[FEW], sum[FEW];
        find_rest(sums_, c, column, rest);
        for (int k = c.n - 1; k >= 0; --k) {
            others(c, k, column, rest, after, sum);
            if constexpr (TANH) tanh(sum);
            each([&](int i) COMPVAE_INLINE_LAMBDA { out_.put_in_row(k, column + i * N, sum[i]); });
        }
    }
    // The gradient of the sums or means, grad_out times the slope of what is behind them, in place of the values.
    template <bool TANH>
    void take_upstream(const Chunk& c, int column) const {
        V after[FEW] = {}, rest[FEW], sum[FEW] = {};
        if constexpr (TANH) find_rest(sums_, c, column, rest);
        for (int k = c.n - 1; k >= 0; --k) {
            V g[FEW];
            each([&](int i) COMPVAE_INLINE_LAMBDA {
                upstream_.prefetch(k, column + i * N);
                g[i] = upstream_.at(k, column + i * N);
            });
            if constexpr (TANH) {
                // 1 - tanh^2, without the cancellation
                V a[FEW];
                others(c, k, column, rest, after, a);
                each([&](int i) COMPVAE_INLINE_LAMBDA { a[i] = -2 * abs(a[i]); });
                const FallingExponential<V, FEW> exponential(a);
                each([&](int i) COMPVAE_INLINE_LAMBDA {
                    const V e = exponential.exp(i), q = 1 / (1 + e);
                    g[i] *= 4 * e * (q * q);
                });
            }
            keep(c, k, column, g, sum);
        }
        keep_total(c, column, sum);
    }
    template <bool ELU>
    void put_gradient(const Chunk& c, int column) const {
        V after[FEW] = {}, rest[FEW], sum[FEW];
        find_rest(upstream_sums_, c, column, rest);
        for (int k = 0; k < c.n; ++k) {
            others(c, k, column, rest, after, sum);
            each([&](int i) COMPVAE_INLINE_LAMBDA {
                out_.put_in_row(k, column + i * N, ELU ? sum[i] * load<V>(at(c.slopes, k, column, i)) : sum[i]);
            });
        }
    }
};

}  // namespace

void sum_minus_self_forward(const Sets& sets, const Tensor& h, const Tensor& out, Aggregate how, bool float64) {
    by_elements(float64, {&h}, [&](auto zero, auto element) {
        using Worker = Aggregation<decltype(zero), decltype(element)>;
        for_each_place<Worker>(sets, [&](Worker& w, const Place& place, int64_t) { w.forward(sets, place, h, out, how); });
    });
}

void sum_minus_self_backward(const Sets& sets, const Tensor& h, const Tensor& grad_out, const Tensor& grad_h,
                             Aggregate how, bool float64) {
    by_elements(float64, {&h, &grad_out}, [&](auto zero, auto element) {
        using Worker = Aggregation<decltype(zero), decltype(element)>;
        for_each_place<Worker>(
            sets, [&](Worker& w, const Place& place, int64_t) { w.backward(sets, place, h, grad_out, grad_h, how); });
    });
}

}  // namespace COMPVAE_ISA
}  // namespace compvae
