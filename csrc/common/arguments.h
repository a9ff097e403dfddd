// What operations take beside the sets and single tensors.
#pragma once
#include "tensor.h"

namespace compvae {

struct Posterior {  // each [B, K, D] or [N, D]
    Tensor mu_q, logvar_q, rho_logits, mu_p, logvar_p;
};

struct Aggregate {  // sum_minus_self: pre is elu, post is tanh, the mean instead of the sum
    bool elu = false, tanh = false, mean = false;
};

struct Tables {  // prior_sum: means and log-variances of the classes, [C, D]; row c is part c of a ragged tensor
    Tensor mu, logvar;
    int64_t classes = 0;
};

// Members of each group: the classes of a set with their counts, or the sets of a class, each with a part or a count.
// Without offsets and members, every group has all members, 0..total-1, in their order; counts of 0 stand for nothing.
struct Groups {
    const int64_t* offsets = nullptr;  // [groups + 1]
    const int64_t* members = nullptr;
    const int64_t* parts = nullptr;    // index of the part within its set
    const int64_t* weights = nullptr;  // how many parts
    int64_t total = 0;                 // members of all groups
    int64_t stride_group = 0, stride_member = 1;  // of the weights

    COMPVAE_HOST_DEVICE int64_t begin(int64_t group) const { return offsets ? offsets[group] : 0; }
    COMPVAE_HOST_DEVICE int64_t end(int64_t group) const { return offsets ? offsets[group + 1] : total; }
    COMPVAE_HOST_DEVICE int64_t member(int64_t e) const { return members ? members[e] : e; }
    COMPVAE_HOST_DEVICE int64_t weight(int64_t group, int64_t e) const {
        return weights[group * stride_group + e * stride_member];
    }
};

struct Experts {  // product_of_experts
    Tensor mu, logvar;             // each [B, K, D] or [N, D]
    const bool* mask = nullptr;    // [B, K], null: all are there
    bool prior = true;             // N(0, 1) is one of them
};

struct Options {
    int coupling = 1;      // 0 unit, 1 scaled
    bool float64 = false;  // the compute type, also that of stats
};

}  // namespace compvae
