// SPDX-License-Identifier: MIT
#pragma once

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <limits>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <system_error>
#include <type_traits>
#include <vector>

#include <CLI/CLI.hpp>

#include "freqkv/error.hpp"
#include "llama/io/usage_error.hpp"
#include "llama/model/config.hpp"

// The options that all commands have.
namespace llama {

/// What becomes of a full cache, as given on the command line.
struct PolicyOptions {
    std::string policy = "low-pass";
    std::optional<Index> capacity, sinks, recent;
    std::optional<double> ratio;
};

/// As given on the command line.
struct ModelOptions : PolicyOptions {
    std::string model;
    std::string adapter;
    std::string device = "cpu";
    std::optional<std::string> cache_type;
    int threads = 0;
    Index prefill_chunk = 512;
};

/// Accepts a number of type Value from `least` to `most`, both included, and says so otherwise.
template <class Value>
CLI::Validator number(Value least, Value most) {
    const auto check = [least, most](const std::string& text) -> std::string {
        Value value{};
        const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
        const bool whole = error == std::errc{} && end == text.data() + text.size();
        if (whole && value >= least && value <= most) return {};
        std::ostringstream message;
        message << '"' << text << "\" is not a " << (std::is_integral_v<Value> ? "whole " : "") << "number of at least "
                << least;
        if (most < std::numeric_limits<Value>::max()) message << " and at most " << most;
        return message.str();
    };
    return CLI::Validator(check, "");
}

inline void add_threads_option(CLI::App& command, int& threads) {
    command.add_option("--threads", threads, "Threads; the result does not depend on them [all cores]")
        ->check(number<int>(1, 1024))
        ->type_name("N");
}

inline void add_policy_options(CLI::App& command, PolicyOptions& options, const std::vector<std::string>& policies,
                               const std::string& group) {
    const auto add = [&](const char* name, auto& value, const char* description, const char* type) {
        return command.add_option(name, value, description)->type_name(type)->group(group);
    };
    add("--policy", options.policy, "What becomes of a full cache", "")
        ->check(CLI::IsMember(policies))
        ->capture_default_str();
    add("--capacity", options.capacity, "Entries of the cache [the model's trained context, or its sliding window]",
        "N")
        ->check(number<Index>(1, most_tokens));
    add("--sinks", options.sinks, "First entries that are kept as they are [4]", "N")
        ->check(number<Index>(0, most_tokens));
    add("--recent", options.recent, "Latest entries that a compression leaves as they are [0]", "N")
        ->check(number<Index>(0, most_tokens));
    add("--ratio", options.ratio, "Part that a compression keeps of what lies between them [0.5]", "R");
}

inline void add_model_options(CLI::App& command, ModelOptions& options) {
    const std::string group = "Model and cache";
    const auto add = [&](const char* name, auto& value, const char* description, const char* type) {
        return command.add_option(name, value, description)->type_name(type)->group(group);
    };
    add("--model", options.model, "Directory in Hugging Face layout, GGUF file, or llama2.c file", "PATH")->required();
    add("--adapter", options.adapter, "Directory of a LoRA adapter (PEFT), merged into the model in memory", "DIR");
    add_policy_options(command, options, {"low-pass", "local-window", "full"}, group);
    add("--cache-type", options.cache_type, "How keys and values are stored [f32]", "")
        ->check(CLI::IsMember(std::vector<std::string>{"f32", "f16", "bf16"}));
    add_threads_option(command, options.threads);
    command.get_option("--threads")->group(group);
    add("--prefill-chunk", options.prefill_chunk, "Tokens that are fed at once", "N")
        ->check(number<Index>(1, most_tokens))
        ->capture_default_str();
}

/// For the commands that run on a GPU as well; after add_model_options().
inline void add_device_option(CLI::App& command, ModelOptions& options) {
    command.add_option("--device", options.device, "Where the model runs; cuda: an NVIDIA GPU")
        ->type_name("")
        ->group("Model and cache")
        ->check(CLI::IsMember(std::vector<std::string>{"cpu", "cuda"}))
        ->capture_default_str();
    command.get_option("--cache-type")
        ->description("How keys and values are stored [f32; on a GPU that of the weights]");
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
inline void check_options(const PolicyOptions& options) {
    if (options.policy == "full" && (options.capacity || options.sinks || options.recent || options.ratio)) {
        throw UsageError(
            "--policy full: the cache grows, so --capacity, --sinks, --recent and --ratio have no meaning");
    }
    if (options.ratio && !(*options.ratio > 0 && *options.ratio < 1)) {
        throw UsageError("--ratio: " + std::to_string(*options.ratio) + " is not between 0 and 1, both excluded");
    }
}

/// Warns on standard error of a capacity that the model never saw.
inline void warn_of_capacity(const Config& config, const CacheSettings& settings) {
    if (settings.grows() || settings.sizes.capacity <= config.context) return;
    std::fprintf(stderr, "freqkv-llama: warning: --capacity %lld is above the %lld tokens the model was trained on\n",
                 static_cast<long long>(settings.sizes.capacity), static_cast<long long>(config.context));
}

/// Refuses a cache that is larger than the machine's memory. Unused memory is not touched, so it would be noticed
/// late and badly. Throws std::runtime_error; else warn_of_capacity().
inline void check_capacity(const Config& config, const CacheSettings& settings) {
    if (settings.grows()) return;
    const Index bytes = cache_bytes(config, settings.sizes.capacity, element_bytes(settings.type));
    const long pages = ::sysconf(_SC_PHYS_PAGES);
    const long page = ::sysconf(_SC_PAGESIZE);
    if (pages > 0 && page > 0 && bytes / page >= pages) {
        throw std::runtime_error("a cache of " + std::to_string(settings.sizes.capacity) + " entries needs " +
                                 std::to_string(bytes >> 20) + " MiB, the machine has " +
                                 std::to_string(pages * (page / 1024) / 1024) +
                                 " MiB; a smaller --capacity or --cache-type bf16 needs less");
    }
    warn_of_capacity(config, settings);
}

/// A model that was trained with a sliding window can do without one only where no token would see more.
inline void check_sliding_window(const Config& config, const CacheSettings& settings, Index expected_tokens) {
    const Index window = config.sliding_window;
    if (window == 0) return;
    if (settings.grows() && expected_tokens > window) {
        throw UsageError("--policy full: the model attends to the latest " + std::to_string(window) +
                         " tokens only, which a growing cache does not do; --policy low-pass and local-window bound "
                         "the cache instead (up to " +
                         std::to_string(window) + " tokens would do)");
    }
    if (!settings.grows() && settings.sizes.capacity > window) {
        throw UsageError("--capacity " + std::to_string(settings.sizes.capacity) +
                         ": the model attends to the latest " + std::to_string(window) +
                         " tokens only, so its cache must not hold more");
    }
}

/// Fills in the defaults and checks the sizes against each other and the model. A growing cache gets
/// `expected_tokens` as its first size. Throws UsageError.
inline CacheSettings resolve(const PolicyOptions& options, const Config& config, Index expected_tokens) {
    check_options(options);
    CacheSettings settings{options.policy, "f32", {}, options.ratio.value_or(0.5)};
    if (settings.grows()) {
        check_sliding_window(config, settings, expected_tokens);
        settings.sizes = {std::min(expected_tokens, Index{1} << 16), 0, 0};
        return settings;
    }
    const Index window = config.sliding_window > 0 ? std::min(config.sliding_window, config.context) : config.context;
    settings.sizes = {options.capacity.value_or(window), options.sinks.value_or(4), options.recent.value_or(0)};
    check_sliding_window(config, settings, expected_tokens);
    const std::string what =
        (options.capacity ? "--capacity " : "the trained window of ") + std::to_string(settings.sizes.capacity) +
        ", --sinks " + std::to_string(settings.sizes.sinks) + ", --recent " + std::to_string(settings.sizes.recent);
    if (settings.span() < 2) throw UsageError(what + ": the capacity must be at least sinks + recent + 2");
    if (settings.kept() < 1) {
        throw UsageError("--ratio: " + std::to_string(settings.ratio) + " keeps nothing of the " +
                         std::to_string(settings.span()) + " entries between sinks and recent part");
    }
    return settings;
}

inline CacheSettings resolve(const ModelOptions& options, const Config& config, Index expected_tokens) {
    CacheSettings settings = resolve(static_cast<const PolicyOptions&>(options), config, expected_tokens);
    settings.type = options.cache_type.value_or("f32");
    return settings;
}

}  // namespace llama
