// SPDX-License-Identifier: MIT
#include "llama/program/options.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <string>

#include "llama/io/machine_memory.hpp"

namespace llama {

namespace {

// A model that was trained with a sliding window can do without one only where no token would see more.
void check_sliding_window(const Config& config, const CacheSettings& settings, Index expected_tokens,
                          const std::string& capacity_name) {
    const Index window = config.sliding_window;
    if (window == 0) return;
    if (settings.grows() && expected_tokens > window) {
        throw UsageError("--policy full: the model attends to the latest " + std::to_string(window) +
                         " tokens only, which a growing cache does not do; --policy low-pass and local-window bound "
                         "the cache instead (up to " +
                         std::to_string(window) + " tokens would do)");
    }
    if (!settings.grows() && settings.sizes.capacity > window) {
        throw UsageError(capacity_name + " " + std::to_string(settings.sizes.capacity) +
                         ": the model attends to the latest " + std::to_string(window) +
                         " tokens only, so its cache must not hold more");
    }
}

}  // namespace

void check_options(const PolicyOptions& options) {
    if (traits_of(options.policy).grows && (options.capacity || options.sinks || options.recent || options.ratio)) {
        throw UsageError(
            "--policy full: the cache grows, so --capacity, --sinks, --recent and --ratio have no meaning");
    }
    if (options.ratio && !(*options.ratio > 0 && *options.ratio < 1)) {
        throw UsageError("--ratio: " + std::to_string(*options.ratio) + " is not between 0 and 1, both excluded");
    }
}

void warn_of_capacity(const Config& config, const CacheSettings& settings) {
    if (settings.grows() || settings.sizes.capacity <= config.context) return;
    std::fprintf(stderr, "freqkv-llama: warning: %s %lld is above the %lld tokens the model was trained on\n",
                 settings.sizes.head_capacities.empty() ? "--capacity" : "the largest head's capacity",
                 static_cast<long long>(settings.sizes.capacity), static_cast<long long>(config.context));
}

void check_capacity(const Config& config, const CacheSettings& settings) {
    if (settings.grows()) return;
    const Index bytes = cache_bytes(config, settings.sizes, settings.type);
    const std::int64_t memory = machine_memory();
    if (memory > 0 && bytes >= memory) {
        throw std::runtime_error("a cache of " + std::to_string(settings.sizes.capacity) + " entries needs " +
                                 std::to_string(bytes >> 20) + " MiB, the machine has " + std::to_string(memory >> 20) +
                                 " MiB; a smaller --capacity or --cache-type bf16 needs less");
    }
    warn_of_capacity(config, settings);
}

CacheSettings resolve(const PolicyOptions& options, const Config& config, Index expected_tokens,
                      const std::string& capacity_name) {
    check_options(options);
    CacheSettings settings{options.policy, CacheType::f32, {}, options.ratio.value_or(0.5)};
    if (settings.grows()) {
        check_sliding_window(config, settings, expected_tokens, capacity_name);
        settings.sizes = {std::min(expected_tokens, Index{1} << 16), 0, 0, expected_tokens};
        return settings;
    }
    const Index window = config.sliding_window > 0 ? std::min(config.sliding_window, config.context) : config.context;
    const Index capacity = options.capacity.value_or(window);
    settings.sizes = {capacity, options.sinks.value_or(4),
                      options.recent.value_or(std::min(traits_of(options.policy).recent, capacity / 4))};
    check_sliding_window(config, settings, expected_tokens, capacity_name);
    const std::string what =
        (options.capacity ? capacity_name + " " : "the trained window of ") + std::to_string(settings.sizes.capacity) +
        ", --sinks " + std::to_string(settings.sizes.sinks) + ", --recent " + std::to_string(settings.sizes.recent);
    if (settings.span() < 2) throw UsageError(what + ": the capacity must be at least sinks + recent + 2");
    if (settings.kept() < 1) {
        throw UsageError("--ratio: " + std::to_string(settings.ratio) + " keeps nothing of the " +
                         std::to_string(settings.span()) + " entries between sinks and recent part");
    }
    return settings;
}

}  // namespace llama
