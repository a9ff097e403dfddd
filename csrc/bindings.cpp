// Flat functions over raw pointers; bindings.h says how tensors and sets are described.
#include "bindings.h"

#include <cstdlib>
#include <memory>

#include "cpu/dispatch.h"
#include "torch_tensors.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

using namespace compvae;

namespace {

template <class F>
void released(F f) {
    py::gil_scoped_release release;
    f();
}

// Working memory of a call on these sets: one float64 for each set and block of 64 coordinates.
std::unique_ptr<double[]> scratch_for(const Sets& s) {
    return std::unique_ptr<double[]>(new double[size_t(s.count) * size_t((s.width + 63) / 64)]);
}

// (name): a variable of the environment, or None
PyObject* environment(PyObject*, Arguments arguments, Py_ssize_t) {
    const char* name = PyUnicode_AsUTF8(arguments[0]);
    const char* value = name ? std::getenv(name) : nullptr;
    if (value) return PyUnicode_DecodeFSDefault(value);
    if (PyErr_Occurred()) return nullptr;
    Py_RETURN_NONE;
}

// A function of the quick calling convention as Python keeps it.
template <PyObject* (*F)(PyObject*, Arguments, Py_ssize_t)>
PyCFunction quick() {
    return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(F));
}

// Asks for huge pages where the memory has not been touched: by pages of 4 KiB that takes longer than the kernels.
void advise_huge_pages(int64_t address, int64_t bytes) {
#if defined(MADV_HUGEPAGE)
    constexpr int64_t PAGE = 2 << 20;
    const int64_t first = (address + PAGE - 1) / PAGE * PAGE, end = (address + bytes) / PAGE * PAGE;
    if (first < end) madvise(reinterpret_cast<void*>(first), size_t(end - first), MADV_HUGEPAGE);  // no more than advice
#else
    (void)address, (void)bytes;
#endif
}

}  // namespace

PYBIND11_MODULE(_native, m) {
    m.doc() = "Native kernels of compvae_fast; no torch inside.";
    m.attr("interface") = INTERFACE;
    m.def("instruction_set", [] { return kernels().name; });
    m.def("instruction_sets", &instruction_sets);
    m.def("use_instruction_set", &use_instruction_set);
    m.def("advise_huge_pages", &advise_huge_pages);

    static PyMethodDef looks[] = {{"rows", quick<all_described<true>>(), METH_FASTCALL, nullptr},
                                  {"per_set", quick<all_described<false>>(), METH_FASTCALL, nullptr},
                                  {"sets", quick<packed_sets>(), METH_FASTCALL, nullptr},
                                  {"alike", quick<alike>(), METH_FASTCALL, nullptr},
                                  {"plainness", quick<plainness>(), METH_FASTCALL, nullptr},
                                  {"environment", quick<environment>(), METH_FASTCALL, nullptr},
                                  {nullptr, nullptr, 0, nullptr}};
    if (PyModule_AddFunctions(m.ptr(), looks)) throw py::error_already_set();

    // Operations on the posterior: one output for each part or set, one number for each set; and their gradients.
#define COMPVAE_POSTERIOR_FORWARD(operation)                                                                           \
    m.def(#operation, [](py::handle sets, py::tuple in, py::object out, py::object number, int64_t stats,              \
                         int coupling, bool float64) {                                                                 \
        const Sets s = sets_of(sets);                                                                                  \
        const Posterior p = posterior(in);                                                                             \
        const Tensor o = tensor(out), n = tensor(number);                                                              \
        released([&] {                                                                                                 \
            kernels().operation(s, p, o, n, pointer<void>(stats), scratch_for(s).get(), {coupling, float64});          \
        });                                                                                                            \
    })
