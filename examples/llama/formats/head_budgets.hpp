// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "llama/model/config.hpp"

namespace llama {

/// How many entries each head of a model has, as `freqkv-llama calibrate` found it, and what they are for.
struct HeadBudgets {
    std::uint64_t weights = 0;  ///< fingerprint of the model
    Index sinks = 0;
    Index recent = 0;
    double ratio = 0.5;
    std::vector<std::vector<Index>> capacities;  ///< [layers][kv_heads]; of a local layer empty

    Index largest_capacity() const;
};

/// Throws FileError for what is no such file, and for one of a model with other layers, heads or windows; sizes are
/// compared with `config` before anything is made of them. Whether it is for these weights is another question.
HeadBudgets read_head_budgets(const std::string& path, const Config& config);

/// The 16 digits in which the file has a fingerprint.
std::string fingerprint_digits(std::uint64_t fingerprint);

}  // namespace llama
