// The native operations of one instruction set. Each source in this folder defines its own in the namespace
// COMPVAE_ISA; dispatch.cpp chooses a namespace at run time. `stats` is what the forward pass leaves for the backward
// pass, `scratch` float64 working memory of the size that `scratch_for` in bindings.cpp gives; both may hold anything on
// entry. A Tensor without data is an output that nobody wants or an input that is absent.
#pragma once
#include "../common/arguments.h"

namespace compvae {

// Sums over the rows of [B, M] tensors, elements.h; scratch [B * segments]
#define COMPVAE_SUM_OF_TERMS(F, operation)                                                                             \
    F(operation##_forward, (const Sets& sets, const Tensor* in, const Tensor& out, double* scratch, bool float64))     \
    F(operation##_backward,                                                                                            \
      (const Sets& sets, const Tensor* in, const Tensor& grad_out, const Tensor* grad, bool float64))

#define COMPVAE_KERNELS(F)                                                                                             \
    F(posterior_sum_and_kl_forward,                                                                                    \
      (const Sets& sets, const Posterior& in, const Tensor& w_sum, const Tensor& kl, void* stats, double* scratch,     \
       Options options))                                                                                               \
    F(posterior_sum_and_kl_backward,                                                                                   \
      (const Sets& sets, const Posterior& in, const Tensor& grad_w, const Tensor& grad_kl, const void* stats,          \
       const Posterior& grad, Options options))                                                                        \
    F(multiset_kl_forward,                                                                                             \
      (const Sets& sets, const Posterior& in, const Tensor& kl, void* stats, double* scratch, Options options))        \
    F(multiset_kl_backward, (const Sets& sets, const Posterior& in, const Tensor& grad_kl, const void* stats,          \
                             const Posterior& grad, Options options))                                                 \
    F(correlated_normal_rsample_forward,                                                                               \
      (const Sets& sets, const Posterior& in, const Tensor& w, const Tensor& log_density, void* stats,                 \
       double* scratch, Options options))                                                                              \
    F(correlated_normal_rsample_backward,                                                                              \
      (const Sets& sets, const Posterior& in, const Tensor& grad_w, const Tensor& grad_log_density, const void* stats, \
       const Posterior& grad, Options options))                                                                        \
    F(correlated_normal_log_prob_forward,                                                                              \
      (const Sets& sets, const Tensor& w, const Posterior& in, const Tensor& density, void* stats, double* scratch,    \
       Options options))                                                                                               \
    F(correlated_normal_log_prob_backward,                                                                             \
      (const Sets& sets, const Tensor& w, const Posterior& in, const Tensor& grad, const void* stats,                  \
       const Tensor& grad_w, const Posterior& out, Options options))                                                   \
    F(posterior_sum_and_log_ratio_forward,                                                                             \
      (const Sets& sets, const Posterior& in, const Tensor& w_sum, const Tensor& ratio, void* stats, double* scratch,  \
       Options options))                                                                                               \
    F(posterior_sum_and_log_ratio_backward,                                                                            \
      (const Sets& sets, const Posterior& in, const Tensor& grad_w, const Tensor& grad_ratio, const void* stats,       \
       const Posterior& grad, bool path, Options options))                                                             \
    F(posterior_shard_forward, (const Sets& sets, const Posterior& in, double* state, Options options))                \
    F(correlated_normal_rsample_shard_sums,                                                                            \
      (const Sets& sets, const Posterior& in, double* state, bool density, Options options))                           \
    F(correlated_normal_rsample_shard_sample,                                                                          \
      (const Sets& sets, const Posterior& in, const Tensor& w, const void* stats, Options options))                    \
    F(correlated_normal_rsample_shard_centre, (const Sets& sets, const Posterior& in, const Tensor& grad_w,            \
                                               const void* stats, double* centre, Options options))                    \
    F(correlated_normal_rsample_shard_backward,                                                                        \
      (const Sets& sets, const Posterior& in, const Tensor& grad_w, const Tensor& grad_log_density, const void* stats, \
       const double* centre, const Posterior& grad, Options options))                                                  \
    F(correlated_normal_log_prob_shard_sums,                                                                           \
      (const Sets& sets, const Tensor& w, const Posterior& in, double* sums, Options options))                         \
    F(correlated_normal_log_prob_shard_squares, (const Sets& sets, const Tensor& w, const Posterior& in,               \
                                                 const void* stats, double* sums, Options options))                    \
    F(sum_minus_self_forward, (const Sets& sets, const Tensor& h, const Tensor& out, Aggregate how, bool float64))     \
    F(sum_minus_self_backward, (const Sets& sets, const Tensor& h, const Tensor& grad_out, const Tensor& grad_h,       \
                                Aggregate how, bool float64))                                                          \
    F(prior_sum_forward,                                                                                               \
      (const Sets& sets, const Tables& tables, const int64_t* labels, const Tensor& w_sum, bool float64))              \
    F(prior_sum_collapsed_forward, (const Sets& sets, const Tables& tables, const Groups& classes,                     \
                                    const Tensor& w_sum, double* slope))                                               \
    F(prior_sum_backward, (const Sets& sets, const Tables& tables, const Groups& sets_of, const Tensor& grad_w,        \
                           const double* slope, const Tables& grad, bool float64))                                     \
    F(product_of_experts_forward, (const Sets& sets, const Experts& in, const Tensor& mean, const Tensor& logvar,      \
                                   void* stats, bool float64))                                                         \
    F(product_of_experts_backward,                                                                                     \
      (const Sets& sets, const Experts& in, const Tensor& grad_mean, const Tensor& grad_logvar, const void* stats,     \
       const Tensor& to_mu, const Tensor& to_logvar, bool float64))                                                    \
    COMPVAE_SUM_OF_TERMS(F, diag_normal_kl)                                                                            \
    COMPVAE_SUM_OF_TERMS(F, gaussian_nll)                                                                              \
    COMPVAE_SUM_OF_TERMS(F, discretized_logistic_nll)                                                                  \
    F(philox, (int64_t count, const int64_t* counters, const int64_t* keys, int64_t* out, int threads))                \
    F(normal, (int64_t seed, int64_t count, const int64_t* sets, const int64_t* parts, const int64_t* coordinates,     \
               float* out, int threads))                                                                               \
    F(uniform, (int64_t seed, int64_t count, const int64_t* sets, const int64_t* parts, const int64_t* coordinates,    \
                float* out, int threads))

#define COMPVAE_DECLARE(name, arguments) void name arguments;
namespace avx512 {
COMPVAE_KERNELS(COMPVAE_DECLARE)
}
namespace avx2 {
COMPVAE_KERNELS(COMPVAE_DECLARE)
}
namespace portable {
COMPVAE_KERNELS(COMPVAE_DECLARE)
}
#undef COMPVAE_DECLARE

}  // namespace compvae
