#include "elements.h"
#include "vecmath.h"

#include "../common/discretized_logistic_nll.h"

namespace compvae {
namespace COMPVAE_ISA {

COMPVAE_DEFINE_SUM_OF_TERMS(discretized_logistic_nll, DiscretizedLogisticNll)

}  // namespace COMPVAE_ISA
}  // namespace compvae
