// The CUDA kernels for Python: flat functions over raw pointers, as bindings.h describes them, with the names and
// arguments of _native's behind (stream, address of scratch, address of the report).
#include "bindings.h"
#include "cuda/kernels.h"

using namespace compvae;
using gpu::Launch;
using gpu::Output;
using gpu::Outputs;
using gpu::Status;

namespace {

Launch launch_of(const py::tuple& t) {
    Launch launch;
    launch.stream = pointer<CUstream_st>(t, 0);
    launch.scratch = pointer<double>(t, 1);
    launch.report = pointer<gpu::Report>(t, 2);
    return launch;
}

// Runs f without the GIL; raises where a kernel could not be queued.
template <class F>
void queued(const char* operation, F f) {
    Status status;
    {
        py::gil_scoped_release release;
        status = f();
    }
    if (status != cudaSuccess)
        throw std::runtime_error(std::string("compvae_fast.") + operation + ": " + cudaGetErrorString(status));
}

// The same, and a look at the index tensors' values afterwards.
template <class F>
void checked(const char* operation, const Launch& launch, const Sets& sets, const Outputs& outputs, F f) {
    queued(operation, [&] {
        const Status status = f();
        return status ? status : check_sets(launch, sets, outputs);
    });
}

Output row(const Tensor& t, const Sets& s) { return {t, s.width, false}; }
Output number(const Tensor& t) { return {t, 1, false}; }
Output rows(const Tensor& t, const Sets& s) { return {t, s.width, true}; }
Outputs rows(const Posterior& p, const Sets& s) {
    return {{rows(p.mu_q, s), rows(p.logvar_q, s), rows(p.rho_logits, s), rows(p.mu_p, s), rows(p.logvar_p, s)}};
}

// A shard's rows at an address, and as an output whose wrong sets become NaN.
gpu::ShardRows shard_rows(int64_t address, int count) { return {pointer<double>(address), count}; }
Output output(const gpu::ShardRows& r, const Sets& s) {
    return {{reinterpret_cast<char*>(r.data), DType::float64, s.width, s.count * s.width, 1}, s.width, false, r.count};
}

py::tuple device_count() {
    int count = 0;
    const Status status = cudaGetDeviceCount(&count);
    return py::make_tuple(status == cudaSuccess ? count : 0, status == cudaSuccess ? "" : cudaGetErrorString(status));
}

}  // namespace

PYBIND11_MODULE(COMPVAE_MODULE, m) {
    m.doc() = "CUDA kernels of compvae_fast; no torch inside.";
    m.attr("interface") = INTERFACE;
    m.attr("runtime_version") = CUDART_VERSION;
    m.attr("arguments") = py::make_tuple("offsets", "lengths", "set_index", "part_start", "labels", "counts");
    m.def("device_count", &device_count, "(number of devices, why there is none)");
    m.def("scratch_size", [](py::tuple sets) { return gpu::scratch_size(sets_of(sets)); });

#define COMPVAE_POSTERIOR_FORWARD(operation, output)                                                                   \
    m.def(#operation, [](py::tuple launch, py::tuple sets, py::tuple in, py::object out, py::object number_,           \
                         int64_t stats, int coupling, bool float64) {                                                  \
        const Launch l = launch_of(launch);                                                                            \
        const Sets s = sets_of(sets);                                                                                  \
        const Posterior p = posterior(in);                                                                             \
        const Tensor o = tensor(out), n = tensor(number_);                                                             \
        checked(#operation, l, s, {{output(o, s), number(n)}}, [&] {                                                   \
            return gpu::operation(l, s, p, o, n, pointer<void>(stats), {coupling, float64});                           \
        });                                                                                                            \
    })
