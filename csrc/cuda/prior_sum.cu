// w~ = sum_i mu[l_i] + sigma[l_i] eps_i, drawn part by part or at once, and its gradient to the tables.
#include "multiset.h"

namespace compvae {
namespace gpu {
namespace {

__device__ __forceinline__ void tell(Report* report, Argument which, int64_t place, int64_t value) {
    if (report) report[which] = {place + 1, value};
}

// One thread of the grid that works on a set tells of what is wrong with it.
__device__ __forceinline__ bool tells(int64_t columns) { return threadIdx.x == 0 && column_of_block(columns) == 0; }

template <int COUNT>
struct Totals {
    double v[COUNT];

    template <class F>
    __device__ __forceinline__ void visit(F f) {
#pragma unroll
        for (int i = 0; i < COUNT; ++i) f(v[i]);
    }
    __device__ __forceinline__ void join(const Totals& next) {
#pragma unroll
        for (int i = 0; i < COUNT; ++i) v[i] += next.v[i];
    }
};

struct Nothing {
    template <class F>
    __device__ void visit(F) {}
};

template <class T, Access A>
struct Draw : Call {
    static constexpr int PHASES = 1, BLOCKS = blocks_for<T>(4);
    static constexpr bool APPLIES = false, NUMBERS = false;
    template <int>
    using State = Totals<1>;
    using Kept = Nothing;

    Tables tables;
    const int64_t* labels;
    Tensor w_sum;
    Report* report;

    Draw(const Launch& launch, const Sets& s, const Tables& tables, const int64_t* labels, const Tensor& w_sum)
        : Call(launch, s), tables(tables), labels(labels), w_sum(w_sum), report(launch.report) {}

    __device__ void pad(const Place&) const {}
    template <int>
    __device__ __forceinline__ void reduce(const Place& p, Kept (&)[QUAD], int64_t begin, int64_t end, State<0> (&state)[QUAD]) const {
        const Rows<T, A> mus(tables.mu, 0, 0, p.coordinate, p.width), logvars(tables.logvar, 0, 0, p.coordinate, p.width);
        const int64_t first = sets.offsets ? p.slot.row : p.slot.set * sets.parts;
        const Noise<T> noise(sets, p);
        T sum[QUAD] = {};
        bool wrong = false;
#pragma unroll 2
        for (int64_t k = begin; k < end; ++k) {
            const int64_t label = labels[first + k];
            if (label < 0 || label >= tables.classes) {
                wrong = true;
                if (tells(columns)) tell(report, LABELS, first + k, label);
                continue;
            }
            T eps[QUAD], mu[QUAD], logvar[QUAD];
            mus.load(label, mu);
            logvars.load(label, logvar);
            noise.draw(k, eps);
#pragma unroll
            for (int j = 0; j < QUAD; ++j) sum[j] += mu[j] + exp(logvar[j] * T(0.5)) * eps[j];
        }
        for (int j = 0; j < QUAD; ++j) state[j].v[0] = wrong ? nan("") : double(sum[j]);
    }
    template <int>
    __device__ __forceinline__ void finish(const Place& p, Kept (&)[QUAD], State<0> (&state)[QUAD], double&) const {
        double w[QUAD];
        for (int j = 0; j < QUAD; ++j) w[j] = state[j].v[0];
        store_quad(w_sum, p.slot.set, 0, p.coordinate, p.width, w);
    }
};

__global__ void __launch_bounds__(THREADS) count_each(const __grid_constant__ Sets s, int64_t classes, const int64_t* labels,
                                                      int64_t* counts, Report* report) {
    const Slot slot = slot_at(s, blockIdx.x);
    if (slot.set < 0) return;
    const int64_t first = s.offsets ? slot.row : slot.set * s.parts;
    for (int64_t k = slot.begin + threadIdx.x; k < slot.end; k += blockDim.x) {
        const int64_t label = labels[first + k];
        const bool wrong = label < 0 || label >= classes;
        if (wrong) tell(report, LABELS, first + k, label);
        // whole numbers: their sum is the same in any order
        unsigned long long* count = reinterpret_cast<unsigned long long*>(counts + slot.set * classes);
        if (!wrong)
            atomicAdd(count + label, 1ull);
        else if (classes)
            atomicMax(count, 1ull << 62);  // beyond what a count may be
    }
}

// One draw from N(sum_c n_c mu_c, V = sum_c n_c sigma_c^2); the parts that are summed over are the classes.
struct CollapsedDraw : Call {
    static constexpr int PHASES = 1, BLOCKS = 1;
    static constexpr bool APPLIES = false, NUMBERS = false;
    template <int>
    using State = Totals<2>;
    using Kept = Nothing;

