// The product of a set's Gaussian experts, with precisions t_i = exp(-logvar_i), T = prior + sum t_i:
// mean sum t_i mu_i / T, log-variance -log T. Sums are in float64, relative to the largest t so far.
#include <limits>

#include "kernels.h"
#include "places.h"
#include "vecmath.h"
#include "wide.h"

namespace compvae {
namespace COMPVAE_ISA {
namespace {

constexpr int EXPERTS = 32;  // staged together

// What the forward pass leaves, [4][B][D]: t_i / T = exp(-logvar_i - REFERENCE) * INVERSE, and the mean in two pieces,
// so that its difference from a mean close by keeps its digits.
enum { MEAN, MEAN_REST, REFERENCE, INVERSE, STATS };

// E: of the elements of rows that are read
template <class T, class E>
class Product {
    using V = typename Simd<T>::V;
    static constexpr int N = Simd<T>::N;

  public:
    void forward(const Sets& sets, const Place& place, const Experts& in, const Tensor& mean, const Tensor& logvar,
                 T* stats) {
        for (int i = 0; i < BLOCK; ++i) {
            stats_[REFERENCE][i] = in.prior ? T(0) : -std::numeric_limits<T>::infinity();
            total_[i] = weighted_[i] = 0;
        }
        over_set(sets, place, in, [&](const bool* there, int, int n) {
            for (int column = 0; column < place.width; column += N) add_chunk(column, n, there);
        });
        for (int column = 0; column < place.width; column += LANES / 2) finish(column, in.prior);
        write_block(mean, place, stats_[MEAN]);
        write_block(logvar, place, logvar_out_);
        if (stats) write_stats(stats, STATS, sets, place, stats_);
    }

    void backward(const Sets& sets, const Place& place, const Experts& in, const Tensor& grad_mean,
                  const Tensor& grad_logvar, const T* stats, const Tensor& to_mu, const Tensor& to_logvar) {
        read_stats(stats, STATS, sets, place, stats_);
        read_block(grad_mean, place, grad_mean_);
        read_block(grad_logvar, place, grad_logvar_);
        const Tensor* outputs[] = {&to_mu, &to_logvar};
        const bool streamed = is_streamed<T>(sets, outputs);
        over_set(sets, place, in, [&](const bool* there, int64_t row, int n) {
            out_[0].stage(to_mu, place.set, row, n, place.coordinate, place.width, streamed);
            out_[1].stage(to_logvar, place.set, row, n, place.coordinate, place.width, streamed);
            for (int column = 0; column < place.width; column += N) differentiate_chunk(column, n, there);
            out_[0].finish(to_mu, place.set, row, n, place.coordinate, place.width);
            out_[1].finish(to_logvar, place.set, row, n, place.coordinate, place.width);
        });
        zero_padding(sets, place, to_mu);
        zero_padding(sets, place, to_logvar);
    }

  private:
    InputRows<T, EXPERTS, BLOCK, E> mu_, logvar_;
    OutputRows<T, EXPERTS, BLOCK> out_[2];
    alignas(64) T stats_[STATS][BLOCK], grad_mean_[BLOCK], grad_logvar_[BLOCK];
    double total_[BLOCK], weighted_[BLOCK];  // sum of t_i and of t_i mu_i, both over exp(reference); no prior
    double logvar_out_[BLOCK];

    // f(which experts are there, first row, rows) for every chunk of the set
    template <class F>
    void over_set(const Sets& sets, const Place& place, const Experts& in, F f) {
        const int64_t size = sets.size(place.set), row = sets.row(place.set);
        for (int64_t part = 0; part < size; part += EXPERTS) {
            const int n = int(size - part < EXPERTS ? size - part : EXPERTS);
            const Next next = next_of(sets, place, part, n);
            mu_.stage(in.mu, place.set, row + part, n, place.coordinate, place.width, next);
            logvar_.stage(in.logvar, place.set, row + part, n, place.coordinate, place.width, next);
            bool there[EXPERTS];
            for (int k = 0; k < n; ++k) there[k] = !in.mask || in.mask[place.set * sets.parts + part + k];
            f(there, row + part, n);
        }
    }

    COMPVAE_INLINE void read_ahead(int k, int column) const {
        mu_.prefetch(k, column);
        logvar_.prefetch(k, column, 2);
    }

    static V finite(V reference) {
        return select<V>(reference == -std::numeric_limits<T>::infinity(), V{}, reference);
    }

