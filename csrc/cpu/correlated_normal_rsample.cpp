#include "part_noise.h"

namespace compvae {
namespace COMPVAE_ISA {
namespace {

constexpr double LOG_2_PI = 1.8378770664093454836;

template <class T, Coupling C, bool DENSITY>
class Sample {
    using V = typename Simd<T>::V;
    using S = Stats<C, false, true>;

  public:
    double run(const Sets& sets, const Place& place, const Posterior& in, const Tensor& w, T* stats) {
        double density = 0;
        sums_.run(sets, place, in);
        sums_.finish(place.width, stats_, nullptr, &density);
        if (stats) write_stats(stats, S::COUNT, sets, place, stats_);
        write(sets, place, in, w, sets.size(place.set) > CHUNK);
        return density - 0.5 * LOG_2_PI * double(sets.size(place.set)) * place.width;
    }

    // A shard's sums, and its parts given the joint stats.
    void shard_sums(const Sets& sets, const Place& place, const Posterior& in, double* state) {
        sums_.run(sets, place, in);
        sums_.write_state(sets, place, state);
    }
    void shard_sample(const Sets& sets, const Place& place, const Posterior& in, const Tensor& w, const T* stats) {
        read_stats(stats, S::COUNT, sets, place, stats_);
        sums_.noise.prepare(sets, place);
        write(sets, place, in, w, true);
    }

  private:
    SetSums<T, C, false, true, false, DENSITY> sums_;
    Rows<T> mu_;
    Results<T> out_;
    alignas(64) T stats_[S::COUNT][BLOCK];

    void write(const Sets& sets, const Place& place, const Posterior& in, const Tensor& w, bool staged) {
        const int64_t size = sets.size(place.set), row = sets.row(place.set);
        for (int64_t part = 0; part < size; part += CHUNK) {
            const int n = int(size - part < CHUNK ? size - part : CHUNK);
            if (staged) {  // else they are still there from the first pass
                sums_.logvar_q.stage(in.logvar_q, place.set, row + part, n, place.coordinate, place.width);
                sums_.rho_logits.stage(in.rho_logits, place.set, row + part, n, place.coordinate, place.width);
                sums_.noise.draw(part, n);
            }
            mu_.stage(in.mu_q, place.set, row + part, n, place.coordinate, place.width, next_of(sets, place, n, size));
            out_.stage(w, place.set, row + part, n, place.coordinate, place.width, is_streamed<T>(sets));
            for (int column = 0; column < place.width; column += Simd<T>::N) {
                const PartColumn<T, C> set(stats_, column);
                const auto draw = [&](int k, V rho, V sigma) {
                    mu_.prefetch(k, column);
                    const V noise = set.of_part(rho, sigma, load<V>(sums_.noise[k] + column));
                    out_.put(k, column, load<V>(mu_[k] + column) + noise);
                };
                if (staged)
                    for (int k = 0; k < n; ++k)
                        draw(k, set.rho(load<V>(sums_.rho_logits[k] + column)),
                             exp(load<V>(sums_.logvar_q[k] + column) * T(0.5)));
                else
                    for (int k = 0; k < n; ++k)
                        draw(k, set.rho_of_power(sums_.power_of(k, column)), sums_.sigma_of(k, column));
            }
            out_.finish(w, place.set, row + part, n, place.coordinate, place.width);
        }
        zero_padding(sets, place, w);
    }
};

template <class T, Coupling C, bool DENSITY>
void sample(const Sets& sets, const Posterior& in, const Tensor& w, const Tensor& log_density, T* stats,
            double* scratch) {
    using Worker = Sample<T, C, DENSITY>;
    for_each_place<Worker>(sets, [&](Worker& worker, const Place& place, int64_t index) {
        scratch[index] = worker.run(sets, place, in, w, stats);
    });
    if (DENSITY) join_blocks(sets, scratch, log_density);
}

template <class T, Coupling C>
class SampleGradient {
    using V = typename Simd<T>::V;
    using S = Stats<C, false, true>;
    static constexpr int N = Simd<T>::N;
    static constexpr bool unit = C == Coupling::unit;

  public:
    void run(const Sets& sets, const Place& place, const Posterior& in, const Tensor& grad_w,
             const Tensor& grad_log_density, const T* stats, const Posterior& grad) {
        prepare(sets, place, stats);
        reduce(sets, place, in, grad_w);
        write(sets, place, in, grad_w, grad_log_density, grad, sets.size(place.set) > CHUNK);
    }

