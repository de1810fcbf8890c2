// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "freqkv/error.hpp"
#include "llama/model/config.hpp"

// What a cache can be: everything that has a case for each policy or each type switches over these enums without a
// default, so that the compiler names the places that a new one needs.
namespace llama {

/// What becomes of a full cache.
enum class PolicyName : std::uint8_t { low_pass, local_window, full, low_pass_unscaled };

struct PolicyTraits {
    const char* name;        ///< on the command line and in JSON
    bool grows;              ///< with the text
    bool dct;                ///< a compression is a DCT of its span
    bool for_training_only;  ///< shows what a part of a policy is for, and is no use otherwise
};

constexpr PolicyTraits traits_of(PolicyName policy) {
    switch (policy) {
        case PolicyName::low_pass:
            return {"low-pass", false, true, false};
        case PolicyName::local_window:
            return {"local-window", false, false, false};
        case PolicyName::full:
            return {"full", true, false, false};
        case PolicyName::low_pass_unscaled:
            return {"low-pass-unscaled", false, true, true};
    }
    return {};
}

/// All values of an enum that has traits, in its order, which is that in which they are listed to people.
template <class Enum>
inline constexpr auto all_of = [] {
    constexpr auto count = [] {
        std::size_t n = 0;
        while (traits_of(static_cast<Enum>(n)).name != nullptr) ++n;
        return n;
    }();
    std::array<Enum, count> all{};
    for (std::size_t i = 0; i < count; ++i) all[i] = static_cast<Enum>(i);
    return all;
}();

constexpr const char* to_string(PolicyName policy) { return traits_of(policy).name; }

/// None of another name.
constexpr std::optional<PolicyName> find_policy(std::string_view name) {
    for (const PolicyName policy : all_of<PolicyName>) {
        if (name == to_string(policy)) return policy;
    }
    return std::nullopt;
}

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
