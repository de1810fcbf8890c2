// SPDX-License-Identifier: MIT
#include "llama/program/options.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <system_error>

#include "llama/io/format.hpp"
#include "llama/io/in_quotes.hpp"
#include "llama/io/machine_memory.hpp"

namespace llama {

namespace {

std::string names_of_policies() {
    std::string names;
    for (const PolicyName policy : all_of<PolicyName>)
        names += (names.empty() ? "" : ", ") + std::string(to_string(policy));
    return names;
}

std::string describe(const PolicyParameter& parameter) {
    const char* const kind = parameter.kind == PolicyParameter::Kind::odd     ? "odd, "
                             : parameter.kind == PolicyParameter::Kind::whole ? "whole, "
                                                                              : "";
    return std::string(parameter.name) + format(" (%s%g to %g)", kind, parameter.least, parameter.most);
}

bool fits(PolicyParameter::Kind kind, double value) {
    if (kind == PolicyParameter::Kind::any) return true;
    return value == std::floor(value) && (kind == PolicyParameter::Kind::whole || std::fmod(value, 2) == 1);
}

// Sets what "name=number" says.
void read_parameter(std::string_view text, PolicyChoice& choice) {
    const PolicyTraits traits = traits_of(choice.name);
    const std::string_view name = text.substr(0, text.find('='));
    std::string known;
    for (std::size_t i = 0; i < traits.parameters.size() && traits.parameters[i].name != nullptr; ++i) {
        const PolicyParameter& parameter = traits.parameters[i];
        known += (known.empty() ? "" : ", ") + describe(parameter);
        if (name != parameter.name) continue;
        const std::string_view number = text.substr(std::min(text.size(), name.size() + 1));
        double value = 0;
        const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), value);
        const bool right = error == std::errc{} && end == number.data() + number.size() && value >= parameter.least &&
                           value <= parameter.most && fits(parameter.kind, value);
        if (!right) {
            throw UsageError(in_quotes(number) + " is none of " + describe(parameter) + " of " + traits.name);
        }
        choice.given[i] = value;
        return;
    }
    throw UsageError(std::string(traits.name) + " has no parameter " + in_quotes(name) +
                     (known.empty() ? ", and no other" : "; it has " + known));
}

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

PolicyChoice parse_policy(std::string_view text) {
    const std::string_view name = text.substr(0, text.find(':'));
    const std::optional<PolicyName> known = find_policy(name);
    if (!known) throw UsageError(in_quotes(name) + " is no policy; there are " + names_of_policies());
    PolicyChoice choice{*known, {}};
    for (std::size_t at = name.size(); at < text.size();) {
        const std::size_t end = std::min(text.find(',', at + 1), text.size());
        read_parameter(text.substr(at + 1, end - at - 1), choice);
        at = end;
    }
    return choice;
}

void check_options(const PolicyOptions& options) {
    if (traits_of(options.policy).grows && (options.capacity || options.sinks || options.recent || options.ratio)) {
        throw UsageError(
            "--policy full: the cache grows, so --capacity, --sinks, --recent and --ratio have no meaning");
    }
    if (options.ratio && !traits_of(options.policy).has_ratio) {
        throw UsageError(std::string("--policy ") + to_string(options.policy) + ": --ratio has no meaning");
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
    const bool chooses = traits_of(options.policy).chooses;
    CacheSettings settings{
        options.policy, CacheType::f32, {}, options.ratio.value_or(chooses ? 0.9 : 0.5), options.parameters};
    if (settings.grows()) {
        check_sliding_window(config, settings, expected_tokens, capacity_name);
        settings.sizes = {std::min(expected_tokens, Index{1} << 16), 0, 0, expected_tokens};
        return settings;
    }
    const Index window = trained_window(config);
    const Index capacity = options.capacity.value_or(window);
    settings.sizes = {capacity, options.sinks.value_or(4), options.recent.value_or(chooses ? capacity / 4 : 0)};
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
