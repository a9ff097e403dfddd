#include "elements.h"
#include "vecmath.h"

#include "../common/gaussian_nll.h"

namespace compvae {
namespace COMPVAE_ISA {

COMPVAE_DEFINE_SUM_OF_TERMS(gaussian_nll, GaussianNll)

}  // namespace COMPVAE_ISA
}  // namespace compvae
