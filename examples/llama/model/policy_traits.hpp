// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "freqkv/config.hpp"

// The policies by name. Everything that has a case for each of them switches over the enum without a default, so that
// the compiler names the places that a new one needs.
namespace llama {

using freqkv::Index;

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
    block_mean,
    merge,
    snap_kv_and_low_pass,
    heavy_hitters_and_low_pass,
    residual_and_low_pass,
    tiers,
    equal_weight,
    full,
    low_pass_unscaled
};

/// Who can be asked to run a policy.
enum class PolicyUse : std::uint8_t {
    anywhere,
    host,      ///< neither a GPU nor training
    training,  ///< training alone: it shows what a part of a policy is for
};

/// A number that a policy's name may be followed by, as in `snapkv:pool=1`.
struct PolicyParameter {
    const char* name = nullptr;
    const char* what = nullptr;
    double standard = 0;  ///< unless it is given
    double least = 0;
    double most = 0;
    enum class Kind : std::uint8_t { any, whole, odd } kind = Kind::any;
};

inline constexpr std::size_t most_policy_parameters = 3;

struct PolicyTraits {
    const char* name = nullptr;  ///< on the command line and in JSON
    PolicyUse use = PolicyUse::anywhere;
    const char* what = nullptr;    ///< it does, in a sentence
    const char* source = nullptr;  ///< of the idea
    const char* cost = nullptr;    ///< beside moving what is kept
    bool grows = false;            ///< with the text
    bool dct = false;              ///< a compression is a DCT of what it takes
    bool whole_span = true;        ///< which is all between sinks and recent part
    bool has_ratio = true;         ///< of what it takes and what is left of it
    bool sums_attention = false;   ///< of each entry
    Index queries = 0;             ///< latest ones, for which it has memory
    bool chooses = false;          ///< entries, so that it should be asked late and often
    std::array<PolicyParameter, most_policy_parameters> parameters{};  ///< those that have a name
};

