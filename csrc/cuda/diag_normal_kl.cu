#include "elements.h"

#include "../common/diag_normal_kl.h"

namespace compvae {
namespace gpu {

COMPVAE_DEFINE_SUM_OF_TERMS(diag_normal_kl, DiagNormalKl)

}  // namespace gpu
}  // namespace compvae
