// The density of given parts. The inverse of the transform loses a factor exp(L), so everything here is float64, but for
// rows in memory of float32.
#include <cmath>

#include "multiset.h"

namespace compvae {
namespace COMPVAE_ISA {
namespace {

using V = VD;
constexpr int N = LANES / 2;
constexpr double LOG_2_PI = 1.8378770664093454836;

// Rows of [B][D] left for the backward pass: max(0, nu_m); 1/Z; E (unit) or T (scaled); and exp(L) sum rho_j eps_j
// (unit) or exp(L) sum rho_j eps_j / sigma_j (scaled).
enum { REF, INVERSE_Z, TOTAL, PULL, STATS };

// T: of the inputs' and results' rows
template <class T, Coupling C>
class Density {
    static constexpr bool unit = C == Coupling::unit;

  public:
    double run(const Sets& sets, const Place& place, const Tensor& w, const Posterior& in, double* stats) {
        const int64_t size = sets.size(place.set);
        sum(sets, place, w, in);
        double density = 0;
        for (int column = 0; column < place.width; column += N) {
            const V ref = load<V>(stats_[REF] + column), z = load<V>(z_ + column) + exp(-ref);
            const V log_normaliser = ref + log(z);
            store(stats_[INVERSE_Z] + column, 1 / z);
            store(stats_[TOTAL] + column, load<V>(stats_[TOTAL] + column) * exp(log_normaliser));
            store(normaliser_ + column, log_normaliser);
        }
        square(sets, place, w, in, size > CHUNK);
        for (int i = 0; i < place.width && size; ++i) {
            density += normaliser_[i] - 0.5 * (squares_[i] + LOG_2_PI * double(size));
            stats_[PULL][i] *= std::exp(normaliser_[i]);
        }
        if (stats) write_stats(stats, STATS, sets, place, stats_);
        return density;
    }

    // A shard's sums, rows [3][B][D]: max(0, nu_m); sum exp(nu - that); sum (w - mu) / sigma (unit), sum w - mu (scaled).
    void shard_sums(const Sets& sets, const Place& place, const Tensor& w, const Posterior& in, double* sums) {
        sum(sets, place, w, in);
        double rows[3][BLOCK];
        std::memcpy(rows[0], stats_[REF], sizeof rows[0]);
        std::memcpy(rows[1], z_, sizeof rows[1]);
        std::memcpy(rows[2], stats_[TOTAL], sizeof rows[2]);
        write_stats(sums, 3, sets, place, rows);
    }
    // Given the joint REF, INVERSE_Z and TOTAL, what a shard adds, rows [2][B][D]: sum eps^2 + log sigma^2, and to PULL
    // before its factor exp(L).
    void shard_squares(const Sets& sets, const Place& place, const Tensor& w, const Posterior& in, const double* stats,
                       double* sums) {
        read_stats(stats, PULL, sets, place, stats_);
        std::memset(stats_[PULL], 0, sizeof stats_[PULL]);
        square(sets, place, w, in, true);
        double rows[2][BLOCK];
        std::memcpy(rows[0], squares_, sizeof rows[0]);
        std::memcpy(rows[1], stats_[PULL], sizeof rows[1]);
        write_stats(sums, 2, sets, place, rows);
    }

    void gradient(const Sets& sets, const Place& place, const Tensor& w, const Posterior& in, const Tensor& grad,
                  const double* stats, const Tensor& grad_w, const Posterior& out) {
        const int64_t size = sets.size(place.set), row = sets.row(place.set);
        const double g = read_value<double>(grad, place.set);
        read_stats(stats, STATS, sets, place, stats_);
        const Tensor* outputs[] = {&grad_w, &out.mu_q, &out.logvar_q, &out.rho_logits};
        each_chunk(sets, place, w, in, row, size, true, [&](int column, int n, int64_t part) {
            if (!column)
                for (int i = 0; i < 4; ++i)
                    out_[i].stage(*outputs[i], place.set, row + part, n, place.coordinate, place.width);
            write(column, n, g);
            if (column + N >= place.width)
                for (int i = 0; i < 4; ++i)
                    out_[i].finish(*outputs[i], place.set, row + part, n, place.coordinate, place.width);
        });
        for (const Tensor* t : outputs) zero_padding(sets, place, *t);
    }

