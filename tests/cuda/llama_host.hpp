// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "llama/model/cache_settings.hpp"
#include "llama/model/checkpoint.hpp"
#include "llama/model/config.hpp"
#include "llama/model/weights.hpp"

// What tests of a Llama on a device need of the host: in sources of its own, for no CUDA compiler has to read JSON or
// the host's caches.
namespace llama::test {

/// The caches of one layer right after a compression, un-rotated.
struct GoldenState {
    Index layer = 0;
    Index compression = 0;
    Index size = 0;
    std::vector<double> keys;    ///< [size, kv_heads, head_dim]
    std::vector<double> values;  ///< [size, kv_heads, head_dim]
};

/// A run of the reference implementation in double.
struct GoldenCase {
    std::string policy;
    CacheSizes sizes;
    double ratio = 0.5;
    std::vector<Token> tokens;
    std::vector<double> losses;  ///< of tokens[1..]
    double perplexity = 0;
    Index compressions = 0;
    Index final_size = 0;
    std::vector<GoldenState> states;
};

/// None where there are no golden files.
std::optional<GoldenCase> read_golden_case(const std::string& name);

/// The model that golden cases are of.
Checkpoint open_golden_model();

double loss_of(std::span<const float> logits, Token target);

/// A checkpoint of random weights.
Checkpoint random_model(Config config, std::uint64_t seed);

/// The same weights, stored as `type`; a quantised one has to be Q8_0.
Checkpoint stored_as(const Checkpoint& checkpoint, WeightType type);

/// Random biases of q, k and v, which are not small.
void add_biases(Checkpoint& checkpoint, std::uint64_t seed);

/// The logits after each token that the host's Llama gives with a cache of float, [tokens, vocabulary].
std::vector<float> host_logits(const Checkpoint& checkpoint, const CacheSettings& settings,
                               std::span<const Token> tokens);

}  // namespace llama::test
