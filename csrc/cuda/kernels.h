// The operations on a CUDA device. Every function queues its kernels on the caller's stream of the current device,
// waits for nothing, and returns cudaSuccess or what went wrong. All pointers are the device's. A Tensor without data
// is an output that nobody wants or an input that is absent. `stats` is what the forward pass leaves for the backward
// pass. The same inputs give the same bits, whatever else is in the batch: no atomics on floating-point numbers.
#pragma once
#include <cuda_runtime.h>

#include "../common/arguments.h"

namespace compvae {
namespace gpu {

// What a call found wrong with its index tensors: for each of them 0 or 1 + the place of a wrong value, and that value.
enum Argument { OFFSETS, LENGTHS, SET_INDEX, PART_START, LABELS, COUNTS, ARGUMENTS };
struct alignas(16) Report {
    int64_t place, value;
};

struct Launch {
    cudaStream_t stream = nullptr;
    double* scratch = nullptr;  // scratch_size(sets) numbers
    Report* report = nullptr;   // [ARGUMENTS], where the host can read them too; null: nobody asks
};

// How many float64 numbers of working memory an operation on these sets needs: O(B D).
int64_t scratch_size(const Sets& sets);

using Status = cudaError_t;

// Rows [count][B][D] of what shards of sets add to joint sums; compvae_fast/reference/shards.py names them.
struct ShardRows {
    double* data = nullptr;
    int count = 0;
};

Status posterior_sum_and_kl_forward(const Launch&, const Sets&, const Posterior& in, const Tensor& w_sum,
                                    const Tensor& kl, void* stats, Options);
Status posterior_sum_and_kl_backward(const Launch&, const Sets&, const Posterior& in, const Tensor& grad_w,
                                     const Tensor& grad_kl, const void* stats, const Posterior& grad, Options);
Status multiset_kl_forward(const Launch&, const Sets&, const Posterior& in, const Tensor& kl, void* stats, Options);
Status multiset_kl_backward(const Launch&, const Sets&, const Posterior& in, const Tensor& grad_kl, const void* stats,
                            const Posterior& grad, Options);
Status correlated_normal_rsample_forward(const Launch&, const Sets&, const Posterior& in, const Tensor& w,
                                         const Tensor& log_density, void* stats, Options);
Status correlated_normal_rsample_backward(const Launch&, const Sets&, const Posterior& in, const Tensor& grad_w,
                                          const Tensor& grad_log_density, const void* stats, const Posterior& grad,
                                          Options);
Status correlated_normal_log_prob_forward(const Launch&, const Sets&, const Tensor& w, const Posterior& in,
                                          const Tensor& density, void* stats, Options);
Status correlated_normal_log_prob_backward(const Launch&, const Sets&, const Tensor& w, const Posterior& in,
                                           const Tensor& grad, const void* stats, const Tensor& grad_w,
                                           const Posterior& out, Options);
Status posterior_sum_and_log_ratio_forward(const Launch&, const Sets&, const Posterior& in, const Tensor& w_sum,
                                           const Tensor& ratio, void* stats, Options);
Status posterior_sum_and_log_ratio_backward(const Launch&, const Sets&, const Posterior& in, const Tensor& grad_w,
                                            const Tensor& grad_ratio, const void* stats, const Posterior& grad,
                                            bool path, Options);

// Shards: what they add to the joint sums, and their parts, given the joint stats. whole_sizes of the sets are those of
// all shards together; the backward functions above then serve shards too, but for that of draws.
Status posterior_shard_forward(const Launch&, const Sets&, const Posterior& in, const ShardRows& state, Options);
Status correlated_normal_rsample_shard_sums(const Launch&, const Sets&, const Posterior& in, const ShardRows& state,
                                            Options);
Status correlated_normal_rsample_shard_sample(const Launch&, const Sets&, const Posterior& in, const Tensor& w,
                                              const void* stats, Options);
Status correlated_normal_rsample_shard_centre(const Launch&, const Sets&, const Posterior& in, const Tensor& grad_w,
                                              const void* stats, const ShardRows& centre, Options);
Status correlated_normal_rsample_shard_backward(const Launch&, const Sets&, const Posterior& in, const Tensor& grad_w,
                                                const Tensor& grad_log_density, const void* stats,
                                                const double* centre, const Posterior& grad, Options);
Status correlated_normal_log_prob_shard_sums(const Launch&, const Sets&, const Tensor& w, const Posterior& in,
                                             const ShardRows& sums, Options);
Status correlated_normal_log_prob_shard_squares(const Launch&, const Sets&, const Tensor& w, const Posterior& in,
                                                const void* stats, const ShardRows& sums, Options);

Status sum_minus_self_forward(const Launch&, const Sets&, const Tensor& h, const Tensor& out, Aggregate, bool float64);
Status sum_minus_self_backward(const Launch&, const Sets&, const Tensor& h, const Tensor& grad_out,
                               const Tensor& grad_h, Aggregate, bool float64);
Status product_of_experts_forward(const Launch&, const Sets&, const Experts& in, const Tensor& mean,
                                  const Tensor& logvar, void* stats, bool float64);
Status product_of_experts_backward(const Launch&, const Sets&, const Experts& in, const Tensor& grad_mean,
                                   const Tensor& grad_logvar, const void* stats, const Tensor& to_mu,
                                   const Tensor& to_logvar, bool float64);

// labels [B, K] or [N]; one outside [0, classes) is not followed, makes its set NaN and is reported.
Status prior_sum_forward(const Launch&, const Sets&, const Tables&, const int64_t* labels, const Tensor& w_sum,
                         bool float64);
// Adds to counts [B, C] how many parts of each class each set has; a label outside [0, classes) is reported
// and leaves its set a count that is none.
Status count_labels(const Launch&, const Sets&, int64_t classes, const int64_t* labels, int64_t* counts);
// The parts of these sets are the classes. counts [B, C]; slope [B, D] or null: d w~ / d variance. A count outside [0, 2^53] makes its set NaN
// and is reported.
Status prior_sum_collapsed_forward(const Launch&, const Sets&, const Tables&, const int64_t* counts,
                                   const Tensor& w_sum, double* slope);
// classes: what each class is summed over, in the order of its members.
Status prior_sum_backward(const Launch&, const Sets& sets, const Tables&, const Groups& classes, const Tensor& grad_w,
                          const double* slope, const Tables& grad, bool float64);

#define COMPVAE_DECLARE_SUM_OF_TERMS(operation)                                                                        \
    Status operation##_forward(const Launch&, const Sets&, const Tensor* in, const Tensor& out, bool float64);         \
    Status operation##_backward(const Launch&, const Sets&, const Tensor* in, const Tensor& grad_out,                  \
                                const Tensor* grad, bool float64);
COMPVAE_DECLARE_SUM_OF_TERMS(diag_normal_kl)
COMPVAE_DECLARE_SUM_OF_TERMS(gaussian_nll)
COMPVAE_DECLARE_SUM_OF_TERMS(discretized_logistic_nll)
#undef COMPVAE_DECLARE_SUM_OF_TERMS

// counters [count, 4] and keys [count, 2] hold words in int64, as does out [count, 4].
Status philox(const Launch&, int64_t count, const int64_t* counters, const int64_t* keys, int64_t* out);
// seed [1]; sets, parts, coordinates, out [count]
Status normal(const Launch&, const int64_t* seed, int64_t count, const int64_t* sets, const int64_t* parts,
              const int64_t* coordinates, float* out);
Status uniform(const Launch&, const int64_t* seed, int64_t count, const int64_t* sets, const int64_t* parts,
               const int64_t* coordinates, float* out);

// Looks at the values of offsets, lengths, set_index and part_start, fills what a set with a wrong one has in `outputs`
// with NaN (whole tensors of parts where offsets are wrong), and tells launch.report.
struct Output {
    Tensor tensor;
    int64_t width = 0;
    bool parts = false;  // a row for each part
    int64_t rows = 1;    // of each set, where it has none for parts
};
constexpr int OUTPUTS = 5;
struct Outputs {
    Output list[OUTPUTS];
};
Status check_sets(const Launch&, const Sets&, const Outputs&);

}  // namespace gpu
}  // namespace compvae
