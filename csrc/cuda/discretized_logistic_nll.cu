#include "elements.h"

#include "../common/discretized_logistic_nll.h"

namespace compvae {
namespace gpu {

COMPVAE_DEFINE_SUM_OF_TERMS(discretized_logistic_nll, DiscretizedLogisticNll)

}  // namespace gpu
}  // namespace compvae
