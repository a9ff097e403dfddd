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

// f(a few of the n values) for all; CHUNK is a multiple of FEW, and what is beyond n is of no account.
constexpr int FEW = 4;
template <class V, class F>
COMPVAE_INLINE void in_groups(int n, V* values, F f) {
    for (int k = 0; k < n; k += FEW) f(k, *reinterpret_cast<V(*)[FEW]>(values + k));
}

template <class V>
COMPVAE_INLINE V sum_of(int n, const V* values) {
    V sum{};
    for (int k = 0; k < n; ++k) sum += values[k];
    return sum;
}

template <class T>
class Aggregation {
    using V = typename Simd<T>::V;
    static constexpr int N = Simd<T>::N;

  public:
    void forward(const Sets& sets, const Place& place, const Tensor& h, const Tensor& out, Aggregate how) {
        begin(sets, place, how, is_streamed<T>(sets, out));
        if (!is_whole())
            over_set(sets, place, h, [&](int column, int n, int64_t chunk) {
                V v[CHUNK];
                values(column, n, v);
                keep(values_, column, n, chunk, v);
                sums_.add(column, chunk, sum_of(n, v));
            });
        over_set(
            sets, place, h,
            [&](int column, int n, int64_t chunk) {
                V v[CHUNK];
                if (!recall(values_, column, n, chunk, v)) values(column, n, v);
                others(sums_, column, n, chunk, v);
                if (how_.tanh) in_groups(n, v, [](int, V(&few)[FEW]) { tanh(few); });
                for (int k = 0; k < n; ++k) out_.put(k, column, v[k]);
            },
            &out);
        zero_padding(sets, place, out);
    }

    // The gradient of h is pre'(h_j) sum over i != j of the upstream gradient of the sums.
    void backward(const Sets& sets, const Place& place, const Tensor& h, const Tensor& grad_out, const Tensor& grad_h,
                  Aggregate how) {
        begin(sets, place, how, is_streamed<T>(sets, grad_h));
        if (!is_whole() && how.tanh)
            over_set(sets, place, h, [&](int column, int n, int64_t chunk) {
                V v[CHUNK];
                values(column, n, v);
                keep(values_, column, n, chunk, v);
                sums_.add(column, chunk, sum_of(n, v));
            });
        if (!is_whole())
            over_set(
                sets, place, h,
                [&](int column, int n, int64_t chunk) {
                    V g[CHUNK];
                    upstream(column, n, chunk, g);
                    keep(upstreams_, column, n, chunk, g);
                    upstream_sums_.add(column, chunk, sum_of(n, g));
                },
                nullptr, &grad_out);
        over_set(
            sets, place, h,
            [&](int column, int n, int64_t chunk) {
                V g[CHUNK];
                if (!recall(upstreams_, column, n, chunk, g)) upstream(column, n, chunk, g);
                others(upstream_sums_, column, n, chunk, g);
                if (how_.elu)
                    in_groups(n, g, [&](int k, V(&few)[FEW]) {
                        V x[FEW];
                        read(column, n, k, x);
                        const FallingExponential<V, FEW> e(x);
                        abreast<FEW>([&](int i) { few[i] = select<V>(x[i] > 0, few[i], few[i] * e.exp(i)); });
                    });
                for (int k = 0; k < n; ++k) out_.put(k, column, g[k]);
            },
            &grad_h, &grad_out);
        zero_padding(sets, place, grad_h);
    }

  private:
    Rows<T> h_, upstream_;
    Results<T> out_;
    ChunkSums<T> sums_, upstream_sums_;
    Aggregate how_;
    int64_t size_ = 0, row_ = 0;
    T factor_ = 1;
    bool streamed_ = false;
    // What one pass has made for the next one, of sets of which the second-level cache holds it.
    static constexpr int KEPT = 2048 / sizeof(T);  // parts
    alignas(64) T values_[KEPT * BLOCK], upstreams_[KEPT * BLOCK];

    // One chunk holds the set.
    bool is_whole() const { return size_ <= CHUNK; }
    bool is_kept() const { return size_ > CHUNK && size_ <= KEPT; }
    void keep(T* kept, int column, int n, int64_t chunk, const V* v) const {
        if (is_kept())
            for (int k = 0; k < n; ++k) store(kept + (chunk * CHUNK + k) * BLOCK + column, v[k]);
    }
    bool recall(const T* kept, int column, int n, int64_t chunk, V* v) const {
        if (!is_kept()) return false;
        for (int k = 0; k < n; ++k) v[k] = load<V>(kept + (chunk * CHUNK + k) * BLOCK + column);
        return true;
    }

