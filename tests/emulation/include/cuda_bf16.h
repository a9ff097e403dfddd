// bfloat16 of the CUDA emulation.
#pragma once
#include <cstdint>

struct __nv_bfloat16 {
    uint16_t x;
};
inline float __bfloat162float(__nv_bfloat16 b) {
    const uint32_t bits = uint32_t(b.x) << 16;
    float f;
    __builtin_memcpy(&f, &bits, sizeof f);
    return f;
}
inline __nv_bfloat16 __float2bfloat16_rn(float f) {
    uint32_t x;
    __builtin_memcpy(&x, &f, sizeof x);
    const bool is_nan = (x & 0x7fffffff) > 0x7f800000;
    return {uint16_t(is_nan ? x >> 16 | 0x40 : (x + 0x7fff + ((x >> 16) & 1)) >> 16)};
}
inline uint16_t __bfloat16_as_ushort(__nv_bfloat16 b) { return b.x; }
