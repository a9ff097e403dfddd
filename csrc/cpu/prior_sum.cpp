// w~ = sum_i mu[l_i] + sigma[l_i] eps_i, drawn part by part or at once, and its gradient to the tables.
#include <cmath>

#include "kernels.h"
#include "noise.h"
#include "places.h"
#include "vecmath.h"

namespace compvae {
namespace COMPVAE_ISA {
namespace {

constexpr int PARTS = 32;  // summed in the compute type before they join the float64 sums

// Rows of the two tables at one block of coordinates: the means, and exp(scale * logvar).
template <class T>
class TableRows {
    using V = typename Simd<T>::V;

  public:
    struct Row {
        const T *mean, *spread;
    };

    // Small tables are read whole, once for all sets that follow at the same coordinates.
    void prepare(const Tables& tables, const Place& place, T scale) {
        if (coordinate_ == place.coordinate) return;
        coordinate_ = place.coordinate;
        width_ = place.width;
        scale_ = scale;
        whole_ = tables.classes <= KEPT;
        if (whole_)
            for (int64_t c = 0; c < tables.classes; ++c) read(tables, c, int(c));
    }
    // The rows of class c; where the tables are not kept, a slot in [0, KEPT) holds them.
    Row row(const Tables& tables, int64_t c, int slot) {
        if (!whole_) read(tables, c, slot);
        const int64_t at = whole_ ? c : slot;
        return {mean_[at], spread_[at]};
    }

  private:
    static constexpr int KEPT = 64;
    alignas(64) T mean_[KEPT][BLOCK], spread_[KEPT][BLOCK];
    int64_t coordinate_ = -1;
    int width_ = 0;
    bool whole_ = false;
    T scale_ = 0;

    void read(const Tables& tables, int64_t c, int at) {
        for (int i = width_; i < BLOCK; ++i) mean_[at][i] = spread_[at][i] = T(0);
        read_row(address(tables.mu, 0, c, coordinate_), tables.mu.dtype, tables.mu.stride_coordinate, width_, mean_[at]);
        read_row(address(tables.logvar, 0, c, coordinate_), tables.logvar.dtype, tables.logvar.stride_coordinate, width_,
                 spread_[at]);
        for (int column = 0; column < BLOCK; column += Simd<T>::N)
            store(spread_[at] + column, exp(load<V>(spread_[at] + column) * scale_));
    }
};

// body(worker, place) for every place, sets of the same coordinates one after the other.
template <class Worker, class Body>
void for_each_place_by_coordinate(const Sets& sets, Body body) {
    const int64_t count = sets.count * blocks_of(sets.width);
    const int threads = int(count < sets.threads ? count : sets.threads);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        Worker worker;
#pragma omp for schedule(dynamic, 1)
        for (int64_t i = 0; i < count; ++i) {
            const int64_t coordinate = i / sets.count * BLOCK;
            body(worker, Place{i % sets.count, coordinate,
                               int(sets.width - coordinate < BLOCK ? sets.width - coordinate : BLOCK)});
        }
    }
}

template <class T>
class Draw {
    using V = typename Simd<T>::V;

  public:
    void run(const Sets& sets, const Place& place, const Tables& tables, const int64_t* labels, const Tensor& w_sum) {
        const int64_t size = sets.size(place.set), start = int64_t(sets.start(place.set));
        const int64_t* label = labels + (sets.offsets ? sets.offsets[place.set] : place.set * sets.parts);
        rows_.prepare(tables, place, T(0.5));
        noise_.prepare(sets.seed(place.set), sets.index(place.set), place.coordinate);
        double sum[BLOCK] = {};
        for (int64_t part = 0; part < size; part += PARTS) {
            const int n = int(size - part < PARTS ? size - part : PARTS);
            typename TableRows<T>::Row row[PARTS];
            for (int k = 0; k < n; ++k) {
                row[k] = rows_.row(tables, label[part + k], k);
                noise_.fill_row(uint64_t(start + part + k), eps_[k]);
            }
            for (int column = 0; column < place.width; column += Simd<T>::N) {
                V total{};
                for (int k = 0; k < n; ++k)
                    total += load<V>(row[k].mean + column) + load<V>(row[k].spread + column) * load<V>(eps_[k] + column);
                for (int i = 0; i < Simd<T>::N; ++i) sum[column + i] += total[i];
            }
        }
        write_block(w_sum, place, sum);
    }