    void begin(const Sets& sets, const Place& place, Aggregate how, bool streamed) {
        how_ = how;
        streamed_ = streamed;
        size_ = sets.size(place.set);
        row_ = sets.row(place.set);
        factor_ = T(!how.mean ? 1 : size_ > 1 ? 1.0 / double(size_ - 1) : 0);
        if (!is_whole()) {
            sums_.clear();
            upstream_sums_.clear();
        }
    }
    // f(column, n, chunk) for each chunk of n parts and each vector of columns, with the rows of h, and of grad_out where
    // it is given, staged, and those of out to be written.
    template <class F>
    void over_set(const Sets& sets, const Place& place, const Tensor& h, F f, const Tensor* out = nullptr,
                  const Tensor* grad_out = nullptr) {
        for (int64_t part = 0; part < size_; part += CHUNK) {
            const int n = int(size_ - part < CHUNK ? size_ - part : CHUNK);
            const Next next = next_of(sets, place, n, size_);
            h_.stage(h, place.set, row_ + part, n, place.coordinate, place.width, next);
            if (grad_out) upstream_.stage(*grad_out, place.set, row_ + part, n, place.coordinate, place.width, next);
            if (out) out_.stage(*out, place.set, row_ + part, n, place.coordinate, place.width, streamed_);
            for (int column = 0; column < place.width; column += N) f(column, n, part / CHUNK);
            if (out) out_.finish(*out, place.set, row_ + part, n, place.coordinate, place.width);
        }
    }
    // Rows from k on of h; zeros beyond the n that are there.
    COMPVAE_INLINE void read(int column, int n, int k, V (&x)[FEW]) const {
        abreast<FEW>([&](int i) { x[i] = k + i < n ? load<V>(h_[k + i] + column) : V{}; });
    }
    void values(int column, int n, V* v) const {
        in_groups(n, v, [&](int k, V(&few)[FEW]) {
            read(column, n, k, few);
            for (int i = 0; i < FEW && k + i < n; ++i) h_.prefetch(k + i, column);
            if (!how_.elu) return;
            const FallingExponential<V, FEW> e(few);
            abreast<FEW>([&](int i) { few[i] = select<V>(few[i] > 0, few[i], e.expm1(i)); });
        });
    }
    // In place, the sums, or means, of each one's others in the set.
    void others(const ChunkSums<T>& sums, int column, int n, int64_t chunk, V* v) const {
        V before[CHUNK], sum{}, after{};
        for (int k = 0; k < n; ++k) {
            before[k] = sum;
            sum += v[k];
        }
        const V rest = is_whole() ? V{} : sums.without(column, chunk, sum);
        for (int k = n - 1; k >= 0; --k) {
            const V own = v[k];
            v[k] = (before[k] + after + rest) * factor_;
            after += own;
        }
    }
    // The gradient of the sums or means: grad_out, times the slope of what is behind them.
    void upstream(int column, int n, int64_t chunk, V* g) const {
        V a[CHUNK];
        if (how_.tanh) {
            if (!recall(values_, column, n, chunk, a)) values(column, n, a);
            others(sums_, column, n, chunk, a);
        }
        for (int k = 0; k < n; ++k) {
            upstream_.prefetch(k, column);
            g[k] = load<V>(upstream_[k] + column);
        }
        if (how_.tanh)
            in_groups(n, a, [&](int k, V(&few)[FEW]) {
                // 1 - tanh^2, without the cancellation
                abreast<FEW>([&](int i) { few[i] = -2 * abs(few[i]); });
                const FallingExponential<V, FEW> exponential(few);
                abreast<FEW>([&](int i) {
                    const V e = exponential.exp(i), q = 1 / (1 + e);
                    g[k + i] *= 4 * e * (q * q);
                });
            });
    }
};

}  // namespace

void sum_minus_self_forward(const Sets& sets, const Tensor& h, const Tensor& out, Aggregate how, bool float64) {
    const auto run = [&](auto zero) {
        using Worker = Aggregation<decltype(zero)>;
        for_each_place<Worker>(sets, [&](Worker& w, const Place& place, int64_t) { w.forward(sets, place, h, out, how); });
    };
    float64 ? run(0.0) : run(0.0f);
}

void sum_minus_self_backward(const Sets& sets, const Tensor& h, const Tensor& grad_out, const Tensor& grad_h,
                             Aggregate how, bool float64) {
    const auto run = [&](auto zero) {
        using Worker = Aggregation<decltype(zero)>;
        for_each_place<Worker>(
            sets, [&](Worker& w, const Place& place, int64_t) { w.backward(sets, place, h, grad_out, grad_h, how); });
    };
    float64 ? run(0.0) : run(0.0f);
}

}  // namespace COMPVAE_ISA
}  // namespace compvae
