#include "part_noise.h"

namespace compvae {
namespace COMPVAE_ISA {
namespace {

constexpr double LOG_2_PI = 1.8378770664093454836;

template <class T, Coupling C, bool DENSITY, class E = T>
class Sample {
    using V = typename Simd<T>::V;
    using S = Stats<C, false, true>;

  public:
    // Neighbouring blocks of a set; some of them go through its chunks together. Log q of each, or 0.
    void run(const Sets& sets, const Place* places, int count, const Posterior& in, const Tensor& w, T* stats,
             double* densities) {
        const int together = Kept<T, Sums::KEPT>::together(sets.size(places->set), count);
        for (int first = 0; first < count; first += together) {
            const int n = count - first < together ? count - first : together;
            run_together(sets, places + first, n, in, w, stats, densities + first);
        }
    }

    // A shard's sums, and its parts given the joint stats.
    void shard_sums(const Sets& sets, const Place& place, const Posterior& in, double* state) {
        sums_->run(sets, place, in, chunk_);
        sums_->write_state(sets, place, state);
    }
    void shard_sample(const Sets& sets, const Place& place, const Posterior& in, const Tensor& w, const T* stats) {
        read_stats(stats, S::COUNT, sets, place, *stats_);
        write_all(sets, &place, 1, in, w);
    }

  private:
    using Sums = SetSums<T, C, false, true, false, DENSITY, E>;
    Sums sums_[ABREAST];
    typename Sums::Chunk chunk_;
    Rows<T, E> mu_;
    Results<T> out_;
    alignas(64) T stats_[ABREAST][S::COUNT][BLOCK];

    void run_together(const Sets& sets, const Place* places, int count, const Posterior& in, const Tensor& w, T* stats,
                      double* densities) {
        Sums::run_abreast(sums_, sets, places, count, in, chunk_);
        for (int b = 0; b < count; ++b) {
            double density = 0;
            sums_[b].finish(places[b].width, stats_[b], nullptr, &density);
            if (stats) write_stats(stats, S::COUNT, sets, places[b], stats_[b]);
            densities[b] = density - 0.5 * LOG_2_PI * double(sets.size(places->set)) * places[b].width;
        }
        write_all(sets, places, count, in, w);
    }
    void write_all(const Sets& sets, const Place* places, int count, const Posterior& in, const Tensor& w) {
        const int64_t size = sets.size(places->set);
        for (int64_t part = 0; part < size; part += CHUNK)
            for (int b = 0; b < count; ++b) {
                const int n = int(size - part < CHUNK ? size - part : CHUNK);
                const Next next = next_of(sets, places[b], part, n, places->coordinate, places[count - 1].coordinate + 1);
                const bool is_there = chunk_.recall(b, part);
                if (!is_there) stage(sets, places[b], in, part, n, next);
                write(sets, places[b], in, w, stats_[b], part, next, is_there);
            }
        for (int b = 0; b < count; ++b) zero_padding(sets, places[b], w);
    }
    void stage(const Sets& sets, const Place& place, const Posterior& in, int64_t part, int n, Next next) {
        const int64_t row = sets.row(place.set) + part;
        chunk_.logvar_q.stage(in.logvar_q, place.set, row, n, place.coordinate, place.width, next);
        chunk_.rho_logits.stage(in.rho_logits, place.set, row, n, place.coordinate, place.width, next);
        chunk_.noise.prepare(sets, place);
        chunk_.noise.draw(part, n, [](int) {}, chunk_.kept.rows(Sums::NOISES, 0, part));
    }
    // A chunk's parts, whose noise and rows or, where they are there from the first pass, factors are in place.
    void write(const Sets& sets, const Place& place, const Posterior& in, const Tensor& w, const T (*stats)[BLOCK],
               int64_t part, Next next, bool has_factors) {
        const int64_t left = sets.size(place.set) - part, row = sets.row(place.set) + part;
        const int n = int(left < CHUNK ? left : CHUNK);
        mu_.stage(in.mu_q, place.set, row, n, place.coordinate, place.width, next);
        out_.stage(w, place.set, row, n, place.coordinate, place.width, is_streamed<T>(sets, w));
        for (int column = 0; column < place.width; column += Simd<T>::N) {
            const PartColumn<T, C> set(stats, column);
            const auto draw = [&](int k, V rho, V sigma) COMPVAE_INLINE_LAMBDA {
                mu_.prefetch(k, column, 1);
                const V noise = set.of_part(rho, sigma, load<V>(chunk_.noise[k] + column));
                out_.put(k, column, mu_.at(k, column) + noise);
            };
            if (has_factors) {
                const PartFactors<T> factors = chunk_.factors;
                const PartColumn<T, C> by_chunk = part || left > n ? set.by(factors.reference(column)) : set;
                for (int k = 0; k < n; ++k) draw(k, by_chunk.rho_of_power(factors.power(k, column)), factors.sigma(k, column));
            } else {
                for (int k = 0; k < n; ++k) {
                    chunk_.logvar_q.prefetch(k, column, 2);
                    chunk_.rho_logits.prefetch(k, column);
                    draw(k, set.rho(chunk_.rho_logits.at(k, column)), exp(chunk_.logvar_q.at(k, column) * T(0.5)));
                }
            }
        }
        out_.finish(w, place.set, row, n, place.coordinate, place.width);
    }
};

template <class T, Coupling C, bool DENSITY, class E>
void sample(const Sets& sets, const Posterior& in, const Tensor& w, const Tensor& log_density, T* stats,
            double* scratch) {
    using Worker = Sample<T, C, DENSITY, E>;
    for_each_run<Worker>(sets, [&](Worker& worker, const Place* places, int count, int64_t index) {
        worker.run(sets, places, count, in, w, stats, scratch + index);
    });
    if (DENSITY) join_blocks(sets, scratch, log_density);
}

template <class T, Coupling C, class E = T>
class SampleGradient {
    using V = typename Simd<T>::V;
    using S = Stats<C, false, true>;
    static constexpr int N = Simd<T>::N;
    static constexpr bool unit = C == Coupling::unit;

