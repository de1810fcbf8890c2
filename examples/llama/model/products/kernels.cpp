// SPDX-License-Identifier: MIT
#include "llama/model/products/kernels.hpp"

#include <vector>

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__linux__) && defined(__x86_64__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace llama::detail {

namespace {

#if defined(__x86_64__)

// A bit that cpuid reports, for what GCC 12 has no name for.
bool has_feature(unsigned leaf, unsigned part, unsigned cpuid_register, unsigned bit) {
    unsigned registers[4] = {};
    if (__get_cpuid_count(leaf, part, &registers[0], &registers[1], &registers[2], &registers[3]) == 0) return false;
    return (registers[cpuid_register] >> bit & 1U) != 0;
}

// Asks the system for the tile registers, which it gives only to those who do.
bool may_use_tiles() {
#if defined(__linux__)
    constexpr long request_permission = 0x1023;
    constexpr long tile_data = 18;
    return ::syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
#else
    return false;
#endif
}

struct Processor {
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_feature(1, 0, 2, 29);
    bool avx_vnni = avx2 && has_feature(7, 1, 0, 4);
    bool avx512 = avx2 && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                  __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd");
    bool avx512_vnni = avx512 && __builtin_cpu_supports("avx512vnni");
    bool avx512_bfloat16 = avx512 && has_feature(7, 1, 0, 5);
    bool amx = avx512_bfloat16 && has_feature(7, 0, 3, 24) && has_feature(7, 0, 3, 22) && may_use_tiles();
};

#else

struct Processor {
    bool avx2 = false, avx_vnni = false, avx512_vnni = false, avx512_bfloat16 = false, amx = false;
};

#endif

template <class Kernels>
struct Candidate {
    const Kernels* kernels;
    bool runs;
};

template <class Kernels>
std::vector<const Kernels*> those_that_run(std::initializer_list<Candidate<Kernels>> candidates) {
    std::vector<const Kernels*> result;
    for (const Candidate<Kernels>& candidate : candidates) {
        if (candidate.kernels != nullptr && candidate.runs) result.push_back(candidate.kernels);
    }
    return result;
}

const Processor& processor() {
    static const Processor found;
    return found;
}

}  // namespace

std::span<const ByteKernels* const> byte_kernels() {
    const Processor& has = processor();
    static const auto all = those_that_run<ByteKernels>(
        {{avx512_vnni_bytes, has.avx512_vnni}, {avx_vnni_bytes, has.avx_vnni}, {avx2_bytes, has.avx2}});
    return all;
}

std::span<const BFloat16Kernels* const> bfloat16_kernels() {
    const Processor& has = processor();
    static const auto all =
        those_that_run<BFloat16Kernels>({{amx_bfloat16, has.amx}, {avx512_bfloat16, has.avx512_bfloat16}});
    return all;
}

}  // namespace llama::detail
