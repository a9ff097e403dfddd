#include "posterior_kl.h"

namespace compvae {
namespace gpu {

Status posterior_sum_and_kl_forward(const Launch& launch, const Sets& s, const Posterior& in, const Tensor& w_sum,
                                    const Tensor& kl, void* stats, Options options) {
    return posterior_kl_forward<true>(launch, s, in, w_sum, kl, stats, options);
}

Status posterior_sum_and_kl_backward(const Launch& launch, const Sets& s, const Posterior& in, const Tensor& grad_w,
                                     const Tensor& grad_kl, const void* stats, const Posterior& grad, Options options) {
    return posterior_kl_backward<true>(launch, s, in, grad_w, grad_kl, stats, grad, options);
}

}  // namespace gpu
}  // namespace compvae
