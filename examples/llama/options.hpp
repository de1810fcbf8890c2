// SPDX-License-Identifier: MIT
#pragma once

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

#include "freqkv/error.hpp"
#include "llama/config.hpp"

// The options that all commands have.
namespace llama {

/// The command line was refused: exit status 2.
class UsageError : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// As given on the command line.
struct ModelOptions {
    std::string model;
    std::string policy = "low-pass";
    std::optional<Index> capacity, sinks, recent;
    std::optional<double> ratio;
    std::string cache_type = "f32";
    int threads = 0;
    Index prefill_chunk = 512;
};

inline void add_model_options(CLI::App& command, ModelOptions& options) {
    const std::string group = "Model and cache";
    command.add_option("--model", options.model, "llama2.c checkpoint (legacy or version 1, float32)")
        ->required()
        ->type_name("FILE")
        ->group(group);
    command.add_option("--policy", options.policy, "What becomes of a full cache")
        ->check(CLI::IsMember(std::vector<std::string>{"low-pass", "local-window", "full"}))
        ->capture_default_str()
        ->group(group);
    command.add_option("--capacity", options.capacity, "Entries of the cache [the model's trained context]")
        ->check(CLI::PositiveNumber)
        ->type_name("N")
        ->group(group);
    command.add_option("--sinks", options.sinks, "First entries that are kept as they are [4]")
        ->check(CLI::NonNegativeNumber)
        ->type_name("N")
        ->group(group);
    command.add_option("--recent", options.recent, "Latest entries that a compression leaves as they are [0]")
        ->check(CLI::NonNegativeNumber)
        ->type_name("N")
        ->group(group);
    command.add_option("--ratio", options.ratio, "Part that a compression keeps of what lies between them [0.5]")
        ->type_name("R")
        ->group(group);
    command.add_option("--cache-type", options.cache_type, "How keys and values are stored")
        ->check(CLI::IsMember(std::vector<std::string>{"f32", "f16", "bf16"}))
        ->capture_default_str()
        ->group(group);
    command.add_option("--threads", options.threads, "Threads; the result does not depend on them [all cores]")
        ->check(CLI::Range(1, 1024))
        ->type_name("N")
        ->group(group);
    command.add_option("--prefill-chunk", options.prefill_chunk, "Tokens that are fed at once")
        ->check(CLI::PositiveNumber)
        ->capture_default_str()
        ->type_name("N")
        ->group(group);
}

/// What the options come to for one model.
struct CacheSettings {
    std::string policy;
    std::string type;
    CacheSizes sizes;
    double ratio = 0.5;

    bool grows() const { return policy == "full"; }
    Index span() const { return sizes.capacity - sizes.sinks - sizes.recent; }
    Index kept() const { return static_cast<Index>(ratio * static_cast<double>(span())); }
};

inline Index element_bytes(const std::string& cache_type) { return cache_type == "f32" ? 4 : 2; }

/// Bytes of the keys and values of all layers, `entries` in each head.
inline Index cache_bytes(const Config& config, Index entries, Index bytes_per_element) {
    return freqkv::checked_product("cache size in bytes", 2 * entries, config.layers, config.kv_dim(),
                                   bytes_per_element);
}

/// Throws UsageError for what can be refused without looking at the model.
inline void check_options(const ModelOptions& options) {
    if (options.policy == "full" && (options.capacity || options.sinks || options.recent || options.ratio)) {
        throw UsageError(
            "--policy full: the cache grows, so --capacity, --sinks, --recent and --ratio have no meaning");
    }
    if (options.ratio && !(*options.ratio > 0 && *options.ratio < 1)) {
        throw UsageError("--ratio: " + std::to_string(*options.ratio) + " is not between 0 and 1, both excluded");
    }
    constexpr Index most = Index{1} << 32;
    for (const auto& [name, value] : {std::pair{"--capacity", options.capacity}, std::pair{"--sinks", options.sinks},
                                      std::pair{"--recent", options.recent}}) {
        if (value && *value > most)
            throw UsageError(std::string(name) + ": " + std::to_string(*value) + " is too large");
    }
}

/// Fills in the defaults and checks the sizes against each other and the model. A growing cache gets
/// `expected_tokens` as its first size. Throws UsageError; warns on standard error.
inline CacheSettings resolve(const ModelOptions& options, const Config& config, Index expected_tokens) {
    check_options(options);
    CacheSettings settings{options.policy, options.cache_type, {}, options.ratio.value_or(0.5)};
    if (settings.grows()) {
        settings.sizes = {std::min(expected_tokens, Index{1} << 16), 0, 0};
        return settings;
    }
    settings.sizes = {options.capacity.value_or(config.context), options.sinks.value_or(4), options.recent.value_or(0)};
    const std::string what =
        (options.capacity ? "--capacity " : "the trained context of ") + std::to_string(settings.sizes.capacity) +
        ", --sinks " + std::to_string(settings.sizes.sinks) + ", --recent " + std::to_string(settings.sizes.recent);
    if (settings.span() < 2) throw UsageError(what + ": the capacity must be at least sinks + recent + 2");
    if (settings.kept() < 1) {
        throw UsageError("--ratio: " + std::to_string(settings.ratio) + " keeps nothing of the " +
                         std::to_string(settings.span()) + " entries between sinks and recent part");
    }
    // Unused memory is not touched, so a cache that is too large would be noticed late and badly.
    const Index bytes = cache_bytes(config, settings.sizes.capacity, element_bytes(settings.type));
    const long pages = ::sysconf(_SC_PHYS_PAGES);
    const long page = ::sysconf(_SC_PAGESIZE);
    if (pages > 0 && page > 0 && bytes / page >= pages) {
        throw std::runtime_error(what + ": the cache would need " + std::to_string(bytes >> 20) +
                                 " MiB, the machine has " + std::to_string(pages / (1048576 / page)) + " MiB");
    }
    if (settings.sizes.capacity > config.context) {
        std::fprintf(stderr,
                     "freqkv-llama: warning: --capacity %lld is above the %lld tokens the model was trained on\n",
                     static_cast<long long>(settings.sizes.capacity), static_cast<long long>(config.context));
    }
    return settings;
}

}  // namespace llama
