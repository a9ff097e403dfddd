#include "elements.h"
#include "vecmath.h"

namespace compvae {
namespace COMPVAE_ISA {
namespace {

// 1/2 (log 2 pi + logvar + (x - mu)^2 exp(-logvar)); inputs x, mu, logvar
template <class T>
struct GaussianNll {
    using V = typename Simd<T>::V;
    static constexpr int INPUTS = 3;
    static constexpr double LOG_2_PI = 1.8378770664093454836;

    static V value(const V (&in)[INPUTS]) {
        const V difference = in[0] - in[1];
        return T(0.5) * (difference * difference * exp(-in[2]) + (in[2] + T(LOG_2_PI)));
    }
    static void gradient(const V (&in)[INPUTS], V (&out)[INPUTS]) {
        const V difference = in[0] - in[1], scaled = difference * exp(-in[2]);
        out[0] = scaled;
        out[1] = -scaled;
        out[2] = T(0.5) * (1 - difference * scaled);
    }
};

}  // namespace

COMPVAE_DEFINE_SUM_OF_TERMS(gaussian_nll, GaussianNll)

}  // namespace COMPVAE_ISA
}  // namespace compvae
