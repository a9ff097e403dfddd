// How Python describes its arguments to the bindings: a tensor is (address, dtype code, strides of set, part and
// coordinate), or None; the sets of a call are (B, K, D, addresses of offsets, lengths, set_index, part_start and seeds,
// stride of the seeds, address of whole_sizes, threads). Or either is packed: the bytes of its struct, which
// torch_tensors.h makes at less cost.
#pragma once
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstring>
#include <string>

#include "common/arguments.h"

namespace py = pybind11;

namespace compvae {

// Counts up where the functions or their arguments change; compvae_fast/_loading.py takes no module of another one.
constexpr int INTERFACE = 2;

inline int64_t integer(const py::tuple& t, int i) { return PyLong_AsLongLong(PyTuple_GET_ITEM(t.ptr(), i)); }

template <class T>
T* pointer(const py::tuple& t, int i) {
    return reinterpret_cast<T*>(static_cast<uintptr_t>(integer(t, i)));
}
template <class T>
T* pointer(int64_t address) {
    return reinterpret_cast<T*>(static_cast<uintptr_t>(address));
}

template <class Struct>
bool unpacked(const py::handle& h, Struct& s) {
    if (!PyBytes_CheckExact(h.ptr())) return false;
    if (PyBytes_GET_SIZE(h.ptr()) != sizeof s) throw py::type_error("a packed argument of another size");
    std::memcpy(&s, PyBytes_AS_STRING(h.ptr()), sizeof s);
    return true;
}

inline Tensor tensor(const py::handle& h) {
    Tensor r;
    if (h.is_none() || unpacked(h, r)) return r;
    const auto t = py::reinterpret_borrow<py::tuple>(h);
    r.data = pointer<char>(t, 0);
    r.dtype = DType(integer(t, 1));
    r.stride_set = integer(t, 2);
    r.stride_part = integer(t, 3);
    r.stride_coordinate = integer(t, 4);
    return r;
}

inline Sets sets_of(const py::handle& h) {
    Sets s;
    if (unpacked(h, s)) return s;
    const auto t = py::reinterpret_borrow<py::tuple>(h);
    if (t.size() != 11) throw py::type_error("sets: expected 11 numbers, got " + std::to_string(t.size()));
    s.count = integer(t, 0);
    s.parts = integer(t, 1);
    s.width = integer(t, 2);
    s.offsets = pointer<int64_t>(t, 3);
    s.lengths = pointer<int64_t>(t, 4);
    s.set_index = pointer<int64_t>(t, 5);
    s.part_start = pointer<int64_t>(t, 6);
    s.seeds = pointer<int64_t>(t, 7);
    s.seed_stride = integer(t, 8);
    s.whole_sizes = pointer<int64_t>(t, 9);
    s.threads = int(integer(t, 10));
    return s;
}

inline Posterior posterior(const py::tuple& t) {
    Tensor members[5];
    for (size_t i = 0; i < t.size() && i < 5; ++i) members[i] = tensor(t[i]);
    return {members[0], members[1], members[2], members[3], members[4]};
}

inline Tables tables(const py::tuple& t, int64_t classes) { return {tensor(t[0]), tensor(t[1]), classes}; }

// Addresses of offsets, members, parts and weights; then, where they are not sorted by group, how many members there are
// and the strides of the weights.
inline Groups groups(const py::tuple& t) {
    Groups g = {pointer<int64_t>(t, 0), pointer<int64_t>(t, 1), pointer<int64_t>(t, 2), pointer<int64_t>(t, 3)};
    if (t.size() == 7) {
        g.total = integer(t, 4);
        g.stride_group = integer(t, 5);
        g.stride_member = integer(t, 6);
    }
    return g;
}

inline std::vector<Tensor> tensors(const py::tuple& t) {
    std::vector<Tensor> list;
    for (const py::handle& h : t) list.push_back(tensor(h));
    return list;
}

}  // namespace compvae
