// SPDX-License-Identifier: MIT
#include <cmath>
#include <cstdio>

// The linker keeps one of each pair of equal names; parts for different processors must not have any in common.
double compress_x86_64();
double compress_x86_64_v3();
double compress_x86_64_v4();

int main() {
    const double expected = compress_x86_64();
    bool right = std::isfinite(expected) && expected != 0;
    const auto check = [&](const char* processor, bool runs, double (*part)()) {
        if (!runs) {
            std::printf("%s: this processor is none\n", processor);
            return;
        }
        const double sum = part();
        std::printf("%s: %.9g, x86-64: %.9g\n", processor, sum, expected);
        right = right && std::abs(sum - expected) <= 1e-3 * std::abs(expected);
    };
    check("x86-64-v3", __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0, compress_x86_64_v3);
    check("x86-64-v4", __builtin_cpu_supports("avx512bw") != 0 && __builtin_cpu_supports("avx512vl") != 0,
          compress_x86_64_v4);
    return right ? 0 : 1;
}