constexpr PolicyTraits traits_of(PolicyName policy) {
    constexpr PolicyUse host = PolicyUse::host;
    constexpr PolicyUse anywhere = PolicyUse::anywhere;
    constexpr PolicyParameter::Kind whole = PolicyParameter::Kind::whole;
    constexpr PolicyParameter window{"window", "latest queries that are asked", 32, 1, 32, whole};
    constexpr PolicyParameter pool{
        "pool", "neighbours that get the highest score among them", 7, 1, 63, PolicyParameter::Kind::odd};
    constexpr PolicyParameter decay{"decay", "what is left of an entry's attention with each token", 1, 0.001, 1};
    constexpr PolicyParameter mean{"mean", "1: attention per token since the entry came, 0: in all", 0, 0, 1, whole};
    constexpr PolicyParameter share{"share", "of the kept entries that stay exactly as they are", 0.5, 0, 0.99};
    constexpr PolicyParameter reach{"reach", "entries on each side that one may go into", 16, 1, 1048576, whole};
    switch (policy) {
        case PolicyName::low_pass:
            return {.name = "low-pass",
                    .use = anywhere,
                    .what = "the low frequencies of what is compressed stay",
                    .source = "FreqKV, arXiv 2505.00570",
                    .cost = "a DCT of keys and values",
                    .dct = true};
        case PolicyName::local_window:
            return {.name = "local-window",
                    .use = anywhere,
                    .what = "the latest entries stay",
                    .source = "StreamingLLM, arXiv 2309.17453",
                    .cost = "none"};
        case PolicyName::snap_kv:
            return {.name = "snapkv",
                    .use = host,
                    .what = "the entries that the latest queries look at stay, with their neighbours",
                    .source = "SnapKV, arXiv 2404.14469",
                    .cost = "32 queries are kept, and asked again at a compression",
                    .queries = 32,
                    .chooses = true,
                    .parameters = {window, pool}};
        case PolicyName::tova:
            return {.name = "tova",
                    .use = host,
                    .what = "the entries that the latest query looks at stay",
                    .source = "TOVA, arXiv 2401.06104",
                    .cost = "one query is kept, and asked again at a compression",
                    .queries = 1,
                    .chooses = true};
        case PolicyName::heavy_hitters:
            return {.name = "h2o",
                    .use = host,
                    .what = "the entries that all queries together have looked at most stay",
                    .source = "H2O, arXiv 2306.14048",
                    .cost = "a number for each entry; prompts are read more slowly",
                    .sums_attention = true,
                    .chooses = true,
                    .parameters = {decay, mean}};
        case PolicyName::key_diff:
            return {.name = "key-diff",
                    .use = host,
                    .what = "the entries whose keys are least like the others stay",
                    .source = "KeyDiff, arXiv 2504.15364",
                    .cost = "all keys are read twice at a compression",
                    .chooses = true};
        case PolicyName::key_norm:
            return {.name = "key-norm",
                    .use = host,
                    .what = "the entries with the shortest keys stay",
                    .source = "arXiv 2406.11430",
                    .cost = "keys are read once at a compression",
                    .chooses = true};
        case PolicyName::value_norm:
            return {.name = "value-norm",
                    .use = host,
                    .what = "the entries with the longest values stay",
                    .source = "what is left of VATP, arXiv 2406.12335, without attention",
                    .cost = "values are read once at a compression",
                    .chooses = true};
        case PolicyName::block_mean:
            return {.name = "mean",
                    .use = host,
                    .what = "neighbours become their mean",
                    .source = "pooling; Haar's low-pass where lengths are powers of 2",
                    .cost = "a sum of keys and values"};
        case PolicyName::merge:
            return {.name = "merge",
                    .use = host,
                    .what = "entries with similar keys become their mean",
                    .source = "ToMe, arXiv 2210.09461, on a cache as in KVMerger, arXiv 2407.08454",
                    .cost = "each key is compared with its neighbours at a compression",
                    .parameters = {reach}};
        case PolicyName::snap_kv_and_low_pass:
            return {.name = "snapkv+low-pass",
                    .use = host,
                    .what = "the entries that the latest queries look at stay, and the low frequencies of the others",
                    .source = "this library",
                    .cost = "those of snapkv and of low-pass",
                    .dct = true,
                    .queries = 32,
                    .chooses = true,
                    .parameters = {share, window, pool}};
        case PolicyName::heavy_hitters_and_low_pass:
            return {.name = "h2o+low-pass",
                    .use = host,
                    .what = "the entries that have been looked at most stay, and the low frequencies of the others",
                    .source = "this library",
                    .cost = "those of h2o and of low-pass",
                    .dct = true,
                    .sums_attention = true,
                    .chooses = true,
                    .parameters = {share, decay, mean}};
        case PolicyName::residual_and_low_pass:
            return {.name = "residual+low-pass",
                    .use = host,
                    .what = "the entries that a low-pass would change most stay, and the low frequencies of the others",
                    .source = "this library",
                    .cost = "five times that of low-pass",
                    .dct = true,
                    .chooses = true,
                    .parameters = {share}};
        case PolicyName::tiers:
            return {
                .name = "tiers",
                .use = host,
                .what = "the low frequencies stay, at a resolution that falls with the age of the text",
                .source = "this library",
                .cost = "small DCTs more often",
                .dct = true,
                .whole_span = false,
                .has_ratio = false,
                .parameters = {PolicyParameter{"tiers", "resolutions, each half of the one before", 6, 1, 31, whole}}};
        case PolicyName::equal_weight:
            return {.name = "equal-weight",
                    .use = host,
                    .what = "the low frequencies stay, at the same resolution for all of the past",
                    .source = "after FAEDKV, arXiv 2507.20030",
                    .cost = "a DCT of keys and values",
                    .dct = true,
                    .whole_span = false};
        case PolicyName::full:
            return {.name = "full",
                    .use = anywhere,
                    .what = "everything stays, and the cache grows with the text",
                    .source = "what engines do today",
                    .cost = "memory and time that grow with the text",
                    .grows = true,
                    .has_ratio = false};
        case PolicyName::low_pass_unscaled:
            return {.name = "low-pass-unscaled",
                    .use = PolicyUse::training,
                    .what = "the low frequencies stay, with amplitudes that are not restored",
                    .source = "FreqKV, Figure 6",
                    .cost = "a DCT of keys and values",
                    .dct = true};
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

/// A policy and its numbers, in the order of its traits; those that were not given have their standard value.
struct PolicyChoice {
    PolicyName name = PolicyName::low_pass;
    std::array<std::optional<double>, most_policy_parameters> given{};

    /// The parameter of that name, which the policy must have.
    constexpr double parameter(std::string_view name_of_it) const {
        const PolicyTraits traits = traits_of(name);
        std::size_t i = 0;
        while (name_of_it != traits.parameters[i].name) ++i;
        return given[i].value_or(traits.parameters[i].standard);
    }
};

}  // namespace llama