#define COMPVAE_POSTERIOR_BACKWARD(operation, ...)                                                                     \
    m.def(#operation, [](py::handle sets, py::tuple in, py::object grad_out, py::object grad_number, int64_t stats,    \
                         py::tuple grad, int coupling, bool float64, bool path) {                                      \
        const Sets s = sets_of(sets);                                                                                  \
        const Posterior p = posterior(in), g = posterior(grad);                                                        \
        const Tensor go = tensor(grad_out), gn = tensor(grad_number);                                                  \
        (void)path;                                                                                                    \
        released([&] {                                                                                                 \
            kernels().operation(s, p, go, gn, pointer<void>(stats), g, ##__VA_ARGS__, {coupling, float64});            \
        });                                                                                                            \
    }, py::arg(), py::arg(), py::arg(), py::arg(), py::arg(), py::arg(), py::arg(), py::arg(), py::arg("path") = false)
    COMPVAE_POSTERIOR_FORWARD(posterior_sum_and_kl_forward);
    COMPVAE_POSTERIOR_BACKWARD(posterior_sum_and_kl_backward);
    COMPVAE_POSTERIOR_FORWARD(correlated_normal_rsample_forward);
    COMPVAE_POSTERIOR_BACKWARD(correlated_normal_rsample_backward);
    COMPVAE_POSTERIOR_FORWARD(posterior_sum_and_log_ratio_forward);
    COMPVAE_POSTERIOR_BACKWARD(posterior_sum_and_log_ratio_backward, path);

    m.def("posterior_shard_forward", [](py::handle sets, py::tuple in, int64_t state, int coupling, bool float64) {
        const Sets s = sets_of(sets);
        const Posterior p = posterior(in);
        released([&] { kernels().posterior_shard_forward(s, p, pointer<double>(state), {coupling, float64}); });
    });
    m.def("correlated_normal_rsample_shard_sums", [](py::handle sets, py::tuple in, int64_t state, bool density,
                                                     int coupling, bool float64) {
        const Sets s = sets_of(sets);
        const Posterior p = posterior(in);
        released([&] {
            kernels().correlated_normal_rsample_shard_sums(s, p, pointer<double>(state), density, {coupling, float64});
        });
    });
    m.def("correlated_normal_rsample_shard_sample", [](py::handle sets, py::tuple in, py::object w, int64_t stats,
                                                       int coupling, bool float64) {
        const Sets s = sets_of(sets);
        const Posterior p = posterior(in);
        const Tensor out = tensor(w);
        released([&] {
            kernels().correlated_normal_rsample_shard_sample(s, p, out, pointer<void>(stats), {coupling, float64});
        });
    });
    m.def("correlated_normal_rsample_shard_centre", [](py::handle sets, py::tuple in, py::object grad_w, int64_t stats,
                                                       int64_t centre, int coupling, bool float64) {
        const Sets s = sets_of(sets);
        const Posterior p = posterior(in);
        const Tensor gw = tensor(grad_w);
        released([&] {
            kernels().correlated_normal_rsample_shard_centre(s, p, gw, pointer<void>(stats), pointer<double>(centre),
                                                             {coupling, float64});
        });
    });
    m.def("correlated_normal_rsample_shard_backward", [](py::handle sets, py::tuple in, py::object grad_w,
                                                         py::object grad_density, int64_t stats, int64_t centre,
                                                         py::tuple grad, int coupling, bool float64) {
        const Sets s = sets_of(sets);
        const Posterior p = posterior(in), g = posterior(grad);
        const Tensor gw = tensor(grad_w), gd = tensor(grad_density);
        released([&] {
            kernels().correlated_normal_rsample_shard_backward(s, p, gw, gd, pointer<void>(stats),
                                                               pointer<double>(centre), g, {coupling, float64});
        });
    });
    m.def("correlated_normal_log_prob_shard_sums", [](py::handle sets, py::object w, py::tuple in, int64_t sums,
                                                      int coupling) {
        const Sets s = sets_of(sets);
        const Posterior p = posterior(in);
        const Tensor x = tensor(w);
        released([&] {
            kernels().correlated_normal_log_prob_shard_sums(s, x, p, pointer<double>(sums), {coupling, true});
        });
    });
    m.def("correlated_normal_log_prob_shard_squares", [](py::handle sets, py::object w, py::tuple in, int64_t stats,
                                                         int64_t sums, int coupling) {
        const Sets s = sets_of(sets);
        const Posterior p = posterior(in);
        const Tensor x = tensor(w);
        released([&] {
            kernels().correlated_normal_log_prob_shard_squares(s, x, p, pointer<void>(stats), pointer<double>(sums),
                                                               {coupling, true});
        });
    });

    m.def("multiset_kl_forward", [](py::handle sets, py::tuple in, py::object kl, int64_t stats, int coupling,
                                    bool float64) {
        const Sets s = sets_of(sets);
        const Posterior p = posterior(in);
        const Tensor k = tensor(kl);
        released([&] {
            kernels().multiset_kl_forward(s, p, k, pointer<void>(stats), scratch_for(s).get(), {coupling, float64});
        });
    });
    m.def("multiset_kl_backward", [](py::handle sets, py::tuple in, py::object grad_kl, int64_t stats, py::tuple grad,
                                     int coupling, bool float64) {
        const Sets s = sets_of(sets);
        const Posterior p = posterior(in), g = posterior(grad);
        const Tensor gk = tensor(grad_kl);
        released([&] { kernels().multiset_kl_backward(s, p, gk, pointer<void>(stats), g, {coupling, float64}); });
    });
    m.def("correlated_normal_log_prob_forward", [](py::handle sets, py::object w, py::tuple in, py::object density,
                                                   int64_t stats, int coupling) {
        const Sets s = sets_of(sets);
        const Posterior p = posterior(in);
        const Tensor x = tensor(w), d = tensor(density);
        released([&] {
            kernels().correlated_normal_log_prob_forward(s, x, p, d, pointer<void>(stats), scratch_for(s).get(),
                                                         {coupling, true});
        });
    });
    m.def("correlated_normal_log_prob_backward", [](py::handle sets, py::object w, py::tuple in, py::object grad,
                                                    int64_t stats, py::object grad_w, py::tuple grad_in, int coupling) {
        const Sets s = sets_of(sets);
        const Posterior p = posterior(in), g = posterior(grad_in);
        const Tensor x = tensor(w), d = tensor(grad), gw = tensor(grad_w);
        released([&] {
            kernels().correlated_normal_log_prob_backward(s, x, p, d, pointer<void>(stats), gw, g, {coupling, true});
        });
    });
    m.def("sum_minus_self_forward", [](py::handle sets, py::object h, py::object out, bool elu, bool tanh, bool mean,
                                       bool float64) {
        const Sets s = sets_of(sets);
        const Tensor x = tensor(h), o = tensor(out);
        released([&] { kernels().sum_minus_self_forward(s, x, o, {elu, tanh, mean}, float64); });
    });
    m.def("sum_minus_self_backward", [](py::handle sets, py::object h, py::object grad_out, py::object grad_h, bool elu,
                                        bool tanh, bool mean, bool float64) {
        const Sets s = sets_of(sets);
        const Tensor x = tensor(h), go = tensor(grad_out), gh = tensor(grad_h);
        released([&] { kernels().sum_minus_self_backward(s, x, go, gh, {elu, tanh, mean}, float64); });
    });

    m.def("prior_sum_forward", [](py::handle sets, py::tuple in, int64_t classes, int64_t labels, py::object w,
                                  bool float64) {
        const Sets s = sets_of(sets);
        const Tables t = tables(in, classes);
        const Tensor w_sum = tensor(w);
        released([&] { kernels().prior_sum_forward(s, t, pointer<int64_t>(labels), w_sum, float64); });
    });
    m.def("prior_sum_collapsed_forward", [](py::handle sets, py::tuple in, int64_t classes, py::tuple members,
                                            py::object w, int64_t slope) {
        const Sets s = sets_of(sets);
        const Tables t = tables(in, classes);
        const Groups g = groups(members);
        const Tensor w_sum = tensor(w);
        released([&] { kernels().prior_sum_collapsed_forward(s, t, g, w_sum, pointer<double>(slope)); });
    });
    m.def("prior_sum_backward", [](py::handle sets, py::tuple in, int64_t classes, py::tuple members, py::object grad_w,
                                   int64_t slope, py::tuple grad, bool float64) {
        const Sets s = sets_of(sets);
        const Tables t = tables(in, classes), to = tables(grad, classes);
        const Groups g = groups(members);
        const Tensor gw = tensor(grad_w);
        released([&] { kernels().prior_sum_backward(s, t, g, gw, pointer<double>(slope), to, float64); });
    });
    m.def("product_of_experts_forward", [](py::handle sets, py::tuple in, int64_t mask, bool prior, py::object mean,
                                           py::object logvar, int64_t stats, bool float64) {
        const Sets s = sets_of(sets);
        const Experts e = {tensor(in[0]), tensor(in[1]), pointer<bool>(mask), prior};
        const Tensor mu = tensor(mean), lv = tensor(logvar);
        released([&] { kernels().product_of_experts_forward(s, e, mu, lv, pointer<void>(stats), float64); });
    });
    m.def("product_of_experts_backward", [](py::handle sets, py::tuple in, int64_t mask, bool prior, py::object grad_mean,
                                            py::object grad_logvar, int64_t stats, py::tuple grad, bool float64) {
        const Sets s = sets_of(sets);
        const Experts e = {tensor(in[0]), tensor(in[1]), pointer<bool>(mask), prior};
        const Tensor gm = tensor(grad_mean), gl = tensor(grad_logvar), mu = tensor(grad[0]), lv = tensor(grad[1]);
        released([&] { kernels().product_of_experts_backward(s, e, gm, gl, pointer<void>(stats), mu, lv, float64); });
    });

    // Sums over the rows of [B, M] tensors.