#define COMPVAE_POSTERIOR_BACKWARD(operation, ...)                                                                     \
    m.def(#operation, [](py::tuple launch, py::tuple sets, py::tuple in, py::object grad_out, py::object grad_number,  \
                         int64_t stats, py::tuple grad, int coupling, bool float64, bool path) {                       \
        const Launch l = launch_of(launch);                                                                            \
        const Sets s = sets_of(sets);                                                                                  \
        const Posterior p = posterior(in), g = posterior(grad);                                                        \
        const Tensor go = tensor(grad_out), gn = tensor(grad_number);                                                  \
        (void)path;                                                                                                    \
        checked(#operation, l, s, rows(g, s), [&] {                                                                    \
            return gpu::operation(l, s, p, go, gn, pointer<void>(stats), g, ##__VA_ARGS__, {coupling, float64});       \
        });                                                                                                            \
    }, py::arg(), py::arg(), py::arg(), py::arg(), py::arg(), py::arg(), py::arg(), py::arg(), py::arg(),              \
       py::arg("path") = false)
    COMPVAE_POSTERIOR_FORWARD(posterior_sum_and_kl_forward, row);
    COMPVAE_POSTERIOR_BACKWARD(posterior_sum_and_kl_backward);
    COMPVAE_POSTERIOR_FORWARD(correlated_normal_rsample_forward, rows);
    COMPVAE_POSTERIOR_BACKWARD(correlated_normal_rsample_backward);
    COMPVAE_POSTERIOR_FORWARD(posterior_sum_and_log_ratio_forward, row);
    COMPVAE_POSTERIOR_BACKWARD(posterior_sum_and_log_ratio_backward, path);

    m.def("posterior_shard_forward", [](py::tuple launch, py::tuple sets, py::tuple in, int64_t state, int coupling,
                                        bool float64) {
        const Launch l = launch_of(launch);
        const Sets s = sets_of(sets);
        const Posterior p = posterior(in);
        const gpu::ShardRows r = shard_rows(state, coupling ? 12 : 13);
        checked("posterior_shard_forward", l, s, {{output(r, s)}},
                [&] { return gpu::posterior_shard_forward(l, s, p, r, {coupling, float64}); });
    });
    m.def("correlated_normal_rsample_shard_sums", [](py::tuple launch, py::tuple sets, py::tuple in, int64_t state,
                                                     bool density, int coupling, bool float64) {
        const Launch l = launch_of(launch);
        const Sets s = sets_of(sets);
        const Posterior p = posterior(in);
        const gpu::ShardRows r = shard_rows(state, density ? 6 : 5);
        checked("correlated_normal_rsample_shard_sums", l, s, {{output(r, s)}},
                [&] { return gpu::correlated_normal_rsample_shard_sums(l, s, p, r, {coupling, float64}); });
    });
    m.def("correlated_normal_rsample_shard_sample", [](py::tuple launch, py::tuple sets, py::tuple in, py::object w,
                                                       int64_t stats, int coupling, bool float64) {
        const Launch l = launch_of(launch);
        const Sets s = sets_of(sets);
        const Posterior p = posterior(in);
        const Tensor out = tensor(w);
        checked("correlated_normal_rsample_shard_sample", l, s, {{rows(out, s)}}, [&] {
            return gpu::correlated_normal_rsample_shard_sample(l, s, p, out, pointer<void>(stats), {coupling, float64});
        });
    });
    m.def("correlated_normal_rsample_shard_centre", [](py::tuple launch, py::tuple sets, py::tuple in, py::object grad_w,
                                                       int64_t stats, int64_t centre, int coupling, bool float64) {
        const Launch l = launch_of(launch);
        const Sets s = sets_of(sets);
        const Posterior p = posterior(in);
        const Tensor gw = tensor(grad_w);
        const gpu::ShardRows r = shard_rows(centre, 3);
        checked("correlated_normal_rsample_shard_centre", l, s, {{output(r, s)}}, [&] {
            return gpu::correlated_normal_rsample_shard_centre(l, s, p, gw, pointer<void>(stats), r, {coupling, float64});
        });
    });
    m.def("correlated_normal_rsample_shard_backward", [](py::tuple launch, py::tuple sets, py::tuple in,
                                                         py::object grad_w, py::object grad_density, int64_t stats,
                                                         int64_t centre, py::tuple grad, int coupling, bool float64) {
        const Launch l = launch_of(launch);
        const Sets s = sets_of(sets);
        const Posterior p = posterior(in), g = posterior(grad);
        const Tensor gw = tensor(grad_w), gd = tensor(grad_density);
        checked("correlated_normal_rsample_shard_backward", l, s, rows(g, s), [&] {
            return gpu::correlated_normal_rsample_shard_backward(l, s, p, gw, gd, pointer<void>(stats),
                                                                 pointer<double>(centre), g, {coupling, float64});
        });
    });
    m.def("correlated_normal_log_prob_shard_sums", [](py::tuple launch, py::tuple sets, py::object w, py::tuple in,
                                                      int64_t sums, int coupling) {
        const Launch l = launch_of(launch);
        const Sets s = sets_of(sets);
        const Posterior p = posterior(in);
        const Tensor x = tensor(w);
        const gpu::ShardRows r = shard_rows(sums, 3);
        checked("correlated_normal_log_prob_shard_sums", l, s, {{output(r, s)}},
                [&] { return gpu::correlated_normal_log_prob_shard_sums(l, s, x, p, r, {coupling, true}); });
    });
    m.def("correlated_normal_log_prob_shard_squares", [](py::tuple launch, py::tuple sets, py::object w, py::tuple in,
                                                         int64_t stats, int64_t sums, int coupling) {
        const Launch l = launch_of(launch);
        const Sets s = sets_of(sets);
        const Posterior p = posterior(in);
        const Tensor x = tensor(w);
        const gpu::ShardRows r = shard_rows(sums, 2);
        checked("correlated_normal_log_prob_shard_squares", l, s, {{output(r, s)}}, [&] {
            return gpu::correlated_normal_log_prob_shard_squares(l, s, x, p, pointer<void>(stats), r, {coupling, true});
        });
    });

    m.def("multiset_kl_forward", [](py::tuple launch, py::tuple sets, py::tuple in, py::object kl, int64_t stats,
                                    int coupling, bool float64) {
        const Launch l = launch_of(launch);
        const Sets s = sets_of(sets);
        const Posterior p = posterior(in);
        const Tensor k = tensor(kl);
        checked("multiset_kl_forward", l, s, {{number(k)}},
                [&] { return gpu::multiset_kl_forward(l, s, p, k, pointer<void>(stats), {coupling, float64}); });
    });
    m.def("multiset_kl_backward", [](py::tuple launch, py::tuple sets, py::tuple in, py::object grad_kl, int64_t stats,
                                     py::tuple grad, int coupling, bool float64) {
        const Launch l = launch_of(launch);
        const Sets s = sets_of(sets);
        const Posterior p = posterior(in), g = posterior(grad);
        const Tensor gk = tensor(grad_kl);
        checked("multiset_kl_backward", l, s, rows(g, s),
                [&] { return gpu::multiset_kl_backward(l, s, p, gk, pointer<void>(stats), g, {coupling, float64}); });
    });
    m.def("correlated_normal_log_prob_forward", [](py::tuple launch, py::tuple sets, py::object w, py::tuple in,
                                                   py::object density, int64_t stats, int coupling) {
        const Launch l = launch_of(launch);
        const Sets s = sets_of(sets);
        const Posterior p = posterior(in);
        const Tensor x = tensor(w), d = tensor(density);
        checked("correlated_normal_log_prob_forward", l, s, {{number(d)}}, [&] {
            return gpu::correlated_normal_log_prob_forward(l, s, x, p, d, pointer<void>(stats), {coupling, true});
        });
    });
    m.def("correlated_normal_log_prob_backward", [](py::tuple launch, py::tuple sets, py::object w, py::tuple in,
                                                    py::object grad, int64_t stats, py::object grad_w, py::tuple grad_in,
                                                    int coupling) {
        const Launch l = launch_of(launch);
        const Sets s = sets_of(sets);
        const Posterior p = posterior(in), g = posterior(grad_in);
        const Tensor x = tensor(w), d = tensor(grad), gw = tensor(grad_w);
        const Outputs outputs = {{rows(gw, s), rows(g.mu_q, s), rows(g.logvar_q, s), rows(g.rho_logits, s)}};
        checked("correlated_normal_log_prob_backward", l, s, outputs, [&] {
            return gpu::correlated_normal_log_prob_backward(l, s, x, p, d, pointer<void>(stats), gw, g, {coupling, true});
        });
    });
    m.def("sum_minus_self_forward", [](py::tuple launch, py::tuple sets, py::object h, py::object out, bool elu, bool tanh,
                                       bool mean, bool float64) {
        const Launch l = launch_of(launch);
        const Sets s = sets_of(sets);
        const Tensor x = tensor(h), o = tensor(out);
        checked("sum_minus_self_forward", l, s, {{rows(o, s)}},
                [&] { return gpu::sum_minus_self_forward(l, s, x, o, {elu, tanh, mean}, float64); });
    });
    m.def("sum_minus_self_backward", [](py::tuple launch, py::tuple sets, py::object h, py::object grad_out,
                                        py::object grad_h, bool elu, bool tanh, bool mean, bool float64) {
        const Launch l = launch_of(launch);
        const Sets s = sets_of(sets);
        const Tensor x = tensor(h), go = tensor(grad_out), gh = tensor(grad_h);
        checked("sum_minus_self_backward", l, s, {{rows(gh, s)}},
                [&] { return gpu::sum_minus_self_backward(l, s, x, go, gh, {elu, tanh, mean}, float64); });
    });
    m.def("product_of_experts_forward", [](py::tuple launch, py::tuple sets, py::tuple in, int64_t mask, bool prior,
                                           py::object mean, py::object logvar, int64_t stats, bool float64) {
        const Launch l = launch_of(launch);
        const Sets s = sets_of(sets);
        const Experts e = {tensor(in[0]), tensor(in[1]), pointer<bool>(mask), prior};
        const Tensor mu = tensor(mean), lv = tensor(logvar);
        checked("product_of_experts_forward", l, s, {{row(mu, s), row(lv, s)}},
                [&] { return gpu::product_of_experts_forward(l, s, e, mu, lv, pointer<void>(stats), float64); });
    });
    m.def("product_of_experts_backward", [](py::tuple launch, py::tuple sets, py::tuple in, int64_t mask, bool prior,
                                            py::object grad_mean, py::object grad_logvar, int64_t stats, py::tuple grad,
                                            bool float64) {
        const Launch l = launch_of(launch);
        const Sets s = sets_of(sets);
        const Experts e = {tensor(in[0]), tensor(in[1]), pointer<bool>(mask), prior};
        const Tensor gm = tensor(grad_mean), gl = tensor(grad_logvar), mu = tensor(grad[0]), lv = tensor(grad[1]);
        checked("product_of_experts_backward", l, s, {{rows(mu, s), rows(lv, s)}}, [&] {
            return gpu::product_of_experts_backward(l, s, e, gm, gl, pointer<void>(stats), mu, lv, float64);
        });
    });

    m.def("prior_sum_forward", [](py::tuple launch, py::tuple sets, py::tuple in, int64_t classes, int64_t labels,
                                  py::object w, bool float64) {
        const Launch l = launch_of(launch);
        const Sets s = sets_of(sets);
        const Tables t = tables(in, classes);
        const Tensor w_sum = tensor(w);
        checked("prior_sum_forward", l, s, {{row(w_sum, s)}},
                [&] { return gpu::prior_sum_forward(l, s, t, pointer<int64_t>(labels), w_sum, float64); });
    });
    m.def("count_labels", [](py::tuple launch, py::tuple sets, int64_t classes, int64_t labels, int64_t counts) {
        const Launch l = launch_of(launch);
        const Sets s = sets_of(sets);
        queued("count_labels", [&] {
            return gpu::count_labels(l, s, classes, pointer<int64_t>(labels), pointer<int64_t>(counts));
        });
    });
    // over_classes: the sets, their parts the classes; sets: as the caller gave them
    m.def("prior_sum_collapsed_forward", [](py::tuple launch, py::tuple over_classes, py::tuple sets, py::tuple in,
                                            int64_t counts, py::object w, int64_t slope) {
        const Launch l = launch_of(launch);
        const Sets c = sets_of(over_classes), s = sets_of(sets);
        const Tables t = tables(in, c.parts);
        const Tensor w_sum = tensor(w);
        checked("prior_sum_collapsed_forward", l, s, {{row(w_sum, s)}}, [&] {
            return gpu::prior_sum_collapsed_forward(l, c, t, pointer<int64_t>(counts), w_sum, pointer<double>(slope));
        });
    });
    // members: addresses of offsets [C + 1], set, part and weight of each member, and how many there are
    m.def("prior_sum_backward", [](py::tuple launch, py::tuple sets, py::tuple in, int64_t classes, py::tuple members,
                                   py::object grad_w, int64_t slope, py::tuple grad, bool float64) {
        const Launch l = launch_of(launch);
        const Sets s = sets_of(sets);
        const Tables t = tables(in, classes), to = tables(grad, classes);
        Groups g = groups(members);
        g.total = integer(members, 4);
        const Tensor gw = tensor(grad_w);
        queued("prior_sum_backward",
               [&] { return gpu::prior_sum_backward(l, s, t, g, gw, pointer<double>(slope), to, float64); });
    });

