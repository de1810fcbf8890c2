// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "freqkv/error.hpp"
#include "llama/model/config.hpp"
#include "llama/model/policy_traits.hpp"

// What a cache can be: everything that has a case for each policy or each type switches over these enums without a
// default, so that the compiler names the places that a new one needs.
namespace llama {

/// How keys and values are stored.
enum class CacheType : std::uint8_t { f32, f16, bf16 };

struct CacheTypeTraits {
    const char* name;  ///< on the command line and in JSON
    Index bytes;       ///< of an element
};

constexpr CacheTypeTraits traits_of(CacheType type) {
    switch (type) {
        case CacheType::f32:
            return {"f32", 4};
        case CacheType::f16:
            return {"f16", 2};
        case CacheType::bf16:
            return {"bf16", 2};
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
    Index kept() const { return static_cast<Index>(ratio * static_cast<double>(span())); }
};

/// Bytes of the keys and values of all layers, `entries` in each head; local layers have their window.
inline Index cache_bytes(const Config& config, Index entries, CacheType type) {
    const Index local = config.count_local_layers();
    return freqkv::checked_product("cache size in bytes", 2,
                                   freqkv::checked_product("cache entries", entries, config.layers - local) +
                                       freqkv::checked_product("cache entries", config.local_capacity(), local),
                                   config.kv_dim(), traits_of(type).bytes);
}

}  // namespace llama
