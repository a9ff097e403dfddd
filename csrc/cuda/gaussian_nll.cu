#include "elements.h"

#include "../common/gaussian_nll.h"

namespace compvae {
namespace gpu {

COMPVAE_DEFINE_SUM_OF_TERMS(gaussian_nll, GaussianNll)

}  // namespace gpu
}  // namespace compvae
