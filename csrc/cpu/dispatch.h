// The kernels of the best instruction set that the processor has, or of the one asked for.
#pragma once
#include <string>
#include <vector>

#include "kernels.h"

namespace compvae {

struct Kernels {
    const char* name;
#define COMPVAE_POINTER(operation, arguments) void(*operation) arguments;
    COMPVAE_KERNELS(COMPVAE_POINTER)
#undef COMPVAE_POINTER
};

const Kernels& kernels();
std::vector<std::string> instruction_sets();         // those that this binary has and this processor runs, best first
bool use_instruction_set(const std::string& name);   // false where it is not among them

}  // namespace compvae
