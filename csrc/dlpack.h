// The part of DLPack's binary interface (version 1) that reads a tensor where it lies: https://dmlc.github.io/dlpack.
// A type that offers it has a capsule of this name as `__dlpack_c_exchange_api__`.
#pragma once
#include <cstdint>

namespace compvae::dlpack {

constexpr const char* CAPSULE = "dlpack_exchange_api";
constexpr uint32_t MAJOR_VERSION = 1;
constexpr uint8_t FLOAT = 2, BFLOAT = 4;  // codes of dtypes

struct Tensor {
    void* data;
    struct {
        int32_t type, id;
    } device;
    int32_t ndim;
    struct {
        uint8_t code, bits;
        uint16_t lanes;
    } dtype;
    int64_t *shape, *strides;  // in elements
    uint64_t byte_offset;
};

struct ExchangeApi {
    struct {
        uint32_t major, minor;
    } version;
    const void* previous;
    void *allocate, *own, *give;  // managed tensors, of which there is no need here
    int (*view)(void* object, Tensor* out);  // 0, or -1 with a Python error set; may be null
    void* current_stream;
};

}  // namespace compvae::dlpack