#define COMPVAE_BIND_SUM_OF_TERMS(operation)                                                                           \
    m.def(#operation "_forward", [](py::tuple launch, py::tuple sets, py::tuple in, py::object out, bool float64) {    \
        const Launch l = launch_of(launch);                                                                            \
        const Sets s = sets_of(sets);                                                                                  \
        const std::vector<Tensor> i = tensors(in);                                                                     \
        const Tensor o = tensor(out);                                                                                  \
        queued(#operation, [&] { return gpu::operation##_forward(l, s, i.data(), o, float64); });                      \
    });                                                                                                                \
    m.def(#operation "_backward", [](py::tuple launch, py::tuple sets, py::tuple in, py::object grad_out,              \
                                     py::tuple grad, bool float64) {                                                   \
        const Launch l = launch_of(launch);                                                                            \
        const Sets s = sets_of(sets);                                                                                  \
        const std::vector<Tensor> i = tensors(in), g = tensors(grad);                                                  \
        const Tensor o = tensor(grad_out);                                                                             \
        queued(#operation, [&] { return gpu::operation##_backward(l, s, i.data(), o, g.data(), float64); });           \
    })
    COMPVAE_BIND_SUM_OF_TERMS(diag_normal_kl);
    COMPVAE_BIND_SUM_OF_TERMS(gaussian_nll);
    COMPVAE_BIND_SUM_OF_TERMS(discretized_logistic_nll);

    m.def("philox", [](py::tuple launch, int64_t count, int64_t counters, int64_t keys, int64_t out) {
        const Launch l = launch_of(launch);
        queued("philox", [&] {
            return gpu::philox(l, count, pointer<int64_t>(counters), pointer<int64_t>(keys), pointer<int64_t>(out));
        });
    });
#define COMPVAE_BIND_NOISE(function)                                                                                   \
    m.def(#function, [](py::tuple launch, int64_t seed, int64_t count, int64_t sets, int64_t parts,                    \
                        int64_t coordinates, int64_t out) {                                                            \
        const Launch l = launch_of(launch);                                                                            \
        queued(#function, [&] {                                                                                        \
            return gpu::function(l, pointer<int64_t>(seed), count, pointer<int64_t>(sets), pointer<int64_t>(parts),    \
                                 pointer<int64_t>(coordinates), pointer<float>(out));                                  \
        });                                                                                                            \
    })
    COMPVAE_BIND_NOISE(normal);
    COMPVAE_BIND_NOISE(uniform);
}
