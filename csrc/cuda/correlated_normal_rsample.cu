#include "samples.h"

namespace compvae {
namespace gpu {

Status correlated_normal_rsample_forward(const Launch& launch, const Sets& s, const Posterior& in, const Tensor& w,
                                         const Tensor& log_density, void* stats, Options options) {
    const Tensor* tensors[] = {&in.mu_q, &in.logvar_q, &in.rho_logits, &w};
    return by_type(options, tensors, s.width, [&](auto zero, auto coupling, auto access) {
        return run(launch, Sample<decltype(zero), decltype(coupling)::value, decltype(access)::value>(launch, s, in, w,
                                                                                                     log_density, stats));
    });
}

Status correlated_normal_rsample_backward(const Launch& launch, const Sets& s, const Posterior& in, const Tensor& grad_w,
                                          const Tensor& grad_log_density, const void* stats, const Posterior& grad,
                                          Options options) {
    const Tensor* tensors[] = {&in.mu_q,   &in.logvar_q,   &in.rho_logits,  &grad_w,
                               &grad.mu_q, &grad.logvar_q, &grad.rho_logits};
    return by_type(options, tensors, s.width, [&](auto zero, auto coupling, auto access) {
        return run(launch, SampleGradient<decltype(zero), decltype(coupling)::value, decltype(access)::value>(
                               launch, s, in, grad_w, grad_log_density, stats, grad));
    });
}

}  // namespace gpu
}  // namespace compvae