  public:
    // Neighbouring blocks of a set; those of a set of several chunks go through them together.
    void run(const Sets& sets, const Place* places, int count, const Posterior& in, const Tensor& grad_w,
             const Tensor& grad_log_density, const T* stats, const Posterior& grad) {
        const int together = Kept<T, KEPT>::together(sets.size(places->set), count);
        for (int first = 0; first < count; first += together) {
            const int n = count - first < together ? count - first : together;
            kept_.begin(sets.size(places->set), n);
            reduce_all(sets, places + first, n, in, grad_w, stats);
            for (int b = 0; b < n; ++b) blocks_[b].centred.settle();
            write_all(sets, places + first, n, in, grad_w, grad_log_density, grad, kept_.keeps());
        }
    }

    // A shard's share of the centre of the upstream gradients, and its gradients given the joint one.
    void shard_centre(const Sets& sets, const Place& place, const Posterior& in, const Tensor& grad_w, const T* stats,
                      double* centre) {
        kept_.begin(sets.size(place.set), 1);
        reduce_all(sets, &place, 1, in, grad_w, stats);
        blocks_->centred.write(sets, place, centre);
    }
    void shard_gradient(const Sets& sets, const Place& place, const Posterior& in, const Tensor& grad_w,
                        const Tensor& grad_log_density, const T* stats, const double* centre, const Posterior& grad) {
        read_stats(stats, S::COUNT, sets, place, blocks_->stats);
        blocks_->centred.clear();
        blocks_->centred.read(sets, place, centre);
        write_all(sets, &place, 1, in, grad_w, grad_log_density, grad, false);
    }

  private:
    struct Block {
        alignas(64) T stats[S::COUNT][BLOCK];
        Centred<T> centred;
    };
    Rows<T, E> logvar_, logits_, upstream_;
    Results<T> out_[3];
    NoiseRows<T> noise_;
    Block blocks_[ABREAST];
    enum { RHO, SIGMA, KEPT = unit ? 2 : 1 };
    Kept<T, KEPT> kept_;
    T g_density_ = 0;

