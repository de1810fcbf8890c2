// SPDX-License-Identifier: MIT
#include "llama/formats/weights_fingerprint.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "llama/formats/hugging_face.hpp"

namespace llama {

namespace {

// As FNV-1a, of 64 bits at once. The rotation brings what only the highest bits of two words differ by, such as signs,
// down again.
std::uint64_t mix(std::uint64_t hash, std::uint64_t word) { return std::rotl(hash ^ word, 27) * 0x100000001b3; }

constexpr std::uint64_t start = 0xcbf29ce484222325;

// Words go round to several sums, which the processor computes at the same time.
std::uint64_t hash_of(std::span<const std::byte> bytes) {
    constexpr std::size_t count = 8;
    std::array<std::uint64_t, count> sums;
    sums.fill(start);
    std::array<std::uint64_t, count> words{};
    std::size_t done = 0;
    for (; done + sizeof words <= bytes.size(); done += sizeof words) {
        std::memcpy(words.data(), bytes.data() + done, sizeof words);
        for (std::size_t i = 0; i < count; ++i) sums[i] = mix(sums[i], words[i]);
    }
    words = {};
    if (done < bytes.size()) std::memcpy(words.data(), bytes.data() + done, bytes.size() - done);
    std::uint64_t hash = mix(start, bytes.size());
    for (std::size_t i = 0; i < count; ++i) hash = mix(hash, mix(sums[i], words[i]));
    return hash;
}

std::uint64_t hash_of(const NamedWeights& weights) {
    std::uint64_t hash = hash_of(std::as_bytes(std::span(weights.name)));
    hash = mix(hash, hash_of(std::as_bytes(std::span(weights.shape))));
    if (weights.matrix != nullptr) {
        const auto bytes = static_cast<std::size_t>(weights.matrix->bytes());
        return mix(mix(hash, static_cast<std::uint64_t>(weights.matrix->type)), hash_of({weights.matrix->data, bytes}));
    }
    return mix(hash, hash_of(std::as_bytes(std::span(*weights.vector, static_cast<std::size_t>(weights.shape[0])))));
}

// What is not seen in the weights.
std::uint64_t hash_of(const Config& config) {
    const RopeScaling& scaling = config.rope_scaling;
    std::uint64_t hash = start;
    for (const Index number :
         {config.heads, config.kv_heads, config.head_dim, config.sliding_window, config.local_window, config.rotation(),
          static_cast<Index>(config.activation), static_cast<Index>(config.rope_pairing),
          static_cast<Index>(scaling.type), scaling.original_context, Index{scaling.truncate}}) {
        hash = mix(hash, static_cast<std::uint64_t>(number));
    }
    for (const double number :
         {config.norm_epsilon, config.norm_offset, config.embedding_scale, config.query_scalar, config.score_cap,
          config.logit_cap, config.rope_base, config.local_rope_base, scaling.factor, scaling.beta_fast,
          scaling.beta_slow, scaling.attention_factor, scaling.low_frequency_factor, scaling.high_frequency_factor}) {
        hash = mix(hash, std::bit_cast<std::uint64_t>(number));
    }
    for (const std::vector<bool>& layers : {config.local_layers, config.unrotated_layers}) {
        for (const bool layer : layers) hash = mix(hash, std::uint64_t{layer});
        hash = mix(hash, layers.size());
    }
    hash = mix(hash, hash_of(std::as_bytes(std::span(scaling.divisors))));
    return mix(hash, hash_of(std::as_bytes(std::span(scaling.long_divisors))));
}

}  // namespace

std::uint64_t fingerprint(const Checkpoint& checkpoint, const ThreadExecutor& executor) {
    Checkpoint view = checkpoint.view();
    const std::vector<NamedWeights> weights = named_weights(view);
    std::vector<std::uint64_t> hashes(weights.size());
    executor.for_each(static_cast<Index>(weights.size()), [&](Index task, Index) {
        const auto i = static_cast<std::size_t>(task);
        hashes[i] = hash_of(weights[i]);
    });
    return mix(hash_of(checkpoint.config), hash_of(std::as_bytes(std::span(hashes))));
}

}  // namespace llama
