// Every kernel of the table as a call on an example, forward and then backward.
#pragma once
#include "run.h"

namespace compvae {

struct Call {
    std::string name;
    std::function<void(const Kernels&, Run&)> run;
    bool on_parts = true;  // else its sets all have one part
    bool masked = false;   // dense sets alone
};

constexpr int64_t CLASSES = 3;

// Inputs and gradients of the operations on a posterior. How much the forward pass leaves for the backward pass is what
// compvae_fast/ops says.
struct Inputs {
    Posterior in, gradients;
    static Inputs of(Run& run, bool prior) {
        Inputs r;
        r.in.mu_q = run.parts();
        r.in.logvar_q = run.parts(0.5, -1);
        r.in.rho_logits = run.parts(2, -1);
        if (prior) {
            r.in.mu_p = run.parts(1, 0, true);
            r.in.logvar_p = run.parts(0.5, -0.5, true);
        }
        return r;
    }
    void want(Run& run, bool prior, bool all = true) {
        gradients.mu_q = run.out_parts();
        if (all) gradients.logvar_q = run.out_parts();
        gradients.rho_logits = run.out_parts();
        if (prior) {
            gradients.mu_p = run.out_parts(true);
            if (all) gradients.logvar_p = run.out_parts(true);
        }
    }
};

inline std::vector<Call> posterior_calls(int coupling) {
    const bool scaled = coupling == 1;
    const std::string told = scaled ? " scaled" : " unit";
    std::vector<Call> calls;
    for (const bool all : {true, false})
        calls.push_back({"posterior_sum_and_kl" + told + (all ? "" : ", three gradients"), [=](const Kernels& k, Run& r) {
            Inputs i = Inputs::of(r, true);
            void* stats = r.stats(scaled ? 11 : 10);
            k.posterior_sum_and_kl_forward(r.sets, i.in, r.out_per_set(r.sets.width, r.wide()), r.out_per_set(1, r.wide()),
                                           stats, r.scratch(), r.options(coupling));
            i.want(r, true, all);
            k.posterior_sum_and_kl_backward(r.sets, i.in, r.per_set(r.sets.width, r.wide()), r.per_set(1, r.wide()), stats,
                                            i.gradients, r.options(coupling));
        }});
    calls.push_back({"multiset_kl" + told, [=](const Kernels& k, Run& r) {
        Inputs i = Inputs::of(r, true);
        void* stats = r.stats(scaled ? 9 : 6);
        k.multiset_kl_forward(r.sets, i.in, r.out_per_set(1, r.wide()), stats, r.scratch(), r.options(coupling));
        i.want(r, true);
        k.multiset_kl_backward(r.sets, i.in, r.per_set(1, r.wide()), stats, i.gradients, r.options(coupling));
    }});
    calls.push_back({"multiset_kl" + told + ", nothing saved", [=](const Kernels& k, Run& r) {
        Inputs i = Inputs::of(r, true);
        k.multiset_kl_forward(r.sets, i.in, r.out_per_set(1, r.wide()), nullptr, r.scratch(), r.options(coupling));
    }});
    calls.push_back({"correlated_normal_rsample" + told, [=](const Kernels& k, Run& r) {
        Inputs i = Inputs::of(r, false);
        void* stats = r.stats(6);
        k.correlated_normal_rsample_forward(r.sets, i.in, r.out_parts(), r.out_per_set(1, r.wide()), stats, r.scratch(),
                                            r.options(coupling));
        i.want(r, false);
        k.correlated_normal_rsample_backward(r.sets, i.in, r.parts(), r.per_set(1, r.wide()), stats, i.gradients,
                                             r.options(coupling));
    }});
    calls.push_back({"correlated_normal_log_prob" + told, [=](const Kernels& k, Run& r) {
        Inputs i = Inputs::of(r, false);
        const Tensor w = r.parts();
        double* stats = r.doubles(4 * r.sets.count * r.sets.width);
        const Options options = {coupling, true};
        k.correlated_normal_log_prob_forward(r.sets, w, i.in, r.out_per_set(1, r.wide()), stats, r.scratch(), options);
        i.want(r, false);
        k.correlated_normal_log_prob_backward(r.sets, w, i.in, r.per_set(1, r.wide()), stats, r.out_parts(), i.gradients,
                                              options);
    }});
    for (const bool path : {false, true})
        calls.push_back({"posterior_sum_and_log_ratio" + told + (path ? " path" : ""), [=](const Kernels& k, Run& r) {
            Inputs i = Inputs::of(r, true);
            void* stats = r.stats(7);
            k.posterior_sum_and_log_ratio_forward(r.sets, i.in, r.out_per_set(r.sets.width, r.wide()),
                                                  r.out_per_set(1, r.wide()), stats, r.scratch(), r.options(coupling));
            i.want(r, true);
            k.posterior_sum_and_log_ratio_backward(r.sets, i.in, r.per_set(r.sets.width, r.wide()),
                                                   r.per_set(1, r.wide()), stats, i.gradients, path, r.options(coupling));
        }});
    calls.push_back({"posterior_shard" + told, [=](const Kernels& k, Run& r) {
        Inputs i = Inputs::of(r, true);
        k.posterior_shard_forward(r.sets, i.in, r.out_doubles(scaled ? 12 : 13), r.options(coupling));
    }});
    for (const bool density : {false, true})
        calls.push_back({"correlated_normal_rsample_shard" + told + (density ? ", density" : ""),
                         [=](const Kernels& k, Run& r) {
            Inputs i = Inputs::of(r, false);
            k.correlated_normal_rsample_shard_sums(r.sets, i.in, r.out_doubles(density ? 6 : 5), density,
                                                   r.options(coupling));
            const void* stats = r.sums(6);
            k.correlated_normal_rsample_shard_sample(r.sets, i.in, r.out_parts(), stats, r.options(coupling));
            const Tensor grad_w = r.parts();
            k.correlated_normal_rsample_shard_centre(r.sets, i.in, grad_w, stats, r.out_doubles(3), r.options(coupling));
            i.want(r, false);
            k.correlated_normal_rsample_shard_backward(r.sets, i.in, grad_w, r.per_set(1, r.wide()), stats,
                                                       r.double_sums(2), i.gradients, r.options(coupling));
        }});
    calls.push_back({"correlated_normal_log_prob_shard" + told, [=](const Kernels& k, Run& r) {
        Inputs i = Inputs::of(r, false);
        const Tensor w = r.parts();
        k.correlated_normal_log_prob_shard_sums(r.sets, w, i.in, r.out_doubles(3), {coupling, true});
        k.correlated_normal_log_prob_shard_squares(r.sets, w, i.in, r.double_sums(3), r.out_doubles(2), {coupling, true});
    }});
    return calls;
}

// Members of groups, as compvae_fast/native/prior_sum.py sorts them.
struct Grouped {
    std::vector<int64_t> offsets{0}, members, parts, weights;
    void close() { offsets.push_back(int64_t(members.size())); }
    Groups in(Run& run, bool counted) const {
        return {run.integers(offsets), run.integers(members), counted ? nullptr : run.integers(parts),
                counted ? run.integers(weights) : nullptr};
    }
};

inline int64_t label_of(int64_t set, int64_t part) { return (set + part * part) % CLASSES; }

inline Call drawn_prior_sum() {
    return {"prior_sum", [](const Kernels& k, Run& r) {
        // a label in the padding may be anything
        std::vector<int64_t> labels(size_t(r.ragged() ? r.rows() : r.sets.count * r.slots()), -1);
        Grouped by_class;
        for (int64_t c = 0; c < CLASSES; by_class.close(), ++c)
            for (int64_t b = 0; b < r.sets.count; ++b)
                for (int64_t i = 0; i < r.example().sizes[size_t(b)]; ++i) {
                    if (label_of(b, i) != c) continue;
                    labels[size_t(r.place(b, i).first * r.slots() + r.place(b, i).second)] = c;
                    by_class.members.push_back(b);
                    by_class.parts.push_back(i);
                }
        const Tables tables = {r.table(CLASSES), r.table(CLASSES), CLASSES};
        k.prior_sum_forward(r.sets, tables, r.integers(labels), r.out_per_set(r.sets.width, r.wide()), r.float64());
        k.prior_sum_backward(r.sets, tables, by_class.in(r, false), r.per_set(r.sets.width, r.wide()), nullptr,
                             {r.out_table(CLASSES), r.out_table(CLASSES), CLASSES}, r.float64());
    }};
}

// Groups sorted, as labels are counted, or all members in each with numbers that may be 0, as counts come.
inline Call collapsed_prior_sum(bool sorted) {
    return {sorted ? "prior_sum collapsed" : "prior_sum of counts", [=](const Kernels& k, Run& r) {
        Grouped by_set, by_class;
        std::vector<int64_t> counts;
        const auto count = [&](int64_t b, int64_t c) {
            int64_t n = 0;
            for (int64_t i = 0; i < r.example().sizes[size_t(b)]; ++i) n += label_of(b, i) == c;
            return n;
        };
        for (int64_t b = 0; b < r.sets.count; by_set.close(), ++b)
            for (int64_t c = 0; c < CLASSES; ++c) {
                counts.push_back(count(b, c));
                if (const int64_t n = counts.back()) {
                    by_set.members.push_back(c);
                    by_set.weights.push_back(n);
                }
            }
        for (int64_t c = 0; c < CLASSES; by_class.close(), ++c)
            for (int64_t b = 0; b < r.sets.count; ++b)
                if (const int64_t n = count(b, c)) {
                    by_class.members.push_back(b);
                    by_class.weights.push_back(n);
                }
        const Tables tables = {r.table(CLASSES), r.table(CLASSES), CLASSES};
        double* slope = r.doubles(r.sets.count * r.sets.width);
        const int64_t* weights = r.integers(counts);
        const Groups classes = sorted ? by_set.in(r, true) : Groups{nullptr, nullptr, nullptr, weights, CLASSES, CLASSES, 1};
        const Groups sets = sorted ? by_class.in(r, true)
                                   : Groups{nullptr, nullptr, nullptr, weights, r.sets.count, 1, CLASSES};
        k.prior_sum_collapsed_forward(r.sets, tables, classes, r.out_per_set(r.sets.width, r.wide()), slope);
        k.prior_sum_backward(r.sets, tables, sets, r.per_set(r.sets.width, r.wide()), slope,
                             {r.out_table(CLASSES), r.out_table(CLASSES), CLASSES}, true);
    }};
}

inline Call product_of_experts(bool prior, bool masked) {
    Call call{std::string("product_of_experts") + (prior ? "" : " without prior") + (masked ? " masked" : ""),
              [=](const Kernels& k, Run& r) {
        std::vector<char> there;
        if (masked)
            for (int64_t b = 0; b < r.sets.count; ++b)
                for (int64_t i = 0; i < r.slots(); ++i) there.push_back((b + i) % 3 != 0);
        const Experts experts = {r.parts(), r.parts(), masked ? r.flags(there) : nullptr, prior};
        void* stats = r.stats(4);
        const int64_t width = r.sets.width;
        k.product_of_experts_forward(r.sets, experts, r.out_per_set(width, r.example().dtype),
                                     r.out_per_set(width, r.example().dtype), stats, r.float64());
        k.product_of_experts_backward(r.sets, experts, r.per_set(width, r.example().dtype),
                                      r.per_set(width, r.example().dtype), stats, r.out_parts(), r.out_parts(),
                                      r.float64());
    }};
    call.masked = masked;
    return call;
}

inline Call sum_minus_self(bool elu, bool tanh, bool mean) {
    return {std::string("sum_minus_self") + (elu ? " elu" : "") + (tanh ? " tanh" : "") + (mean ? " mean" : ""),
            [=](const Kernels& k, Run& r) {
        const Tensor h = r.parts();
        const Aggregate how = {elu, tanh, mean};
        k.sum_minus_self_forward(r.sets, h, r.out_parts(), how, r.float64());
        k.sum_minus_self_backward(r.sets, h, r.parts(), r.out_parts(), how, r.float64());
    }};
}

// An operation on the rows of [B, M] tensors.
template <class Forward, class Backward>
Call of_terms(const std::string& name, Forward forward, Backward backward, int inputs) {
    Call call{name, [=](const Kernels& k, Run& r) {
        Tensor in[4], gradients[4];
        for (int i = 0; i < inputs; ++i) in[i] = r.per_set(r.sets.width, r.example().dtype);
        (k.*forward)(r.sets, in, r.out_per_set(1, r.wide()),
                     r.doubles(r.sets.count * ((r.sets.width + 63) / 64)), r.float64());
        for (int i = 0; i < inputs; ++i) gradients[i] = r.out_per_set(r.sets.width, r.example().dtype);
        (k.*backward)(r.sets, in, r.per_set(1, r.wide()), gradients, r.float64());
    }};
    call.on_parts = false;
    return call;
}

inline std::vector<Call> all_calls() {
    std::vector<Call> calls;
    for (const int coupling : {0, 1})
        for (Call& call : posterior_calls(coupling)) calls.push_back(call);
    calls.push_back(drawn_prior_sum());
    calls.push_back(collapsed_prior_sum(true));
    calls.push_back(collapsed_prior_sum(false));
    calls.push_back(product_of_experts(true, false));
    calls.push_back(product_of_experts(false, false));
    calls.push_back(product_of_experts(true, true));
    calls.push_back(sum_minus_self(false, false, false));
    calls.push_back(sum_minus_self(true, true, false));
    calls.push_back(sum_minus_self(true, false, true));
    using K = Kernels;
    calls.push_back(of_terms("diag_normal_kl", &K::diag_normal_kl_forward, &K::diag_normal_kl_backward, 4));
    calls.push_back(of_terms("gaussian_nll", &K::gaussian_nll_forward, &K::gaussian_nll_backward, 3));
    calls.push_back(of_terms("discretized_logistic_nll", &K::discretized_logistic_nll_forward,
                             &K::discretized_logistic_nll_backward, 3));
    return calls;
}

}  // namespace compvae
