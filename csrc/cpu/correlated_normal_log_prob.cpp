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
        square(sets, place, w, in, kept_.keeps());
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
        square(sets, place, w, in, false);
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
        const bool streamed = is_streamed<T>(sets, outputs);
        each_chunk(sets, place, w, in, row, size, true, [&](int column, int n, int64_t part) {
            if (!column)
                for (int i = 0; i < 4; ++i)
                    out_[i].stage(*outputs[i], place.set, row + part, n, place.coordinate, place.width, streamed);
            write(column, n, g);
            if (column + FEW * N >= place.width)
                for (int i = 0; i < 4; ++i)
                    out_[i].finish(*outputs[i], place.set, row + part, n, place.coordinate, place.width);
        });
        for (const Tensor* t : outputs) zero_padding(sets, place, *t);
    }

  private:
    Rows<T> w_, mu_, logvar_, logits_;
    Results<T> out_[4];
    alignas(64) double stats_[STATS][BLOCK], z_[BLOCK], squares_[BLOCK], normaliser_[BLOCK];
    enum { POWERS, INVERSES, KEPT = unit ? 2 : 1 };  // exp(nu - ref), ref that of the chunk; 1 / sigma
    Kept<double, KEPT> kept_;

    void sum(const Sets& sets, const Place& place, const Tensor& w, const Posterior& in) {
        std::memset(stats_, 0, sizeof stats_);
        std::memset(z_, 0, sizeof z_);
        kept_.begin(sets.size(place.set), 1);
        each_chunk(sets, place, w, in, sets.row(place.set), sets.size(place.set), true,
                   [&](int column, int n, int64_t part) { add(column, n, part); });
    }
    // has_kept: the exponentials are there from the sums, and where one chunk is the whole set, its rows too.
    void square(const Sets& sets, const Place& place, const Tensor& w, const Posterior& in, bool has_kept) {
        std::memset(squares_, 0, sizeof squares_);
        const int64_t size = sets.size(place.set);
        each_chunk(sets, place, w, in, sets.row(place.set), size, size > CHUNK || !has_kept,
                   [&](int column, int n, int64_t part) {
                       has_kept ? add_squares<true>(column, n, part) : add_squares<false>(column, n, part);
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
            for (int column = 0; column < place.width; column += FEW * N) f(column, n, part);
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

    void add(int column, int n, int64_t part) {
        double *powers = kept_.rows(POWERS, 0, part), *inverses = kept_.rows(unit ? INVERSES : POWERS, 0, part);
        V old[FEW], ref[FEW], z[FEW] = {}, total[FEW] = {};
        each([&](int i) COMPVAE_INLINE_LAMBDA { ref[i] = old[i] = load<V>(stats_[REF] + column + i * N); });
        for (int k = 0; k < n; ++k)
            each([&](int i) COMPVAE_INLINE_LAMBDA {
                const V nu = load_double(logits_[k] + column + i * N);
                ref[i] = select<V>(nu > ref[i], nu, ref[i]);
            });
        each([&](int i) COMPVAE_INLINE_LAMBDA {
            store(stats_[REF] + column + i * N, ref[i]);
            store(kept_.row_of_chunk(0, part) + column + i * N, ref[i]);
        });
        for (int k = 0; k < n; ++k)
            each([&](int i) COMPVAE_INLINE_LAMBDA {
                const int c = column + i * N;
                read_ahead(k, c);
                const V e = power(k, c), inverse = unit ? inverse_sigma(k, c) : V{};
                store(powers + k * BLOCK + c, e);
                if (unit) store(inverses + k * BLOCK + c, inverse);
                z[i] += e;
                total[i] += residual(k, c, inverse);
            });
        each([&](int i) COMPVAE_INLINE_LAMBDA {
            const int c = column + i * N;
            store(z_ + c, load<V>(z_ + c) * exp(old[i] - ref[i]) + z[i]);
            store(stats_[TOTAL] + c, load<V>(stats_[TOTAL] + c) + total[i]);
        });
    }
    template <bool HAS_KEPT>
    void add_squares(int column, int n, int64_t part) {
        const double *powers = kept_.rows(POWERS, 0, part), *inverses = kept_.rows(unit ? INVERSES : POWERS, 0, part);
        V squares[FEW] = {}, pull[FEW] = {}, rho_of_power[FEW];
        each([&](int i) COMPVAE_INLINE_LAMBDA {
            const int c = column + i * N;
            rho_of_power[i] = load<V>(stats_[INVERSE_Z] + c);
            if (HAS_KEPT) rho_of_power[i] *= exp(load<V>(kept_.row_of_chunk(0, part) + c) - load<V>(stats_[REF] + c));
        });
        for (int k = 0; k < n; ++k)
            each([&](int i) COMPVAE_INLINE_LAMBDA {
                const int c = column + i * N;
                const V power_of_k = HAS_KEPT ? load<V>(powers + k * BLOCK + c) : power(k, c);
                const V inverse = HAS_KEPT && unit ? load<V>(inverses + k * BLOCK + c) : inverse_sigma(k, c);
                const V rho = power_of_k * rho_of_power[i];
                const V e = eps(residual(k, c, inverse), rho, load<V>(stats_[TOTAL] + c), inverse);
                squares[i] += e * e + load_double(logvar_[k] + c);
                pull[i] += rho * e * (unit ? V{} + 1.0 : inverse);
            });
        each([&](int i) COMPVAE_INLINE_LAMBDA {
            const int c = column + i * N;
            store(squares_ + c, load<V>(squares_ + c) + squares[i]);
            store(stats_[PULL] + c, load<V>(stats_[PULL] + c) + pull[i]);
        });
    }
    COMPVAE_INLINE void put(int which, int k, int column, V gradient) const {
        out_[which].put_in_row(k, column, as_rounded<T>(gradient));
    }
    void write(int column, int n, double g) {
        for (int k = 0; k < n; ++k)
            each([&](int i) COMPVAE_INLINE_LAMBDA {
                const int c = column + i * N;
                const V pull = load<V>(stats_[PULL] + c), total = load<V>(stats_[TOTAL] + c);
                read_ahead(k, c);
                const V inverse = inverse_sigma(k, c), own = residual(k, c, inverse);
                const V rho = power(k, c) * load<V>(stats_[INVERSE_Z] + c), e = eps(own, rho, total, inverse);
                const V to_w = unit ? -(e + pull) * inverse : -(e * inverse + pull);
                const V to_logvar = unit ? own * (e + pull) - 1 : e * e - 1;
                const V to_logit = rho * (1 - e * total * (unit ? V{} + 1.0 : inverse));
                put(0, k, c, g * to_w);
                put(1, k, c, -g * to_w);
                put(2, k, c, 0.5 * g * to_logvar);
                put(3, k, c, g * to_logit);
            });
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
