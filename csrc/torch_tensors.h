// Reading torch tensors without torch's headers: through DLPack, and by name what DLPack does not tell. All of this
// could be said in Python, at ten times the cost.
#pragma once
#include <Python.h>

#include "common/tensor.h"
#include "dlpack.h"

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

// The same of a tensor of one of these types, a tuple, that has memory of its own; raises nothing.
inline bool view_plain(PyObject* object, PyObject* types, dlpack::Tensor& t) {
    bool known = false;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(types); ++i)
        known |= reinterpret_cast<PyObject*>(Py_TYPE(object)) == PyTuple_GET_ITEM(types, i);
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
// [B, D] or [B]; None for None; null with a Python error.
inline PyObject* described(PyObject* object, bool parts, bool packed) {
    if (object == Py_None) Py_RETURN_NONE;
    dlpack::Tensor t;
    if (!view(object, t)) return nullptr;
    const int64_t* s = t.strides;
    Tensor r;
    r.data = static_cast<char*>(t.data) + t.byte_offset;
    r.dtype = DType(code_of(t));
    r.stride_set = t.ndim == 3 || !parts ? s[0] : 0;
    r.stride_part = !parts ? 0 : t.ndim == 3 ? s[1] : s[0];
    r.stride_coordinate = t.ndim > 1 ? s[t.ndim - 1] : 1;
    if (packed) return PyBytes_FromStringAndSize(reinterpret_cast<const char*>(&r), sizeof r);
    return Py_BuildValue("LiLLL", (long long)reinterpret_cast<intptr_t>(r.data), int(r.dtype), (long long)r.stride_set,
                         (long long)r.stride_part, (long long)r.stride_coordinate);
}

// What follows are functions for Python by the quick calling convention: pybind11's would cost more than what they do.
using Arguments = PyObject* const*;

// (packed, *tensors): a tuple of descriptions
template <bool PARTS>
PyObject* all_described(PyObject*, Arguments arguments, Py_ssize_t count) {
    PyObject* list = PyTuple_New(count - 1);
    for (Py_ssize_t i = 1; list && i < count; ++i) {
        PyObject* one = described(arguments[i], PARTS, arguments[0] == Py_True);
        if (one)
            PyTuple_SET_ITEM(list, i - 1, one);
        else
            Py_CLEAR(list);
    }
    return list;
}

// (shape of a tensor of parts, threads, seeds, offsets, lengths, set_index, part_start, whole_sizes), index tensors as
// contiguous int64 or None: the sets of a call, packed
inline PyObject* packed_sets(PyObject*, Arguments arguments, Py_ssize_t) {
    Sets s;
    const auto size = [&](Py_ssize_t d) { return PyLong_AsLongLong(PyTuple_GET_ITEM(arguments[0], d)); };
    s.count = size(0);
    s.parts = size(1);
    s.width = size(PyTuple_GET_SIZE(arguments[0]) - 1);
    s.threads = int(PyLong_AsLongLong(arguments[1]));
    const int64_t** const members[] = {&s.seeds, &s.offsets, &s.lengths, &s.set_index, &s.part_start, &s.whole_sizes};
    for (int i = 0; i < 6; ++i) {
        if (arguments[2 + i] == Py_None) continue;
        dlpack::Tensor t;
        if (!view(arguments[2 + i], t)) return nullptr;
        *members[i] = reinterpret_cast<const int64_t*>(static_cast<char*>(t.data) + t.byte_offset);
        if (members[i] == &s.seeds) s.seed_stride = t.ndim;
        if (members[i] == &s.offsets) s.parts = s.count, s.count = t.shape[0] - 1;
    }
    return PyErr_Occurred() ? nullptr : PyBytes_FromStringAndSize(reinterpret_cast<const char*>(&s), sizeof s);
}

// (types, *tensors): whether these are float tensors of one shape, dtype and device, each of one of the types and with
// memory of its own
inline PyObject* alike(PyObject*, Arguments arguments, Py_ssize_t count) {
    dlpack::Tensor first, t;
    for (Py_ssize_t i = 1; i < count; ++i) {
        if (!view_plain(arguments[i], arguments[0], i > 1 ? t : first)) Py_RETURN_FALSE;
        if (i == 1) {
            if (code_of(first) < 0) Py_RETURN_FALSE;
            continue;
        }
        if (t.ndim != first.ndim || t.dtype.code != first.dtype.code || t.dtype.bits != first.dtype.bits ||
            t.device.type != first.device.type || t.device.id != first.device.id)
            Py_RETURN_FALSE;
        for (int d = 0; d < t.ndim; ++d)
            if (t.shape[d] != first.shape[d]) Py_RETURN_FALSE;
    }
    Py_RETURN_TRUE;
}

// Whether a truth that an object tells by an attribute, or by a method without arguments, holds; -1 with a Python error.
inline int tells(PyObject* object, PyObject* name, bool method) {
    PyObject* answer = method ? PyObject_CallMethodNoArgs(object, name) : PyObject_GetAttr(object, name);
    Py_XDECREF(answer);
    return answer ? answer == Py_True : -1;
}

// (types, *values), of tensors among other things, in one look: 0, one is more than its own numbers (another type, a
// wrapper that a transform, maybe ended, has made, or numbers to be negated); 1, none is; 2, none is and one requires a
// gradient.
inline PyObject* plainness(PyObject*, Arguments arguments, Py_ssize_t count) {
    static PyObject *const requires_grad = PyUnicode_InternFromString("requires_grad"),
                    *const is_neg = PyUnicode_InternFromString("is_neg");
    bool wants = false;
    for (Py_ssize_t i = 1; i < count; ++i) {
        PyObject* object = arguments[i];
        if (object == Py_None || PyUnicode_CheckExact(object) || PyBool_Check(object)) continue;
        dlpack::Tensor t;
        if (!view_plain(object, arguments[0], t)) return PyLong_FromLong(0);
        const int negated = tells(object, is_neg, true), wanted = wants ? 1 : tells(object, requires_grad, false);
        if (negated < 0 || wanted < 0) return nullptr;
        if (negated) return PyLong_FromLong(0);
        wants |= wanted;
    }
    return PyLong_FromLong(wants ? 2 : 1);
}

}  // namespace compvae
