// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "freqkv/cache_options.hpp"
#include "freqkv/error.hpp"
#include "freqkv/packed.hpp"
#include "freqkv/policy/report.hpp"
#include "llama/model/config.hpp"
#include "llama/model/policy_traits.hpp"

// What a cache can be: everything that has a case for each policy or each type switches over these enums without a
// default, so that the compiler names the places that a new one needs.
namespace llama {

/// How keys and values are stored.
enum class CacheType : std::uint8_t { f32, f16, bf16, q8, q4, q2 };

struct CacheTypeTraits {
    const char* name = nullptr;  ///< on the command line and in JSON
    Index bytes = 0;             ///< of a group
    Index group = 1;             ///< elements that are stored together

    constexpr bool packed() const { return group > 1; }
    constexpr Index row_bytes(Index elements) const { return (elements + group - 1) / group * bytes; }
};

constexpr CacheTypeTraits traits_of(CacheType type) {
    switch (type) {
        case CacheType::f32:
            return {"f32", 4};
        case CacheType::f16:
            return {"f16", 2};
        case CacheType::bf16:
            return {"bf16", 2};
        case CacheType::q8:
            return {"q8", sizeof(freqkv::Packed<8>), freqkv::Packed<8>::group};
        case CacheType::q4:
            return {"q4", sizeof(freqkv::Packed<4>), freqkv::Packed<4>::group};
        case CacheType::q2:
            return {"q2", sizeof(freqkv::Packed<2>), freqkv::Packed<2>::group};
    }
    return {};
}

constexpr const char* to_string(CacheType type) { return traits_of(type).name; }

/// None of another name.
constexpr std::optional<CacheType> find_cache_type(std::string_view name) {
    for (const CacheType type : all_of<CacheType>) {
        if (name == to_string(type)) return type;
    }
    return std::nullopt;
}

/// The cache of one model.
struct CacheSettings {
    PolicyName policy = PolicyName::low_pass;
    CacheType type = CacheType::f32;
    CacheSizes sizes{};
    double ratio = 0.5;  ///< part that a compression keeps; of no meaning where the cache grows
    std::array<std::optional<double>, most_policy_parameters> parameters{};  ///< as PolicyChoice::given

    double parameter(std::string_view name) const { return PolicyChoice{policy, parameters}.parameter(name); }

    bool grows() const { return traits_of(policy).grows; }
    Index span() const { return sizes.capacity - sizes.sinks - sizes.recent; }
    Index kept() const { return kept_of(span()); }
    Index kept_of(Index entries) const { return static_cast<Index>(ratio * static_cast<double>(entries)); }
    /// The least that a head can have.
    Index least_capacity() const {
        if (policy == PolicyName::tiers) {  // two blocks of each, and two as they came
            return sizes.sinks + sizes.recent + 2 * (static_cast<Index>(parameter("tiers")) + 1);
        }
        // Entries that are kept, and that are not: each is a span of its own where the past has equal weight.
        const Index of_both = policy == PolicyName::equal_weight ? 2 : 1;
        Index least = std::max({Index{2}, static_cast<Index>(1 / ratio),
                                static_cast<Index>(static_cast<double>(of_both - 1) / (1 - ratio))});
        while (kept_of(least) < of_both || least - kept_of(least) < of_both) ++least;  // by rounding
        return sizes.sinks + sizes.recent + least;
    }
};

/// Entries of a packed type that stay in 16 bits.
inline freqkv::ExactParts exact_parts(Index sinks) { return {sinks, freqkv::CacheOptions{}.exact}; }

/// Bytes of the keys and values of a head of `capacity` entries.
inline Index head_bytes(const Config& config, Index capacity, Index sinks, CacheType type) {
    const Index row_bytes = traits_of(type).row_bytes(config.head_dim);
    if (!traits_of(type).packed()) return freqkv::checked_product("cache size in bytes", 2, capacity, row_bytes);
    freqkv::checked_product("cache size in bytes", 4, capacity, config.head_dim);  // if all of it were in 16 bits
    return 2 * exact_parts(sinks).bytes(capacity, config.head_dim, row_bytes);
}

/// Bytes of the keys and values of all layers, `entries` in each head; local layers have their window.
inline Index cache_bytes(const Config& config, Index entries, CacheType type, Index sinks = 0) {
    const Index local = config.count_local_layers();
    return freqkv::checked_product(
        "cache size in bytes", config.kv_heads,
        freqkv::checked_product("cache size in bytes", head_bytes(config, entries, sinks, type),
                                config.layers - local) +
            freqkv::checked_product("cache size in bytes", head_bytes(config, config.local_capacity(), 0, type),
                                    local));
}

/// Entries of all heads that see the whole text.
inline Index count_entries(const Config& config, const CacheSizes& sizes) {
    if (sizes.head_capacities.empty()) {
        return freqkv::checked_product("cache entries", sizes.capacity, config.layers - config.count_local_layers(),
                                       config.kv_heads);
    }
    Index entries = 0;
    for (Index l = 0; l < config.layers; ++l) {
        for (Index h = 0; h < config.kv_heads && !config.kind(l).local; ++h) entries += sizes.capacity_of(l, h);
    }
    return entries;
}

/// The same where heads may differ.
inline Index cache_bytes(const Config& config, const CacheSizes& sizes, CacheType type) {
    if (sizes.head_capacities.empty()) return cache_bytes(config, sizes.capacity, type, sizes.sinks);
    Index bytes = cache_bytes(config, 0, type);
    for (Index l = 0; l < config.layers; ++l) {
        for (Index h = 0; h < config.kv_heads && !config.kind(l).local; ++h) {
            bytes += head_bytes(config, sizes.capacity_of(l, h), sizes.sinks, type);
        }
    }
    return bytes;
}

/// Bytes that a cache on the processor holds beside keys and values: where each entry comes from, and what the policy
/// reads of queries or attention.
struct Bookkeeping {
    Index of_entry = 0;  ///< of each head that sees the whole text
    Index fixed = 0;     ///< of all layers

    Bookkeeping(const Config& config, PolicyName policy, bool weighted = false) {
        constexpr Index range = sizeof(freqkv::TokenRange);
        const Index local = config.count_local_layers();
        const PolicyTraits traits = traits_of(policy);
        of_entry = range + ((traits.sums_attention ? 1 : 0) + (weighted ? 2 : 0)) * static_cast<Index>(sizeof(float));
        fixed = traits.queries * (config.layers - local) * config.query_dim() * static_cast<Index>(sizeof(float)) +
                range * local * config.kv_heads * config.local_capacity();
    }

    Index bytes(const Config& config, const CacheSizes& sizes) const {
        return freqkv::checked_product("bookkeeping in bytes", of_entry, count_entries(config, sizes)) + fixed;
    }
};

}  // namespace llama