  private:
    TableRows<T> rows_;
    NoiseBlock noise_;
    alignas(64) T eps_[PARTS][BLOCK];
};

// One draw from N(sum_c n_c mu_c, V = sum_c n_c sigma_c^2); leaves dw~/dV in slope [B, D] where that is wanted.
class CollapsedDraw {
  public:
    void run(const Sets& sets, const Place& place, const Tables& tables, const Groups& classes, const Tensor& w_sum,
             double* slope) {
        rows_.prepare(tables, place, 1.0);
        alignas(64) double mean[BLOCK] = {}, variance[BLOCK] = {}, eps[BLOCK], by_variance[BLOCK];
        for (int64_t e = classes.begin(place.set); e < classes.end(place.set); ++e) {
            const double n = double(classes.weight(place.set, e));
            if (n == 0) continue;
            const auto row = rows_.row(tables, classes.member(e), 0);
            for (int i = 0; i < BLOCK; ++i) {
                mean[i] += n * row.mean[i];
                variance[i] += n * row.spread[i];
            }
        }
        NoiseBlock noise;
        noise.prepare(sets.seed(place.set), sets.index(place.set), place.coordinate);
        noise.fill_row(sets.start(place.set), eps);
        for (int i = 0; i < place.width; ++i) {
            const double deviation = std::sqrt(variance[i]);
            mean[i] += deviation * eps[i];
            by_variance[i] = variance[i] != 0 ? eps[i] / (2 * deviation) : 0;
        }
        write_block(w_sum, place, mean);
        if (slope)
            std::memcpy(slope + place.set * sets.width + place.coordinate, by_variance, sizeof(double) * place.width);
    }

  private:
    TableRows<double> rows_;
};

// The gradient of one class at one block of coordinates: the sum over its parts, in the order of sets and parts.
template <class T>
class Gradient {
  public:
    void run(const Sets& sets, const Place& place, const Tables& tables, const Groups& sets_of, const Tensor& grad_w,
             const double* slope, const Tables& grad) {
        const int64_t c = place.set;
        alignas(64) double to_mean[BLOCK] = {}, to_spread[BLOCK] = {}, logvar[BLOCK] = {};
        int64_t set = -1;
        for (int64_t e = sets_of.begin(c); e < sets_of.end(c); ++e) {
            const double n = slope ? double(sets_of.weight(c, e)) : 1;
            if (n == 0) continue;
            const bool another = sets_of.member(e) != set;
            set = sets_of.member(e);
            if (another) read_block(grad_w, Place{set, place.coordinate, place.width}, grad_w_);
            if (slope) {
                const double* by_variance = slope + set * sets.width + place.coordinate;
                for (int i = 0; i < place.width; ++i) {
                    to_mean[i] += n * grad_w_[i];
                    to_spread[i] += n * grad_w_[i] * by_variance[i];
                }
            } else {
                if (another) noise_.prepare(sets.seed(set), sets.index(set), place.coordinate);
                noise_.fill_row(sets.start(set) + uint64_t(sets_of.parts[e]), eps_);
                for (int i = 0; i < BLOCK; ++i) {
                    to_mean[i] += grad_w_[i];
                    to_spread[i] += double(grad_w_[i]) * double(eps_[i]);
                }
            }
        }
        if (set >= 0) {  // else its tables do not matter, be they NaN
            read_row(address(tables.logvar, 0, c, place.coordinate), tables.logvar.dtype,
                     tables.logvar.stride_coordinate, place.width, logvar);
            using V = typename Simd<double>::V;
            const double scale = slope ? 1 : 0.5;
            for (int i = 0; i < BLOCK; i += Simd<double>::N)
                store(to_spread + i, load<V>(to_spread + i) * (exp(load<V>(logvar + i) * scale) * scale));
        }
        if (grad.mu.data)
            write_row(address(grad.mu, 0, c, place.coordinate), grad.mu.dtype, grad.mu.stride_coordinate, place.width,
                      to_mean);
        if (grad.logvar.data)
            write_row(address(grad.logvar, 0, c, place.coordinate), grad.logvar.dtype, grad.logvar.stride_coordinate,
                      place.width, to_spread);
    }

  private:
    NoiseBlock noise_;
    alignas(64) T grad_w_[BLOCK], eps_[BLOCK];
};

}  // namespace

void prior_sum_forward(const Sets& sets, const Tables& tables, const int64_t* labels, const Tensor& w_sum,
                       bool float64) {
    const auto run = [&](auto zero) {
        using T = decltype(zero);
        for_each_place_by_coordinate<Draw<T>>(
            sets, [&](Draw<T>& worker, const Place& place) { worker.run(sets, place, tables, labels, w_sum); });
    };
    float64 ? run(0.0) : run(0.0f);
}

void prior_sum_collapsed_forward(const Sets& sets, const Tables& tables, const Groups& classes, const Tensor& w_sum,
                                 double* slope) {
    for_each_place_by_coordinate<CollapsedDraw>(sets, [&](CollapsedDraw& worker, const Place& place) {
        worker.run(sets, place, tables, classes, w_sum, slope);
    });
}

void prior_sum_backward(const Sets& sets, const Tables& tables, const Groups& sets_of, const Tensor& grad_w,
                        const double* slope, const Tables& grad, bool float64) {
    Sets classes = sets;
    classes.count = tables.classes;
    const auto run = [&](auto zero) {
        using T = decltype(zero);
        for_each_place<Gradient<T>>(classes, [&](Gradient<T>& worker, const Place& place, int64_t) {
            worker.run(sets, place, tables, sets_of, grad_w, slope, grad);
        });
    };
    float64 ? run(0.0) : run(0.0f);
}

}  // namespace COMPVAE_ISA
}  // namespace compvae