  private:
    Rows<T> w_, mu_, logvar_, logits_;
    Results<T> out_[4];
    alignas(64) double stats_[STATS][BLOCK], z_[BLOCK], squares_[BLOCK], normaliser_[BLOCK];
    alignas(64) double powers_[CHUNK * BLOCK], inverses_[CHUNK * BLOCK];  // exp(nu - ref) and 1 / sigma of the last chunk

    void sum(const Sets& sets, const Place& place, const Tensor& w, const Posterior& in) {
        std::memset(stats_, 0, sizeof stats_);
        std::memset(z_, 0, sizeof z_);
        each_chunk(sets, place, w, in, sets.row(place.set), sets.size(place.set), true,
                   [&](int column, int n, int64_t) { add(column, n); });
    }
    // Unless `staged`, one chunk is the whole set, and its rows and exponentials are there from the sums.
    void square(const Sets& sets, const Place& place, const Tensor& w, const Posterior& in, bool staged) {
        std::memset(squares_, 0, sizeof squares_);
        each_chunk(sets, place, w, in, sets.row(place.set), sets.size(place.set), staged, [&](int column, int n, int64_t) {
            staged ? add_squares<false>(column, n) : add_squares<true>(column, n);
        });
    }

    template <class F>
    void each_chunk(const Sets& sets, const Place& place, const Tensor& w, const Posterior& in, int64_t row, int64_t size,
                    bool staged, F f) {
        for (int64_t part = 0; part < size; part += CHUNK) {
            const int n = int(size - part < CHUNK ? size - part : CHUNK);
            if (staged) {
                const Next next = next_of(sets, place, part, n);
                w_.stage(w, place.set, row + part, n, place.coordinate, place.width, next);
                mu_.stage(in.mu_q, place.set, row + part, n, place.coordinate, place.width, next);
                logvar_.stage(in.logvar_q, place.set, row + part, n, place.coordinate, place.width, next);
                logits_.stage(in.rho_logits, place.set, row + part, n, place.coordinate, place.width, next);
            }
            for (int column = 0; column < place.width; column += N) f(column, n, part);
        }
    }
    COMPVAE_INLINE void read_ahead(int k, int column) const {
        w_.prefetch(k, column);
        mu_.prefetch(k, column, 1);
        logvar_.prefetch(k, column, 2);
        logits_.prefetch(k, column, 3);
    }
    V inverse_sigma(int k, int column) const { return exp(load_double(logvar_[k] + column) * -0.5); }
    // (w - mu) / sigma in "unit", w - mu in "scaled"
    V residual(int k, int column, V inverse_sigma) const {
        const V difference = load_double(w_[k] + column) - load_double(mu_[k] + column);
        return unit ? difference * inverse_sigma : difference;
    }
    V power(int k, int column) const { return exp(load_double(logits_[k] + column) - load<V>(stats_[REF] + column)); }
    V eps(V residual, V rho, V total, V inverse_sigma) const {
        const V v = residual + rho * total;
        return unit ? v : v * inverse_sigma;
    }

