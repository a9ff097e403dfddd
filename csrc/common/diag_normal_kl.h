// The term of diag_normal_kl, for vectors and for single numbers: exp, log, select and the like of the
// including namespace must be declared before.
#pragma once
#include "scalar_of.h"

namespace compvae {
namespace COMPVAE_ISA {

// 1/2 (R - 1 - log R + (mu - m)^2 / s^2), R = sigma^2 / s^2; inputs mu_q, logvar_q, mu_p, logvar_p
template <class V>
struct DiagNormalKl {
    using T = ScalarOf<V>;
    static constexpr int INPUTS = 4;

    static COMPVAE_INLINE V value(const V (&in)[INPUTS]) {
        const V log_ratio = in[1] - in[3], difference = in[0] - in[2];
        const V excess = exp_excess(log_ratio, exp(log_ratio));
        return T(0.5) * (excess + difference * difference * exp(-in[3]));
    }
    static COMPVAE_INLINE void gradient(const V (&in)[INPUTS], V (&out)[INPUTS]) {
        const V excess = expm1(in[1] - in[3]), difference = in[0] - in[2], scaled = difference * exp(-in[3]);
        out[0] = scaled;
        out[1] = T(0.5) * excess;
        out[2] = -scaled;
        out[3] = T(-0.5) * (excess + difference * scaled);
    }
};

}  // namespace COMPVAE_ISA
}  // namespace compvae
