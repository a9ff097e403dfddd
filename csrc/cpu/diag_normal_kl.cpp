#include "elements.h"
#include "vecmath.h"

#include "../common/diag_normal_kl.h"

namespace compvae {
namespace COMPVAE_ISA {

COMPVAE_DEFINE_SUM_OF_TERMS(diag_normal_kl, DiagNormalKl)

}  // namespace COMPVAE_ISA
}  // namespace compvae
