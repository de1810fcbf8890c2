// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

#include "freqkv/config.hpp"
#include "freqkv/error.hpp"

namespace freqkv {

/// Which two dimensions turn together.
enum class RopePairing {
    adjacent,    ///< (2i, 2i + 1): the original Llama weights, llama2.c, GGUF "NORM"
    half_split,  ///< (i, i + rotated_dims / 2): Hugging Face Llama, Qwen, GPT-NeoX, GGUF "NEOX"
};

/// Rotary position embedding (Su et al. 2021). Pair i turns by position * theta_i with
/// theta_i = base^(-2i / rotated_dims) / frequency_factors[i] / linear_scaling.
struct RopeOptions {
    Index head_dim = 0;       ///< dimensions of one key
    Index rotated_dims = -1;  ///< the first that many dimensions rotate (even); -1: all, 0: none
    double base = 10000;      ///< > 0
    RopePairing pairing = RopePairing::adjacent;
    double linear_scaling = 1;                ///< > 0; positions are divided by it (linear position interpolation)
    std::vector<double> frequency_factors{};  ///< > 0, one for each pair; empty: all 1
};

/// theta_i of every pair, in radians for each position. Throws Error for an option outside its range.
[[gnu::cold]] inline std::vector<double> rope_frequencies(const RopeOptions& options) {
    require(options.head_dim >= 1, "head_dim", options.head_dim, "must be at least 1");
    const Index rotated = options.rotated_dims == -1 ? options.head_dim : options.rotated_dims;
    require(rotated >= 0 && rotated % 2 == 0 && rotated <= options.head_dim, "rotated_dims", rotated,
            "must be even and not above head_dim, or -1 for all");
    const auto usable = [](double factor) { return factor > 0 && std::isfinite(factor); };
    require(usable(options.base), "base", options.base, "must be positive and finite");
    require(usable(options.linear_scaling), "linear_scaling", options.linear_scaling, "must be positive and finite");
    const auto factors = static_cast<Index>(options.frequency_factors.size());
    require(factors == 0 || factors == rotated / 2, "number of frequency_factors", factors,
            "must be 0 or rotated_dims / 2");
    std::vector<double> frequencies;
    frequencies.reserve(static_cast<std::size_t>(rotated / 2));
    for (Index i = 0; i < rotated / 2; ++i) {
        const double factor = factors == 0 ? 1.0 : options.frequency_factors[static_cast<std::size_t>(i)];
        require(usable(factor), "frequency factor", factor, "must be positive and finite");
        const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(rotated);
        frequencies.push_back(std::pow(options.base, exponent) / factor / options.linear_scaling);
    }
    return frequencies;
}

}  // namespace freqkv