    Tables tables;
    const int64_t* counts;
    Tensor w_sum;
    double* slope;
    Report* report;

    CollapsedDraw(const Launch& launch, const Sets& s, const Tables& tables, const int64_t* counts, const Tensor& w_sum, double* slope)
        : Call(launch, s), tables(tables), counts(counts), w_sum(w_sum), slope(slope), report(launch.report) {}

    __device__ void pad(const Place&) const {}
    template <int>
    __device__ void reduce(const Place& p, Kept (&)[QUAD], int64_t begin, int64_t end, State<0> (&state)[QUAD]) const {
        const Rows<double, Access::any> mus(tables.mu, 0, 0, p.coordinate, p.width);
        const Rows<double, Access::any> logvars(tables.logvar, 0, 0, p.coordinate, p.width);
        for (int64_t c = begin; c < end; ++c) {
            const int64_t place = p.slot.set * sets.parts + c, count = counts[place];
            if (!count) continue;  // its tables do not matter, be they NaN
            const bool wrong = count < 0 || count > int64_t(1) << 53;
            if (wrong && tells(columns)) tell(report, COUNTS, place, count);
            const double n = wrong ? nan("") : double(count);
            double mu[QUAD], logvar[QUAD];
            mus.load(c, mu);
            logvars.load(c, logvar);
#pragma unroll
            for (int j = 0; j < QUAD; ++j) {
                state[j].v[0] += n * mu[j];
                state[j].v[1] += n * exp(logvar[j]);
            }
        }
    }
    template <int>
    __device__ void finish(const Place& p, Kept (&)[QUAD], State<0> (&state)[QUAD], double&) const {
        double eps[QUAD], w[QUAD], by_variance[QUAD];
        Noise<double>(sets, p).draw(0, eps);
        for (int j = 0; j < QUAD; ++j) {
            const double variance = state[j].v[1], deviation = ::sqrt(variance);
            w[j] = state[j].v[0] + deviation * eps[j];
            by_variance[j] = variance != 0 ? eps[j] / (2 * deviation) : 0;
        }
        store_quad(w_sum, p.slot.set, 0, p.coordinate, p.width, w);
        if (!slope) return;
        for (int j = 0; j < QUAD; ++j)
            if (j < p.width) slope[p.slot.set * sets.width + p.coordinate + j] = by_variance[j];
    }
};

// The gradient of one class: the sum over its members, in their order. The sets of this call are the classes.
template <class T, Access A>
struct TableGradient : Call {
    static constexpr int PHASES = 1, BLOCKS = blocks_for<T>(4);
    static constexpr bool APPLIES = false, NUMBERS = false;
    template <int>
    using State = Totals<2>;
    using Kept = Nothing;

    Sets drawn;
    Tables tables, grad;
    Groups classes;
    Tensor grad_w;
    const double* slope;

    TableGradient(const Launch& launch, const Sets& of_classes, const Sets& drawn, const Tables& tables, const Groups& classes,
                  const Tensor& grad_w, const double* slope, const Tables& grad)
        : Call(launch, of_classes), drawn(drawn), tables(tables), grad(grad), classes(classes), grad_w(grad_w), slope(slope) {}

