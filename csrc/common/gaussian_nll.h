// The term of gaussian_nll, for vectors and for single numbers: exp, log, select and the like of the
// including namespace must be declared before.
#pragma once
#include "scalar_of.h"

namespace compvae {
namespace COMPVAE_ISA {

// 1/2 (log 2 pi + logvar + (x - mu)^2 exp(-logvar)); inputs x, mu, logvar
template <class V>
struct GaussianNll {
    using T = ScalarOf<V>;
    static constexpr int INPUTS = 3;
    static constexpr double LOG_2_PI = 1.8378770664093454836;

    static COMPVAE_INLINE V value(const V (&in)[INPUTS]) {
        const V difference = in[0] - in[1];
        return T(0.5) * (difference * difference * exp(-in[2]) + (in[2] + T(LOG_2_PI)));
    }
    static COMPVAE_INLINE void gradient(const V (&in)[INPUTS], V (&out)[INPUTS]) {
        const V difference = in[0] - in[1], scaled = difference * exp(-in[2]);
        out[0] = scaled;
        out[1] = -scaled;
        out[2] = T(0.5) * (1 - difference * scaled);
    }
};

}  // namespace COMPVAE_ISA
}  // namespace compvae