    // A shard's share of the centre of the upstream gradients, and its gradients given the joint one.
    void shard_centre(const Sets& sets, const Place& place, const Posterior& in, const Tensor& grad_w, const T* stats,
                      double* centre) {
        prepare(sets, place, stats);
        reduce(sets, place, in, grad_w);
        centred_.write(sets, place, centre);
    }
    void shard_gradient(const Sets& sets, const Place& place, const Posterior& in, const Tensor& grad_w,
                        const Tensor& grad_log_density, const T* stats, const double* centre, const Posterior& grad) {
        prepare(sets, place, stats);
        centred_.read(sets, place, centre);
        write(sets, place, in, grad_w, grad_log_density, grad, true);
    }

  private:
    Rows<T> logvar_, logits_, upstream_;
    Results<T> out_[3];
    NoiseRows<T> noise_;
    Centred<T> centred_;
    alignas(64) T stats_[S::COUNT][BLOCK], rhos_[CHUNK * BLOCK];  // of the last chunk
    T g_density_ = 0;

    void prepare(const Sets& sets, const Place& place, const T* stats) {
        read_stats(stats, S::COUNT, sets, place, stats_);
        noise_.prepare(sets, place);
        centred_.clear();
    }
    void reduce(const Sets& sets, const Place& place, const Posterior& in, const Tensor& grad_w) {
        const int64_t size = sets.size(place.set), row = sets.row(place.set);
        for (int64_t part = 0; part < size; part += CHUNK) {
            const int n = stage(sets, place, in, grad_w, row, part, size);
            for (int column = 0; column < place.width; column += N) reduce(column, n, part == 0);
        }
    }
    void write(const Sets& sets, const Place& place, const Posterior& in, const Tensor& grad_w,
               const Tensor& grad_log_density, const Posterior& grad, bool staged) {
        const int64_t size = sets.size(place.set), row = sets.row(place.set);
        g_density_ = read_value<T>(grad_log_density, place.set);
        const Tensor* outputs[] = {&grad.mu_q, &grad.logvar_q, &grad.rho_logits};
        for (int64_t part = 0; part < size; part += CHUNK) {
            const int n = int(size - part < CHUNK ? size - part : CHUNK);
            if (staged) stage(sets, place, in, grad_w, row, part, size);
            noise_.draw(part, n);
            for (int i = 0; i < 3; ++i)
                out_[i].stage(*outputs[i], place.set, row + part, n, place.coordinate, place.width, is_streamed<T>(sets));
            for (int column = 0; column < place.width; column += N) write(column, n, !staged);
            for (int i = 0; i < 3; ++i)
                out_[i].finish(*outputs[i], place.set, row + part, n, place.coordinate, place.width);
        }
        for (const Tensor* t : outputs) zero_padding(sets, place, *t);
    }
    int stage(const Sets& sets, const Place& place, const Posterior& in, const Tensor& grad_w, int64_t row, int64_t part,
              int64_t size) {
        const int n = int(size - part < CHUNK ? size - part : CHUNK);
        const Next next = next_of(sets, place, n, size);
        logvar_.stage(in.logvar_q, place.set, row + part, n, place.coordinate, place.width, next);
        logits_.stage(in.rho_logits, place.set, row + part, n, place.coordinate, place.width, next);
        upstream_.stage(grad_w, place.set, row + part, n, place.coordinate, place.width, next);
        return n;
    }
    V sigma(int k, int column) const { return exp(load<V>(logvar_[k] + column) * T(0.5)); }
    V weighted(int k, int column, V sigma) const {
        const V g = load<V>(upstream_[k] + column);
        return unit ? rounded(g * sigma) : g;
    }
    void reduce(int column, int n, bool first) {
        const PartColumn<T, C> set(stats_, column);
        V rho[CHUNK], a[CHUNK];
        for (int k = 0; k < n; ++k) {
            logvar_.prefetch(k, column);
            logits_.prefetch(k, column);
            upstream_.prefetch(k, column);
            rho[k] = set.rho(load<V>(logits_[k] + column));
            store(rhos_ + k * BLOCK + column, rho[k]);
            a[k] = weighted(k, column, unit ? sigma(k, column) : V{});
        }
        centred_.add(column, n, first, rho, a);
    }
    void write(int column, int n, bool has_rhos) {
        const PartColumn<T, C> set(stats_, column);
        const V reference = centred_.reference(column), offset = centred_.offset(column, set.rest_of_rho);
        for (int k = 0; k < n; ++k) {
            const V g = load<V>(upstream_[k] + column), s = sigma(k, column), eps = load<V>(noise_[k] + column);
            const V rho = has_rhos ? load<V>(rhos_ + k * BLOCK + column) : set.rho(load<V>(logits_[k] + column));
            const V centred = (weighted(k, column, s) - reference) + offset;
            const V to_logvar = unit ? g * set.of_part(rho, s, eps) : s * eps * centred;
            out_[0].put(k, column, g);
            out_[1].put(k, column, T(0.5) * (to_logvar - g_density_));
            out_[2].put(k, column, rho * (g_density_ - set.noise * centred));
        }
    }
};

}  // namespace

void correlated_normal_rsample_forward(const Sets& sets, const Posterior& in, const Tensor& w,
                                       const Tensor& log_density, void* stats, double* scratch, Options options) {
    by_type_and_coupling(options, [&](auto zero, auto coupling) {
        using T = decltype(zero);
        constexpr Coupling C = decltype(coupling)::value;
        if (log_density.data)
            sample<T, C, true>(sets, in, w, log_density, static_cast<T*>(stats), scratch);
        else
            sample<T, C, false>(sets, in, w, log_density, static_cast<T*>(stats), scratch);
    });
}

void correlated_normal_rsample_backward(const Sets& sets, const Posterior& in, const Tensor& grad_w,
                                        const Tensor& grad_log_density, const void* stats, const Posterior& grad,
                                        Options options) {
    by_type_and_coupling(options, [&](auto zero, auto coupling) {
        using T = decltype(zero);
        using Worker = SampleGradient<T, decltype(coupling)::value>;
        for_each_place<Worker>(sets, [&](Worker& worker, const Place& place, int64_t) {
            worker.run(sets, place, in, grad_w, grad_log_density, static_cast<const T*>(stats), grad);
        });
    });
}

void correlated_normal_rsample_shard_sums(const Sets& sets, const Posterior& in, double* state, bool density,
                                          Options options) {
    by_type_and_coupling(options, [&](auto zero, auto coupling) {
        const auto run = [&](auto of_density) {
            using Worker = Sample<decltype(zero), decltype(coupling)::value, decltype(of_density)::value>;
            for_each_place<Worker>(
                sets, [&](Worker& worker, const Place& place, int64_t) { worker.shard_sums(sets, place, in, state); });
        };
        density ? run(std::true_type()) : run(std::false_type());
    });
}

void correlated_normal_rsample_shard_sample(const Sets& sets, const Posterior& in, const Tensor& w, const void* stats,
                                            Options options) {
    by_type_and_coupling(options, [&](auto zero, auto coupling) {
        using T = decltype(zero);
        using Worker = Sample<T, decltype(coupling)::value, false>;
        for_each_place<Worker>(sets, [&](Worker& worker, const Place& place, int64_t) {
            worker.shard_sample(sets, place, in, w, static_cast<const T*>(stats));
        });
    });
}

void correlated_normal_rsample_shard_centre(const Sets& sets, const Posterior& in, const Tensor& grad_w,
                                            const void* stats, double* centre, Options options) {
    by_type_and_coupling(options, [&](auto zero, auto coupling) {
        using T = decltype(zero);
        using Worker = SampleGradient<T, decltype(coupling)::value>;
        for_each_place<Worker>(sets, [&](Worker& worker, const Place& place, int64_t) {
            worker.shard_centre(sets, place, in, grad_w, static_cast<const T*>(stats), centre);
        });
    });
}

void correlated_normal_rsample_shard_backward(const Sets& sets, const Posterior& in, const Tensor& grad_w,
                                              const Tensor& grad_log_density, const void* stats, const double* centre,
                                              const Posterior& grad, Options options) {
    by_type_and_coupling(options, [&](auto zero, auto coupling) {
        using T = decltype(zero);
        using Worker = SampleGradient<T, decltype(coupling)::value>;
        for_each_place<Worker>(sets, [&](Worker& worker, const Place& place, int64_t) {
            worker.shard_gradient(sets, place, in, grad_w, grad_log_density, static_cast<const T*>(stats), centre, grad);
        });
    });
}

}  // namespace COMPVAE_ISA
}  // namespace compvae