    void reduce_all(const Sets& sets, const Place* places, int count, const Posterior& in, const Tensor& grad_w,
                    const T* stats) {
        for (int b = 0; b < count; ++b) {
            read_stats(stats, S::COUNT, sets, places[b], blocks_[b].stats);
            blocks_[b].centred.clear();
        }
        const int64_t size = sets.size(places->set);
        for (int64_t part = 0; part < size; part += CHUNK)
            for (int b = 0; b < count; ++b) {
                const int n = stage(sets, places, count, b, in, grad_w, part);
                for (int column = 0; column < places[b].width; column += N) reduce(blocks_[b], column, n, b, part);
            }
    }
    void write_all(const Sets& sets, const Place* places, int count, const Posterior& in, const Tensor& grad_w,
                   const Tensor& grad_log_density, const Posterior& grad, bool has_kept) {
        const int64_t size = sets.size(places->set);
        g_density_ = read_value<T>(grad_log_density, places->set);
        const Tensor* outputs[] = {&grad.mu_q, &grad.logvar_q, &grad.rho_logits};
        const bool streamed = is_streamed<T>(sets, outputs);
        for (int64_t part = 0; part < size; part += CHUNK)
            for (int b = 0; b < count; ++b) {
                const Place& place = places[b];
                const int64_t row = sets.row(place.set) + part;
                const int n = size > CHUNK || !has_kept ? stage(sets, places, count, b, in, grad_w, part) : int(size);
                noise_.prepare(sets, place);
                noise_.draw(part, n);
                for (int i = 0; i < 3; ++i)
                    out_[i].stage(*outputs[i], place.set, row, n, place.coordinate, place.width, streamed);
                for (int column = 0; column < place.width; column += N) {
                    if (has_kept)
                        write<true>(blocks_[b], column, n, b, part);
                    else
                        write<false>(blocks_[b], column, n, b, part);
                }
                for (int i = 0; i < 3; ++i) out_[i].finish(*outputs[i], place.set, row, n, place.coordinate, place.width);
            }
        for (int b = 0; b < count; ++b)
            for (const Tensor* t : outputs) zero_padding(sets, places[b], *t);
    }
    // Block b's rows of the chunk that begins at `part`; how many there are.
    int stage(const Sets& sets, const Place* places, int count, int b, const Posterior& in, const Tensor& grad_w,
              int64_t part) {
        const Place& place = places[b];
        const int64_t size = sets.size(place.set), row = sets.row(place.set) + part;
        const int n = int(size - part < CHUNK ? size - part : CHUNK);
        const Next next = next_of(sets, place, part, n, places->coordinate, places[count - 1].coordinate + 1);
        logvar_.stage(in.logvar_q, place.set, row, n, place.coordinate, place.width, next);
        logits_.stage(in.rho_logits, place.set, row, n, place.coordinate, place.width, next);
        upstream_.stage(grad_w, place.set, row, n, place.coordinate, place.width, next);
        return n;
    }
    V sigma(int k, int column) const { return exp(logvar_.at(k, column) * T(0.5)); }
    V weighted(int k, int column, V sigma) const {
        const V g = upstream_.at(k, column);
        return unit ? rounded(g * sigma) : g;
    }
    void reduce(Block& block, int column, int n, int b, int64_t part) {
        const PartColumn<T, C> set(block.stats, column);
        V rho[CHUNK], a[CHUNK];
        T *rhos = kept_.rows(RHO, b, part), *sigmas = kept_.rows(unit ? SIGMA : RHO, b, part);
        for (int k = 0; k < n; ++k) {
            logvar_.prefetch(k, column);
            logits_.prefetch(k, column, 1);
            upstream_.prefetch(k, column, 2);
            rho[k] = set.rho(logits_.at(k, column));
            store(rhos + k * BLOCK + column, rho[k]);
            const V s = unit ? sigma(k, column) : V{};
            if (unit) store(sigmas + k * BLOCK + column, s);
            a[k] = weighted(k, column, s);
        }
        block.centred.add(column, n, rho, a);
    }
    template <bool HAS_KEPT>
    void write(const Block& block, int column, int n, int b, int64_t part) {
        const T *rhos = kept_.rows(RHO, b, part), *sigmas = kept_.rows(unit ? SIGMA : RHO, b, part);
        const PartColumn<T, C> set(block.stats, column);
        const V reference = block.centred.reference(column), offset = block.centred.offset(column, set.rest_of_rho);
        for (int k = 0; k < n; ++k) {
            const V g = upstream_.at(k, column), eps = load<V>(noise_[k] + column);
            const V s = HAS_KEPT && unit ? load<V>(sigmas + k * BLOCK + column) : sigma(k, column);
            const V rho = HAS_KEPT ? load<V>(rhos + k * BLOCK + column) : set.rho(logits_.at(k, column));
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
    by_inputs(options, {&in.mu_q, &in.logvar_q, &in.rho_logits}, [&](auto zero, auto coupling, auto element) {
        using T = decltype(zero);
        using E = decltype(element);
        constexpr Coupling C = decltype(coupling)::value;
        if (log_density.data)
            sample<T, C, true, E>(sets, in, w, log_density, static_cast<T*>(stats), scratch);
        else
            sample<T, C, false, E>(sets, in, w, log_density, static_cast<T*>(stats), scratch);
    });
}

void correlated_normal_rsample_backward(const Sets& sets, const Posterior& in, const Tensor& grad_w,
                                        const Tensor& grad_log_density, const void* stats, const Posterior& grad,
                                        Options options) {
    by_inputs(options, {&in.logvar_q, &in.rho_logits, &grad_w}, [&](auto zero, auto coupling, auto element) {
        using T = decltype(zero);
        using Worker = SampleGradient<T, decltype(coupling)::value, decltype(element)>;
        for_each_run<Worker>(sets, [&](Worker& worker, const Place* places, int count, int64_t) {
            worker.run(sets, places, count, in, grad_w, grad_log_density, static_cast<const T*>(stats), grad);
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
