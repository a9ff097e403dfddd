// float16 of the CUDA emulation.
#pragma once
#include <cstdint>

struct __half_raw {
    uint16_t x;
};
struct __half {
    uint16_t x;
    __half() = default;
    explicit __half(__half_raw raw) : x(raw.x) {}
};
inline float __half2float(__half h) {
    _Float16 f;
    __builtin_memcpy(&f, &h.x, sizeof f);
    return float(f);
}
inline __half __float2half_rn(float x) {
    const _Float16 f = _Float16(x);
    __half h;
    __builtin_memcpy(&h.x, &f, sizeof f);
    return h;
}
inline uint16_t __half_as_ushort(__half h) { return h.x; }
