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
struct Groups {
    const int64_t* offsets = nullptr;  // [groups + 1]
    const int64_t* members = nullptr;
    const int64_t* parts = nullptr;    // index of the part within its set
    const int64_t* weights = nullptr;  // how many parts
    int64_t total = 0;                 // members of all groups
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
