#include "dispatch.h"

#ifdef COMPVAE_X86
#include <cpuid.h>
#endif

namespace compvae {
namespace {

#define COMPVAE_ENTRY(operation, arguments) COMPVAE_ISA_NAME::operation,
#ifdef COMPVAE_X86
#define COMPVAE_ISA_NAME avx512
const Kernels AVX512 = {"avx512", COMPVAE_KERNELS(COMPVAE_ENTRY)};
#undef COMPVAE_ISA_NAME
#define COMPVAE_ISA_NAME avx2
const Kernels AVX2 = {"avx2", COMPVAE_KERNELS(COMPVAE_ENTRY)};
#undef COMPVAE_ISA_NAME
#endif
#define COMPVAE_ISA_NAME portable
const Kernels PORTABLE = {"portable", COMPVAE_KERNELS(COMPVAE_ENTRY)};
#undef COMPVAE_ISA_NAME

#ifdef COMPVAE_X86
// __builtin_cpu_supports knows this one with GCC alone.
bool has_f16c() {
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

std::vector<const Kernels*> runnable() {
    std::vector<const Kernels*> list;
#ifdef COMPVAE_X86
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl"))
        list.push_back(&AVX512);
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2") && has_f16c())
        list.push_back(&AVX2);
#endif
    list.push_back(&PORTABLE);
    return list;
}

const Kernels* chosen = runnable().front();

}  // namespace

const Kernels& kernels() { return *chosen; }

std::vector<std::string> instruction_sets() {
    std::vector<std::string> names;
    for (const Kernels* k : runnable()) names.push_back(k->name);
    return names;
}

bool use_instruction_set(const std::string& name) {
    for (const Kernels* k : runnable())
        if (k->name == name) {
            chosen = k;
            return true;
        }
    return false;
}

}  // namespace compvae
