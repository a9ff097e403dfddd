// out_i = post(sum over j != i of pre(h_j)), exact to rounding of the true sum: the part with the largest |pre(h)| is
// kept out of the float64 total, so that total minus self never cancels beyond what the true sum holds.
#include <cmath>
#include <limits>

#include "multiset.h"

namespace compvae {
namespace COMPVAE_ISA {
namespace {

template <class T>
class SumMinusSelf {
    using V = typename Simd<T>::V;
    static constexpr int N = Simd<T>::N;

  public:
    using Values = V[CHUNK];

    // Sums of values(k, column, V) over a set, chunk by chunk.
    void clear() {
        std::memset(others_, 0, sizeof others_);
        std::memset(largest_, 0, sizeof largest_);
        std::memset(plus_, 0, sizeof plus_);
        std::memset(minus_, 0, sizeof minus_);
        std::memset(undefined_, 0, sizeof undefined_);
        for (int64_t& w : where_) w = -1;
    }
    void add(int column, int n, int64_t part, const V* values) {
        V where = splat<V>(T(-1)), largest = load<V>(largest_ + column), size = magnitude(largest);
        if (part == 0) {
            where = V{};
            largest = values[0];
            size = magnitude(largest);
        }
        for (int k = part == 0; k < n; ++k) {
            const V m = magnitude(values[k]);
            const auto larger = m > size;
            size = select<V>(larger, m, size);
            largest = select<V>(larger, values[k], largest);
            where = select<V>(larger, splat<V>(T(k)), where);
        }
        const auto changed = where >= 0;
        // a largest part of before joins the others
        Wide<T> sum = widen(select<V>(changed, load<V>(largest_ + column), V{}));
        for (int k = 0; k < n; ++k) sum += widen(select<V>(where == T(k), V{}, values[k]));
        add_to(others_ + column, sum);
        for (int i = 0; i < N; ++i) where_[column + i] = where[i] >= 0 ? part + int64_t(where[i]) : where_[column + i];
        store(largest_ + column, largest);
        const V infinite = size == std::numeric_limits<T>::infinity() ? splat<V>(T(1)) : V{};
        for (int i = 0; i < N; ++i)
            if (infinite[i] != 0) count_undefined(column + i, i, n, values);
    }
    // The sums without each of n parts, times factor.
    void without(int column, int n, int64_t part, const V* values, double factor, V* out) const {
        const Wide<T> others = load_wide<T>(others_ + column), largest = widen(load<V>(largest_ + column));
        Wide<T> alone;
        V where;
        for (int i = 0; i < Wide<T>::COUNT; ++i) alone.part[i] = others.part[i] * factor;
        for (int i = 0; i < N; ++i) {
            const int64_t k = where_[column + i] - part;
            where[i] = T(k >= 0 && k < CHUNK ? k : -1);
        }
        const V without_largest = narrow(alone);
        for (int k = 0; k < n; ++k) {
            Wide<T> rest = widen(values[k]);
            for (int i = 0; i < Wide<T>::COUNT; ++i)
                rest.part[i] = ((others.part[i] - rest.part[i]) + largest.part[i]) * factor;
            out[k] = select<V>(where == T(k), without_largest, narrow(rest));
        }
        for (int i = 0; i < N; ++i) {
            const int c = column + i;
            if (plus_[c] + minus_[c] + undefined_[c] > 1)
                for (int k = 0; k < n; ++k) out[k][i] = of_undefined(c, values[k][i]);
        }
    }

  private:
    double others_[BLOCK];
    alignas(64) T largest_[BLOCK];
    int64_t where_[BLOCK], plus_[BLOCK], minus_[BLOCK], undefined_[BLOCK];

    static V magnitude(V v) {
        return select<V>(v == v, abs(v), splat<V>(std::numeric_limits<T>::infinity()));
    }
    void count_undefined(int c, int lane, int n, const V* values) {
        for (int k = 0; k < n; ++k) {
            const T v = values[k][lane];
            plus_[c] += v == std::numeric_limits<T>::infinity();
            minus_[c] += v == -std::numeric_limits<T>::infinity();
            undefined_[c] += v != v;
        }
    }
    // Two or more parts are not finite: what remains without this one is told by their counts.
    T of_undefined(int c, T self) const {
        const T infinity = std::numeric_limits<T>::infinity();
        const int64_t plus = plus_[c] - (self == infinity), minus = minus_[c] - (self == -infinity);
        if (undefined_[c] - (self != self) || (plus && minus)) return std::numeric_limits<T>::quiet_NaN();
        return plus ? infinity : -infinity;
    }
};

template <class T>
class Aggregation {
    using V = typename Simd<T>::V;
    static constexpr int N = Simd<T>::N;