    void add(int column, int n) {
        const V old = load<V>(stats_[REF] + column);
        V ref = old, z{}, total{};
        for (int k = 0; k < n; ++k) {
            const V nu = load_double(logits_[k] + column);
            ref = select<V>(nu > ref, nu, ref);
        }
        store(stats_[REF] + column, ref);
        for (int k = 0; k < n; ++k) {
            read_ahead(k, column);
            const V e = power(k, column), inverse = unit ? inverse_sigma(k, column) : V{};
            store(powers_ + k * BLOCK + column, e);
            if (unit) store(inverses_ + k * BLOCK + column, inverse);
            z += e;
            total += residual(k, column, inverse);
        }
        store(z_ + column, load<V>(z_ + column) * exp(old - ref) + z);
        store(stats_[TOTAL] + column, load<V>(stats_[TOTAL] + column) + total);
    }
    template <bool KEPT>
    void add_squares(int column, int n) {
        const V inverse_z = load<V>(stats_[INVERSE_Z] + column), total = load<V>(stats_[TOTAL] + column);
        V squares{}, pull{};
        for (int k = 0; k < n; ++k) {
            const V power_of_k = KEPT ? load<V>(powers_ + k * BLOCK + column) : power(k, column);
            const V inverse = KEPT && unit ? load<V>(inverses_ + k * BLOCK + column) : inverse_sigma(k, column);
            const V rho = power_of_k * inverse_z, e = eps(residual(k, column, inverse), rho, total, inverse);
            squares += e * e + load_double(logvar_[k] + column);
            pull += rho * e * (unit ? V{} + 1.0 : inverse);
        }
        store(squares_ + column, load<V>(squares_ + column) + squares);
        store(stats_[PULL] + column, load<V>(stats_[PULL] + column) + pull);
    }
    void write(int column, int n, double g) {
        const V pull = load<V>(stats_[PULL] + column), total = load<V>(stats_[TOTAL] + column);
        const V inverse_z = load<V>(stats_[INVERSE_Z] + column);
        for (int k = 0; k < n; ++k) {
            read_ahead(k, column);
            const V inverse = inverse_sigma(k, column), own = residual(k, column, inverse);
            const V rho = power(k, column) * inverse_z, e = eps(own, rho, total, inverse);
            const V to_w = unit ? -(e + pull) * inverse : -(e * inverse + pull);
            const V to_logvar = unit ? own * (e + pull) - 1 : e * e - 1;
            const V to_logit = rho * (1 - e * total * (unit ? V{} + 1.0 : inverse));
            store_double(out_[0][k] + column, g * to_w);
            store_double(out_[1][k] + column, -g * to_w);
            store_double(out_[2][k] + column, 0.5 * g * to_logvar);
            store_double(out_[3][k] + column, g * to_logit);
        }
    }
};

}  // namespace

void correlated_normal_log_prob_forward(const Sets& sets, const Tensor& w, const Posterior& in, const Tensor& density,
                                        void* stats, double* scratch, Options options) {
    by_type_and_coupling(options, [&](auto zero, auto coupling) {
        using Worker = Density<decltype(zero), decltype(coupling)::value>;
        for_each_place<Worker>(sets, [&](Worker& worker, const Place& place, int64_t index) {
            scratch[index] = worker.run(sets, place, w, in, static_cast<double*>(stats));
        });
    });
    join_blocks(sets, scratch, density);
}

void correlated_normal_log_prob_backward(const Sets& sets, const Tensor& w, const Posterior& in, const Tensor& grad,
                                         const void* stats, const Tensor& grad_w, const Posterior& out,
                                         Options options) {
    by_type_and_coupling(options, [&](auto zero, auto coupling) {
        using Worker = Density<decltype(zero), decltype(coupling)::value>;
        for_each_place<Worker>(sets, [&](Worker& worker, const Place& place, int64_t) {
            worker.gradient(sets, place, w, in, grad, static_cast<const double*>(stats), grad_w, out);
        });
    });
}

void correlated_normal_log_prob_shard_sums(const Sets& sets, const Tensor& w, const Posterior& in, double* sums,
                                           Options options) {
    by_type_and_coupling(options, [&](auto zero, auto coupling) {
        using Worker = Density<decltype(zero), decltype(coupling)::value>;
        for_each_place<Worker>(
            sets, [&](Worker& worker, const Place& place, int64_t) { worker.shard_sums(sets, place, w, in, sums); });
    });
}

void correlated_normal_log_prob_shard_squares(const Sets& sets, const Tensor& w, const Posterior& in, const void* stats,
                                              double* sums, Options options) {
    by_type_and_coupling(options, [&](auto zero, auto coupling) {
        using Worker = Density<decltype(zero), decltype(coupling)::value>;
        for_each_place<Worker>(sets, [&](Worker& worker, const Place& place, int64_t) {
            worker.shard_squares(sets, place, w, in, static_cast<const double*>(stats), sums);
        });
    });
}

}  // namespace COMPVAE_ISA
}  // namespace compvae
