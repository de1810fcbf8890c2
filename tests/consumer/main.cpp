// SPDX-License-Identifier: MIT
#include <cmath>
#include <iostream>
#include <vector>

#include "consumer.hpp"

int main() {
    // A constant passes a low-pass unchanged.
    std::vector<float> values(100 * 3, 2.5F);
    freqkv::Workspace workspace;
    const freqkv::KVView<float> view(values.data(), 1, 100, 3);
    freqkv::FrequencyCompressor<float, Backend>(100, 50).forward<float>(view, view.middle_tokens(0, 50), workspace);
    if (std::abs(values[0] - 2.5F) > 1e-5F || std::abs(values[50 * 3 - 1] - 2.5F) > 1e-5F) {
        std::cerr << "a constant came back as " << values[0] << '\n';
        return 1;
    }

    // 16 entries are full; the 17th token compresses the 12 behind the sinks to 6 and is appended.
    if (entries_after(17) != 11) {
        std::cerr << "17 tokens left " << entries_after(17) << " entries\n";
        return 1;
    }
}