  public:
    void forward(const Sets& sets, const Place& place, const Tensor& h, const Tensor& out, Aggregate how) {
        begin(sets, place, how);
        over_set(place, h, false, [&](int column, int n, int64_t part) {
            V v[CHUNK];
            values(column, n, v);
            sums_.add(column, n, part, v);
        });
        over_set(
            place, h, true,
            [&](int column, int n, int64_t part) {
                V v[CHUNK], r[CHUNK];
                values(column, n, v);
                sums_.without(column, n, part, v, factor_, r);
                for (int k = 0; k < n; ++k) store(out_[k] + column, how_.tanh ? tanh(r[k]) : r[k]);
            },
            &out);
        zero_padding(sets, place, out);
    }

    // The gradient of h is pre'(h_j) sum over i != j of the upstream gradient of the sums.
    void backward(const Sets& sets, const Place& place, const Tensor& h, const Tensor& grad_out, const Tensor& grad_h,
                  Aggregate how) {
        begin(sets, place, how);
        if (how.tanh)
            over_set(place, h, false, [&](int column, int n, int64_t part) {
                V v[CHUNK];
                values(column, n, v);
                sums_.add(column, n, part, v);
            });
        over_set(place, h, false, [&](int column, int n, int64_t part) {
            V g[CHUNK];
            if (!column) stage_upstream(place, grad_out, part, n);
            upstream(column, n, part, g);
            upstream_sums_.add(column, n, part, g);
        });
        over_set(
            place, h, true,
            [&](int column, int n, int64_t part) {
                V g[CHUNK], r[CHUNK];
                if (!column && size_ > CHUNK) stage_upstream(place, grad_out, part, n);
                upstream(column, n, part, g);
                upstream_sums_.without(column, n, part, g, factor_, r);
                for (int k = 0; k < n; ++k) {
                    const V x = load<V>(h_[k] + column);
                    store(out_[k] + column, how_.elu ? r[k] * select<V>(x > 0, splat<V>(T(1)), exp(x)) : r[k]);
                }
            },
            &grad_h);
        zero_padding(sets, place, grad_h);
    }

  private:
    Rows<T> h_, upstream_;
    Results<T> out_;
    SumMinusSelf<T> sums_, upstream_sums_;
    Aggregate how_;
    int64_t size_ = 0, row_ = 0;
    double factor_ = 1;

    void begin(const Sets& sets, const Place& place, Aggregate how) {
        how_ = how;
        size_ = sets.size(place.set);
        row_ = sets.row(place.set);
        factor_ = !how.mean ? 1 : size_ > 1 ? 1.0 / double(size_ - 1) : 0;
        sums_.clear();
        upstream_sums_.clear();
        staged_ = false;
    }
    // f(column, n, part) for each chunk and column; rows of h are staged, once where one chunk holds the set.
    template <class F>
    void over_set(const Place& place, const Tensor& h, bool writing, F f, const Tensor* out = nullptr) {
        for (int64_t part = 0; part < size_; part += CHUNK) {
            const int n = int(size_ - part < CHUNK ? size_ - part : CHUNK);
            if (!staged_ || size_ > CHUNK) h_.stage(h, place.set, row_ + part, n, place.coordinate, place.width);
            if (writing) out_.stage(*out, place.set, row_ + part, n, place.coordinate, place.width);
            for (int column = 0; column < place.width; column += N) f(column, n, part);
            if (writing) out_.finish(*out, place.set, row_ + part, n, place.coordinate, place.width);
        }
        staged_ = true;
    }
    void stage_upstream(const Place& place, const Tensor& grad_out, int64_t part, int n) {
        upstream_.stage(grad_out, place.set, row_ + part, n, place.coordinate, place.width);
    }
    void values(int column, int n, V* v) const {
        for (int k = 0; k < n; ++k) {
            const V x = load<V>(h_[k] + column);
            v[k] = how_.elu ? select<V>(x > 0, x, expm1(x)) : x;
        }
    }
    void upstream(int column, int n, int64_t part, V* g) const {
        V a[CHUNK];
        if (how_.tanh) {
            values(column, n, g);
            sums_.without(column, n, part, g, factor_, a);
        }
        for (int k = 0; k < n; ++k) {
            g[k] = load<V>(upstream_[k] + column);
            if (how_.tanh) g[k] *= sech_squared(a[k]);
        }
    }
    // 1 - tanh^2, without the cancellation
    static V sech_squared(V x) {
        const V e = exp(-2 * abs(x)), q = 1 / (1 + e);
        return 4 * e * q * q;
    }
    bool staged_ = false;
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