    __device__ void pad(const Place&) const {}
    template <int>
    __device__ __forceinline__ void reduce(const Place& p, Kept (&)[QUAD], int64_t begin, int64_t end, State<0> (&state)[QUAD]) const {
        const Rows<T, A> upstream(grad_w, 0, 0, p.coordinate, p.width);
        T to_mean[QUAD] = {}, to_spread[QUAD] = {};
        for (int64_t k = begin; k < end; ++k) {
            const int64_t member = p.slot.row + k, set = classes.members[member];
            const T n = classes.weights ? T(classes.weights[member]) : T(1);
            if (n == 0) continue;
            T g[QUAD], by_spread[QUAD];
            upstream.load(set, g);
            if (slope) {
#pragma unroll
                for (int j = 0; j < QUAD; ++j)
                    by_spread[j] = j < p.width ? T(slope[set * sets.width + p.coordinate + j]) : T(0);
            } else {
                const uint64_t part = drawn.start(set) + uint64_t(classes.parts[member]);
                normals_of_call<T>(drawn.seed(set), drawn.index(set), part, uint32_t(p.coordinate >> 2), by_spread);
            }
#pragma unroll
            for (int j = 0; j < QUAD; ++j) {
                to_mean[j] += n * g[j];
                to_spread[j] += n * g[j] * by_spread[j];
            }
        }
        for (int j = 0; j < QUAD; ++j) state[j] = {{double(to_mean[j]), double(to_spread[j])}};
    }
    template <int>
    __device__ __forceinline__ void finish(const Place& p, Kept (&)[QUAD], State<0> (&state)[QUAD], double&) const {
        double to_mean[QUAD], to_spread[QUAD], logvar[QUAD] = {};
        if (p.slot.size) load_quad(tables.logvar, 0, p.slot.set, p.coordinate, p.width, logvar);  // else they do not matter
        for (int j = 0; j < QUAD; ++j) {
            to_mean[j] = state[j].v[0];
            to_spread[j] = state[j].v[1] == 0 && slope ? 0 : state[j].v[1] * (slope ? exp(logvar[j]) : 0.5 * exp(0.5 * logvar[j]));
        }
        store_quad(grad.mu, 0, p.slot.set, p.coordinate, p.width, to_mean);
        store_quad(grad.logvar, 0, p.slot.set, p.coordinate, p.width, to_spread);
    }
};

}  // namespace

Status prior_sum_forward(const Launch& launch, const Sets& s, const Tables& tables, const int64_t* labels, const Tensor& w_sum,
                         bool float64) {
    const Tensor* tensors[] = {&tables.mu, &tables.logvar};
    return by_access(float64, tensors, s.width, [&](auto zero, auto access) {
        return run(launch, Draw<decltype(zero), decltype(access)::value>(launch, s, tables, labels, w_sum));
    });
}

Status count_labels(const Launch& launch, const Sets& s, int64_t classes, const int64_t* labels, int64_t* counts) {
    return queue(launch, count_each, slot_count(s), 1, THREADS, s, classes, labels, counts, launch.report);
}

Status prior_sum_collapsed_forward(const Launch& launch, const Sets& s, const Tables& tables, const int64_t* counts,
                                   const Tensor& w_sum, double* slope) {
    return run(launch, CollapsedDraw(launch, s, tables, counts, w_sum, slope));
}

Status prior_sum_backward(const Launch& launch, const Sets& s, const Tables& tables, const Groups& classes,
                          const Tensor& grad_w, const double* slope, const Tables& grad, bool float64) {
    Sets of_classes;
    of_classes.count = tables.classes;
    of_classes.parts = classes.total;
    of_classes.width = s.width;
    of_classes.offsets = classes.offsets;
    // a row of grad_w is read for each member: the set's number takes the place of the part's
    Tensor upstream = grad_w;
    upstream.stride_part = grad_w.stride_set;
    const Tensor* tensors[] = {&upstream};
    return by_access(float64, tensors, s.width, [&](auto zero, auto access) {
        return run(launch, TableGradient<decltype(zero), decltype(access)::value>(launch, of_classes, s, tables, classes, upstream,
                                                                                 slope, grad));
    });
}

}  // namespace gpu
}  // namespace compvae
