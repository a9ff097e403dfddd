#include "shards.h"

namespace compvae {
namespace gpu {

Status posterior_shard_forward(const Launch& launch, const Sets& s, const Posterior& in, const ShardRows& state,
                               Options options) {
    return shard_sums<true>(launch, s, in, state, options);
}

}  // namespace gpu
}  // namespace compvae
