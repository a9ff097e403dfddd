// Philox4x32-10 (Salmon et al. 2011) and the layout of the counter, for host and device.
#pragma once
#include <cstdint>

#include "host_device.h"

namespace compvae {

constexpr uint32_t PHILOX_M0 = 0xD2511F53u, PHILOX_M1 = 0xCD9E8D57u;
constexpr uint32_t PHILOX_W0 = 0x9E3779B9u, PHILOX_W1 = 0xBB67AE85u;

struct Words {
    uint32_t x[4];
};

COMPVAE_HOST_DEVICE Words philox4x32_10(Words c, uint32_t k0, uint32_t k1) {
    for (int round = 0; round < 10; ++round) {
        const uint64_t p0 = uint64_t(PHILOX_M0) * c.x[0], p1 = uint64_t(PHILOX_M1) * c.x[2];
        c = {{uint32_t(p1 >> 32) ^ c.x[1] ^ k0, uint32_t(p1), uint32_t(p0 >> 32) ^ c.x[3] ^ k1, uint32_t(p0)}};
        k0 += PHILOX_W0;
        k1 += PHILOX_W1;
    }
    return c;
}

// The last counter word: the high bits of the part and of the set.
COMPVAE_HOST_DEVICE uint32_t counter_high(uint64_t set, uint64_t part) {
    return uint32_t(part >> 32) | uint32_t(set >> 32) << 16;
}

// The call that gives coordinates 4 * call .. 4 * call + 3 of one part of one set.
COMPVAE_HOST_DEVICE Words noise_counter(uint64_t set, uint64_t part, uint32_t call) {
    return {{call, uint32_t(part), uint32_t(set), counter_high(set, part)}};
}

}  // namespace compvae
