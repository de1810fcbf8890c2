// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "freqkv/error.hpp"
#include "freqkv/policy/report.hpp"
#include "llama/model/config.hpp"

// What a cache can be: everything that has a case for each policy or each type switches over these enums without a
// default, so that the compiler names the places that a new one needs.
namespace llama {

/// What becomes of a full cache.
enum class PolicyName : std::uint8_t {
    low_pass,
    local_window,
    snap_kv,
    tova,
    heavy_hitters,
    key_diff,
    key_norm,
    value_norm,
    full,
    low_pass_unscaled
};

/// Who can be asked to run a policy.
enum class PolicyUse : std::uint8_t {
    anywhere,
    host,      ///< neither a GPU nor training
    training,  ///< training alone: it shows what a part of a policy is for
};

struct PolicyTraits {
    const char* name = nullptr;  ///< on the command line and in JSON
    bool grows = false;          ///< with the text
    bool dct = false;            ///< a compression is a DCT of its span
    PolicyUse use = PolicyUse::anywhere;
    const char* what = nullptr;    ///< it does, in a sentence
    const char* source = nullptr;  ///< of the idea
    const char* cost = nullptr;    ///< beside moving what is kept
    Index recent = 0;              ///< latest entries that it leaves as they are unless told otherwise
};

constexpr PolicyTraits traits_of(PolicyName policy) {
    constexpr PolicyUse host = PolicyUse::host;
    switch (policy) {
        case PolicyName::low_pass:
            return {"low-pass",
                    false,
                    true,
                    PolicyUse::anywhere,
                    "the low frequencies of what is compressed stay",
                    "FreqKV, arXiv 2505.00570",
                    "a DCT of keys and values"};
        case PolicyName::local_window:
            return {"local-window",
                    false,
                    false,
                    PolicyUse::anywhere,
                    "the latest entries stay",
                    "StreamingLLM, arXiv 2309.17453",
                    "none"};
        case PolicyName::snap_kv:
            return {"snapkv",
                    false,
                    false,
                    host,
                    "the entries that the latest 32 queries look at stay, with three neighbours on each side",
                    "SnapKV, arXiv 2404.14469",
                    "32 queries are kept, and asked again at a compression",
                    32};
        case PolicyName::tova:
            return {"tova",
                    false,
                    false,
                    host,
                    "the entries that the latest query looks at stay",
                    "TOVA, arXiv 2401.06104",
                    "one query is kept, and asked again at a compression"};
        case PolicyName::heavy_hitters:
            return {"h2o",
                    false,
                    false,
                    host,
                    "the entries that all queries together have looked at most stay",
                    "H2O, arXiv 2306.14048",
                    "a number for each entry; prompts are read more slowly"};
        case PolicyName::key_diff:
            return {"key-diff",
                    false,
                    false,
                    host,
                    "the entries whose keys are least like the others stay",
                    "KeyDiff, arXiv 2504.15364",
                    "all keys are read twice at a compression"};
        case PolicyName::key_norm:
            return {"key-norm",
                    false,
                    false,
                    host,
                    "the entries with the shortest keys stay",
                    "arXiv 2406.11430",
                    "keys are read once at a compression"};
        case PolicyName::value_norm:
            return {"value-norm",
                    false,
                    false,
                    host,
                    "the entries with the longest values stay",
                    "what is left of VATP, arXiv 2406.12335, without attention",
                    "values are read once at a compression"};
        case PolicyName::full:
            return {"full",
                    true,
                    false,
                    PolicyUse::anywhere,
                    "everything stays, and the cache grows with the text",
                    "what engines do today",
                    "memory and time that grow with the text"};
        case PolicyName::low_pass_unscaled:
            return {"low-pass-unscaled",
                    false,
                    true,
                    PolicyUse::training,
                    "the low frequencies stay, with amplitudes that are not restored",
                    "FreqKV, Table 7",
                    "a DCT of keys and values"};
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
    Index kept() const { return kept_of(span()); }
    Index kept_of(Index entries) const { return static_cast<Index>(ratio * static_cast<double>(entries)); }
    /// The least that a head can have.
    Index least_capacity() const {
        Index least = std::max(Index{2}, static_cast<Index>(1 / ratio));
        while (kept_of(least) < 1) ++least;  // by rounding
        return sizes.sinks + sizes.recent + least;
    }
};

/// Bytes of the keys and values of all layers, `entries` in each head; local layers have their window.
inline Index cache_bytes(const Config& config, Index entries, CacheType type) {
    const Index local = config.count_local_layers();
    return freqkv::checked_product("cache size in bytes", 2,
                                   freqkv::checked_product("cache entries", entries, config.layers - local) +
                                       freqkv::checked_product("cache entries", config.local_capacity(), local),
                                   config.kv_dim(), traits_of(type).bytes);
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

/// The same as cache_bytes(config, capacity, type) where heads may differ.
inline Index cache_bytes(const Config& config, const CacheSizes& sizes, CacheType type) {
    return freqkv::checked_product(
        "cache size in bytes", 2,
        count_entries(config, sizes) + freqkv::checked_product("cache entries", config.local_capacity(),
                                                               config.count_local_layers(), config.kv_heads),
        config.head_dim, traits_of(type).bytes);
}

/// Bytes that a cache on the processor holds beside keys and values: where each entry comes from, and what the policy
/// reads of queries or attention.
struct Bookkeeping {
    Index of_entry = 0;  ///< of each head that sees the whole text
    Index fixed = 0;     ///< of all layers

    Bookkeeping(const Config& config, PolicyName policy) {
        constexpr Index range = sizeof(freqkv::TokenRange);
        const Index local = config.count_local_layers();
        of_entry = range + (policy == PolicyName::heavy_hitters ? static_cast<Index>(sizeof(float)) : 0);
        const Index queries = policy == PolicyName::snap_kv ? 32 : policy == PolicyName::tova ? 1 : 0;
        fixed = queries * (config.layers - local) * config.query_dim() * static_cast<Index>(sizeof(float)) +
                range * local * config.kv_heads * config.local_capacity();
    }

    Index bytes(const Config& config, const CacheSizes& sizes) const {
        return freqkv::checked_product("bookkeeping in bytes", of_entry, count_entries(config, sizes)) + fixed;
    }
};

}  // namespace llama
