#include "posterior_kl.h"

namespace compvae {
namespace COMPVAE_ISA {

void posterior_sum_and_kl_forward(const Sets& sets, const Posterior& in, const Tensor& w_sum, const Tensor& kl,
                                  void* stats, double* scratch, Options options) {
    by_type_and_coupling(options, [&](auto zero, auto coupling) {
        using T = decltype(zero);
        posterior_kl_forward<T, decltype(coupling)::value, true>(sets, in, w_sum, kl, static_cast<T*>(stats), scratch);
    });
}

void posterior_sum_and_kl_backward(const Sets& sets, const Posterior& in, const Tensor& grad_w, const Tensor& grad_kl,
                                   const void* stats, const Posterior& grad, Options options) {
    by_type_and_coupling(options, [&](auto zero, auto coupling) {
        using T = decltype(zero);
        posterior_kl_backward<T, decltype(coupling)::value, true>(sets, in, grad_w, grad_kl,
                                                                  static_cast<const T*>(stats), grad);
    });
}

}  // namespace COMPVAE_ISA
}  // namespace compvae