    void add_chunk(int column, int n, const bool* there) {
        const V old = load<V>(stats_[REFERENCE] + column);
        V reference = old;
        for (int k = 0; k < n; ++k) {
            const V log_precision = -logvar_.at(k, column);
            if (there[k]) reference = select<V>(log_precision > reference, log_precision, reference);
        }
        const V ref = finite(reference);
        Wide<T> total, weighted;
        for (int k = 0; k < n; ++k) {
            read_ahead(k, column);
            if (!there[k]) continue;
            const Wide<T> t = widen(exp(-logvar_.at(k, column) - ref));
            total += t;
            weighted += t * widen(mu_.at(k, column));
        }
        const V rescale = select<V>(old == reference, splat<V>(T(1)), exp(old - ref));
        for (int i = 0; i < N; ++i) {
            total_[column + i] *= rescale[i];
            weighted_[column + i] *= rescale[i];
        }
        add_to(total_ + column, total);
        add_to(weighted_ + column, weighted);
        store(stats_[REFERENCE] + column, reference);
    }

    void finish(int column, bool prior) {
        constexpr int W = LANES / 2;
        VD reference, mean, log_total;
        for (int i = 0; i < W; ++i) reference[i] = stats_[REFERENCE][column + i];
        const VD experts = load<VD>(total_ + column);
        const auto none = reference == -std::numeric_limits<double>::infinity();
        reference = select<VD>(none, VD{}, reference);
        const VD total = prior ? exp(-reference) + experts : experts;
        // with the prior the reference is at least 0, and 1 + x must keep the digits of a small x
        log_total = reference + (prior ? log1p(expm1(-reference) + experts) : log(total));
        mean = select<VD>(none, VD{}, load<VD>(weighted_ + column) / total);
        log_total = select<VD>(none, VD{} - std::numeric_limits<double>::infinity(), log_total);
        store(logvar_out_ + column, -log_total);
        for (int i = 0; i < W; ++i) {
            stats_[MEAN][column + i] = T(mean[i]);
            stats_[MEAN_REST][column + i] = T(mean[i] - T(mean[i]));
            stats_[REFERENCE][column + i] = T(reference[i]);
            stats_[INVERSE][column + i] = none[i] ? T(0) : T(1 / total[i]);
        }
    }

    void differentiate_chunk(int column, int n, const bool* there) {
        auto stat = [&](int slot) { return load<V>(stats_[slot] + column); };
        const V to_mean = load<V>(grad_mean_ + column), to_logvar = load<V>(grad_logvar_ + column);
        for (int k = 0; k < n; ++k) {
            read_ahead(k, column);
            V mu{}, logvar{};
            if (there[k]) {
                const V weight = exp(-logvar_.at(k, column) - stat(REFERENCE)) * stat(INVERSE);
                const V apart = (mu_.at(k, column) - stat(MEAN)) - stat(MEAN_REST);
                mu = weight * to_mean;
                logvar = weight * (to_logvar - to_mean * apart);
            }
            out_[0].put(k, column, mu);
            out_[1].put(k, column, logvar);
        }
    }
};

}  // namespace

void product_of_experts_forward(const Sets& sets, const Experts& in, const Tensor& mean, const Tensor& logvar,
                                void* stats, bool float64) {
    by_elements(float64, {&in.mu, &in.logvar}, [&](auto zero, auto element) {
        using T = decltype(zero);
        using Worker = Product<T, decltype(element)>;
        for_each_place<Worker>(sets, [&](Worker& worker, const Place& place, int64_t) {
            worker.forward(sets, place, in, mean, logvar, static_cast<T*>(stats));
        });
    });
}

void product_of_experts_backward(const Sets& sets, const Experts& in, const Tensor& grad_mean,
                                 const Tensor& grad_logvar, const void* stats, const Tensor& to_mu,
                                 const Tensor& to_logvar, bool float64) {
    by_elements(float64, {&in.mu, &in.logvar}, [&](auto zero, auto element) {
        using T = decltype(zero);
        using Worker = Product<T, decltype(element)>;
        for_each_place<Worker>(sets, [&](Worker& worker, const Place& place, int64_t) {
            worker.backward(sets, place, in, grad_mean, grad_logvar, static_cast<const T*>(stats), to_mu, to_logvar);
        });
    });
}

}  // namespace COMPVAE_ISA
}  // namespace compvae
