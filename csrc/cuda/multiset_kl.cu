#include "posterior_kl.h"

namespace compvae {
namespace gpu {

Status multiset_kl_forward(const Launch& launch, const Sets& s, const Posterior& in, const Tensor& kl, void* stats,
                           Options options) {
    return posterior_kl_forward<false>(launch, s, in, Tensor{}, kl, stats, options);
}

Status multiset_kl_backward(const Launch& launch, const Sets& s, const Posterior& in, const Tensor& grad_kl,
                            const void* stats, const Posterior& grad, Options options) {
    return posterior_kl_backward<false>(launch, s, in, Tensor{}, grad_kl, stats, grad, options);
}

}  // namespace gpu
}  // namespace compvae
