// SPDX-License-Identifier: MIT
// Races on purpose: the thread sanitizer has to report it.
#include <iostream>

int main() {
    long sum = 0;
#pragma omp parallel for num_threads(4)
    for (long i = 0; i < 10000; ++i) sum += i;
    std::cout << sum << '\n';
}