#define COMPVAE_BIND_SUM_OF_TERMS(operation)                                                                           \
    m.def(#operation "_forward", [](py::handle sets, py::tuple in, py::object out, bool float64) {                     \
        const Sets s = sets_of(sets);                                                                                  \
        const std::vector<Tensor> i = tensors(in);                                                                     \
        const Tensor o = tensor(out);                                                                                  \
        released([&] { kernels().operation##_forward(s, i.data(), o, scratch_for(s).get(), float64); });               \
    });                                                                                                                \
    m.def(#operation "_backward", [](py::handle sets, py::tuple in, py::object grad_out, py::tuple grad,               \
                                     bool float64) {                                                                   \
        const Sets s = sets_of(sets);                                                                                  \
        const std::vector<Tensor> i = tensors(in), g = tensors(grad);                                                  \
        const Tensor o = tensor(grad_out);                                                                             \
        released([&] { kernels().operation##_backward(s, i.data(), o, g.data(), float64); });                          \
    })
    COMPVAE_BIND_SUM_OF_TERMS(diag_normal_kl);
    COMPVAE_BIND_SUM_OF_TERMS(gaussian_nll);
    COMPVAE_BIND_SUM_OF_TERMS(discretized_logistic_nll);

    m.def("philox", [](int64_t count, int64_t counters, int64_t keys, int64_t out, int threads) {
        released([&] {
            kernels().philox(count, pointer<int64_t>(counters), pointer<int64_t>(keys), pointer<int64_t>(out), threads);
        });
    });
#define COMPVAE_BIND_NOISE(function)                                                                                   \
    m.def(#function, [](int64_t seed, int64_t count, int64_t sets, int64_t parts, int64_t coordinates, int64_t out,    \
                        int threads) {                                                                                 \
        released([&] {                                                                                                 \
            kernels().function(seed, count, pointer<int64_t>(sets), pointer<int64_t>(parts),                           \
                               pointer<int64_t>(coordinates), pointer<float>(out), threads);                           \
        });                                                                                                            \
    })
    COMPVAE_BIND_NOISE(normal);
    COMPVAE_BIND_NOISE(uniform);
}
