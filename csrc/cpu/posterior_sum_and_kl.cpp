#include "posterior_kl.h"

namespace compvae {
namespace COMPVAE_ISA {

void posterior_sum_and_kl_forward(const Sets& sets, const Posterior& in, const Tensor& w_sum, const Tensor& kl,
                                  void* stats, double* scratch, Options options) {
    by_posterior(options, in, [&](auto zero, auto coupling, auto element) {
        using T = decltype(zero);
        using E = decltype(element);
        posterior_kl_forward<T, decltype(coupling)::value, true, E>(sets, in, w_sum, kl, static_cast<T*>(stats),
                                                                    scratch);
    });
}

void posterior_sum_and_kl_backward(const Sets& sets, const Posterior& in, const Tensor& grad_w, const Tensor& grad_kl,
                                   const void* stats, const Posterior& grad, Options options) {
    by_posterior(options, in, [&](auto zero, auto coupling, auto element) {
        using T = decltype(zero);
        using E = decltype(element);
        posterior_kl_backward<T, decltype(coupling)::value, true, E>(sets, in, grad_w, grad_kl,
                                                                     static_cast<const T*>(stats), grad);
    });
}

}  // namespace COMPVAE_ISA
}  // namespace compvae
