// Reading torch tensors without torch's headers: through DLPack, and by name what DLPack does not tell. All of this
// could be said in Python, at ten times the cost.
#pragma once
#include <pybind11/pybind11.h>

#include "common/tensor.h"
#include "dlpack.h"

namespace py = pybind11;

namespace compvae {

// The exchange functions of an object's type; null where it has none of this version.
inline const dlpack::ExchangeApi* exchange_api(PyObject* object) {
    static PyTypeObject* known = nullptr;  // held, so that no other type takes its place
    static const dlpack::ExchangeApi* api = nullptr;
    PyTypeObject* type = Py_TYPE(object);
    if (type != known) {
        PyObject* capsule = PyObject_GetAttrString(reinterpret_cast<PyObject*>(type), "__dlpack_c_exchange_api__");
        const auto found = capsule ? PyCapsule_GetPointer(capsule, dlpack::CAPSULE) : nullptr;
        Py_XDECREF(capsule);
        PyErr_Clear();
        api = static_cast<const dlpack::ExchangeApi*>(found);
        if (api && (api->version.major != dlpack::MAJOR_VERSION || !api->view)) api = nullptr;
        Py_INCREF(type);
        Py_XDECREF(known);
        known = type;
    }
    return api;
}

// Looks at a tensor; false with a Python error where it cannot be looked at.
inline bool view(PyObject* object, dlpack::Tensor& t) {
    const auto* api = exchange_api(object);
    if (api) return api->view(object, &t) == 0;
    PyErr_Format(PyExc_TypeError, "expected a torch.Tensor of torch 2.11 or later, got %s", Py_TYPE(object)->tp_name);
    return false;
}

// The same of a tensor of one of these types that has memory of its own; raises nothing.
inline bool view_plain(PyObject* object, const py::tuple& types, dlpack::Tensor& t) {
    bool known = false;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(types.ptr()); ++i)
        known |= reinterpret_cast<PyObject*>(Py_TYPE(object)) == PyTuple_GET_ITEM(types.ptr(), i);
    if (!known) return false;
    if (!view(object, t)) return PyErr_Clear(), false;
    if (t.data) return true;
    for (int d = 0; d < t.ndim; ++d)
        if (t.shape[d] == 0) return true;
    return false;
}

// The code of a float dtype, -1 of any other.
inline int code_of(const dlpack::Tensor& t) {
    if (t.dtype.code == dlpack::BFLOAT) return int(DType::bfloat16);
    if (t.dtype.code != dlpack::FLOAT) return -1;
    return int(t.dtype.bits == 64 ? DType::float64 : t.dtype.bits == 32 ? DType::float32 : DType::float16);
}

// The description in bindings.h of a tensor of parts, [B, K, D] or ragged [N, D], or of one row or value for each set,
// [B, D] or [B]; None for None.
inline py::object described(py::handle h, bool parts) {
    if (h.is_none()) return py::none();
    dlpack::Tensor t;
    if (!view(h.ptr(), t)) throw py::error_already_set();
    const int64_t *s = t.strides, address = int64_t(reinterpret_cast<intptr_t>(t.data)) + int64_t(t.byte_offset);
    const int64_t set = t.ndim == 3 || !parts ? s[0] : 0;
    const int64_t part = !parts ? 0 : t.ndim == 3 ? s[1] : s[0];
    return py::reinterpret_steal<py::object>(
        Py_BuildValue("LiLLL", (long long)address, code_of(t), (long long)set, (long long)part,
                      (long long)(t.ndim > 1 ? s[t.ndim - 1] : 1)));
}

inline py::tuple all_described(py::tuple tensors, bool parts) {
    py::tuple list(tensors.size());
    for (size_t i = 0; i < list.size(); ++i) list[i] = described(tensors[i], parts);
    return list;
}

// Whether a truth that an object tells by an attribute, or by a method without arguments, holds.
inline bool tells(PyObject* object, PyObject* name, bool method) {
    const auto answer = py::reinterpret_steal<py::object>(method ? PyObject_CallMethodNoArgs(object, name)
                                                                 : PyObject_GetAttr(object, name));
    if (!answer) throw py::error_already_set();
    return answer.ptr() == Py_True;
}

// Whether these are float tensors of one shape, dtype and device, each of one of these types and with memory of its own.
inline bool alike(py::tuple tensors, py::tuple types) {
    dlpack::Tensor first, t;
    for (size_t i = 0; i < tensors.size(); ++i) {
        if (!view_plain(PyTuple_GET_ITEM(tensors.ptr(), i), types, i ? t : first)) return false;
        if (!i) {
            if (code_of(first) < 0) return false;
            continue;
        }
        if (t.ndim != first.ndim || t.dtype.code != first.dtype.code || t.dtype.bits != first.dtype.bits ||
            t.device.type != first.device.type || t.device.id != first.device.id)
            return false;
        for (int d = 0; d < t.ndim; ++d)
            if (t.shape[d] != first.shape[d]) return false;
    }
    return true;
}

// Of tensors among other things, in one look: 0, one is more than its own numbers (another type, a wrapper that a
// transform, maybe ended, has made, or numbers to be negated); 1, none is; 2, none is and one requires a gradient.
inline int plainness(py::tuple values, py::tuple types) {
    static PyObject *const requires_grad = PyUnicode_InternFromString("requires_grad"),
                    *const is_neg = PyUnicode_InternFromString("is_neg");
    int answer = 1;
    for (size_t i = 0; i < values.size(); ++i) {
        PyObject* object = PyTuple_GET_ITEM(values.ptr(), i);
        if (object == Py_None || PyUnicode_CheckExact(object) || PyBool_Check(object)) continue;
        dlpack::Tensor t;
        if (!view_plain(object, types, t) || tells(object, is_neg, true)) return 0;
        if (tells(object, requires_grad, false)) answer = 2;
    }
    return answer;
}

}  // namespace compvae
