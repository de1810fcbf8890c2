// SPDX-License-Identifier: MIT
#include "llama/program/budgets.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <iterator>
#include <system_error>
#include <utility>
#include <vector>

#include "freqkv/budget.hpp"
#include "llama/formats/head_budgets.hpp"
#include "llama/formats/weights_fingerprint.hpp"
#include "llama/io/file.hpp"
#include "llama/model/thread_executor.hpp"

namespace llama {

namespace {

Index count_global_heads(const Config& config) {
    return (config.layers - config.count_local_layers()) * config.kv_heads;
}

// PyramidKV's line over the layers that see the whole text.
std::vector<double> pyramid_of(const Config& config) {
    const Index layers = config.layers - config.count_local_layers();
    std::vector<double> weights;
    for (const double weight : freqkv::pyramid_weights(layers)) {
        weights.insert(weights.end(), static_cast<std::size_t>(config.kv_heads), weight);
    }
    return weights;
}

void require_global_layers(const Config& config, const char* option) {
    if (count_global_heads(config) > 0) return;
    throw UsageError(std::string(option) + ": no layer of the model sees the whole text, so there is nothing to share");
}

void check_shares(const CacheSettings& settings, const std::string& path) {
    const Index least = settings.least_capacity();
    for (std::size_t l = 0; l < settings.sizes.head_capacities.size(); ++l) {
        for (const Index capacity : settings.sizes.head_capacities[l]) {
            if (capacity >= least) continue;
            throw FileError(path, "layers[" + std::to_string(l) + "].capacities has " + std::to_string(capacity) +
                                      ", must be at least " + std::to_string(least) + " with --sinks " +
                                      std::to_string(settings.sizes.sinks) + ", --recent " +
                                      std::to_string(settings.sizes.recent) + " and --ratio " +
                                      std::to_string(settings.ratio));
        }
    }
}

CacheSettings resolve_file(const ModelOptions& options, const Config& config, Index expected_tokens) {
    HeadBudgets budgets = read_head_budgets(options.budgets, config);
    PolicyOptions policy = static_cast<const PolicyOptions&>(options);
    policy.capacity = budgets.largest_capacity();
    if (!policy.sinks) policy.sinks = budgets.sinks;
    if (!policy.recent) policy.recent = budgets.recent;
    if (!policy.ratio) policy.ratio = budgets.ratio;
    CacheSettings settings = resolve(policy, config, expected_tokens, options.budgets + ": the largest capacity");
    settings.sizes.head_capacities = std::move(budgets.capacities);
    check_shares(settings, options.budgets);
    return settings;
}

// Positions of the text, and what goes with them.
void set_positions(const ModelOptions& options, const Config& config, Index expected_tokens, CacheSettings& settings) {
    if (options.weighted && !options.text_positions) throw UsageError("--weighted needs --positions text");
    if (!options.text_positions || settings.grows()) return;
    if (expected_tokens > config.context) {
        throw UsageError("--positions text: the text may be of " + std::to_string(expected_tokens) +
                         " tokens, the model was trained with up to " + std::to_string(config.context));
    }
    settings.sizes.text_positions = true;
    settings.sizes.weighted = options.weighted;
    settings.sizes.positions = expected_tokens;
}

// What the exact entries of a packed type take more than if they were packed, in all heads: at most.
Index exact_surcharge(const Config& config, CacheType type, Index sinks) {
    const CacheTypeTraits traits = traits_of(type);
    if (!traits.packed()) return 0;
    const freqkv::ExactParts exact = exact_parts(sinks);
    const Index exact_bytes = (exact.first + exact.latest + exact.block) * config.head_dim * 2;
    const Index packed_bytes = (exact.first + exact.latest) * traits.row_bytes(config.head_dim);
    return 2 * (exact_bytes - packed_bytes) * count_global_heads(config);
}

}  // namespace

std::optional<Index> parse_byte_count(std::string_view text) {
    double value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed);
    if (error != std::errc{}) return std::nullopt;
    const std::string_view unit = text.substr(static_cast<std::size_t>(end - text.data()));
    constexpr std::string_view units[] = {"", "KiB", "MiB", "GiB", "TiB"};
    const auto* const found = std::find(std::begin(units), std::end(units), unit);
    if (found == std::end(units)) return std::nullopt;
    value = std::floor(std::ldexp(value, 10 * static_cast<int>(found - std::begin(units))));
    if (!(value >= 0 && value <= std::ldexp(1.0, 62))) return std::nullopt;
    return static_cast<Index>(value);
}

Index entries_within(const Config& config, const Bookkeeping& bookkeeping, CacheType type, Index sinks, Index bytes) {
    require_global_layers(config, "--budget");
    const freqkv::EntryCost cost{config.head_dim, config.head_dim, traits_of(type).bytes, bookkeeping.of_entry,
                                 traits_of(type).group};
    const Index fixed = cache_bytes(config, 0, type) + bookkeeping.fixed + exact_surcharge(config, type, sinks);
    const Index heads = count_global_heads(config);
    if (bytes - fixed < heads * cost.bytes()) {
        throw UsageError("--budget " + std::to_string(bytes) + ": " + std::to_string(heads) + " heads of " +
                         std::to_string(cost.bytes()) + " bytes an entry, and " + std::to_string(fixed) +
                         " bytes whatever they hold, need at least " + std::to_string(fixed + heads * cost.bytes()));
    }
    return freqkv::entries_within(bytes - fixed, cost);
}

Index uniform_capacity(const Config& config, const Bookkeeping& bookkeeping, CacheType type, Index sinks, Index bytes) {
    return entries_within(config, bookkeeping, type, sinks, bytes) / count_global_heads(config);
}

void share_entries(const Config& config, Index entries, std::span<const double> weights, double shared, Index most,
                   CacheSettings& settings) {
    const auto heads = static_cast<Index>(weights.size());
    const Index least = settings.least_capacity();
    if (entries / heads < least) {
        throw UsageError("there are " + std::to_string(entries) + " entries for " + std::to_string(heads) +
                         " heads, which need at least " + std::to_string(least) + " each with --sinks " +
                         std::to_string(settings.sizes.sinks) + ", --recent " + std::to_string(settings.sizes.recent) +
                         " and --ratio " + std::to_string(settings.ratio));
    }
    const Index each = entries / heads;
    const auto alike = static_cast<Index>((1 - shared) * static_cast<double>(each));
    const std::vector<Index> shares =
        freqkv::share_entries(entries, weights, std::max(least, alike), std::max(most, (entries + heads - 1) / heads));
    auto share = shares.begin();
    settings.sizes.head_capacities.assign(static_cast<std::size_t>(config.layers), {});
    for (Index l = 0; l < config.layers; ++l) {
        if (config.kind(l).local) continue;
        settings.sizes.head_capacities[static_cast<std::size_t>(l)].assign(share, share + config.kv_heads);
        share += config.kv_heads;
    }
    settings.sizes.capacity = *std::max_element(shares.begin(), shares.end());
}

CacheSettings resolve(const ModelOptions& options, const Config& config, Index expected_tokens) {
    const CacheType type = options.cache_type.value_or(CacheType::f32);
    const bool shared = options.budget || options.budget_by != BudgetBy::uniform || !options.budgets.empty();
    if (shared && traits_of(options.policy).grows) {
        throw UsageError("--policy full: the cache grows, so --budget, --budget-by and --budgets have no meaning");
    }
    if (!options.budgets.empty()) {
        CacheSettings settings = resolve_file(options, config, expected_tokens);
        settings.type = type;
        set_positions(options, config, expected_tokens, settings);
        return settings;
    }
    PolicyOptions policy = static_cast<const PolicyOptions&>(options);
    std::optional<Index> entries;
    std::string name = "--capacity";
    if (options.budget) {
        entries = entries_within(config, {config, options.policy, options.weighted}, type, options.sinks.value_or(4),
                                 *options.budget);
        policy.capacity = *entries / count_global_heads(config);
        name = "--budget " + std::to_string(*options.budget) + ", which is a capacity of";
    }
    CacheSettings settings = resolve(policy, config, expected_tokens, name);
    settings.type = type;
    set_positions(options, config, expected_tokens, settings);
    if (options.budget_by == BudgetBy::pyramid) {
        require_global_layers(config, "--budget-by");
        share_entries(config, entries.value_or(count_entries(config, settings.sizes)), pyramid_of(config), 1,
                      Index{1} << 53, settings);
        if (config.sliding_window > 0 && settings.sizes.capacity > config.sliding_window) {
            throw UsageError("--budget-by pyramid: the largest head has " + std::to_string(settings.sizes.capacity) +
                             " entries; the model attends to the latest " + std::to_string(config.sliding_window) +
                             " tokens only, so its cache must not hold more");
        }
    }
    return settings;
}

void check_budgets(const ModelOptions& options, const Checkpoint& checkpoint) {
    if (options.budgets.empty()) return;
    const HeadBudgets budgets = read_head_budgets(options.budgets, checkpoint.config);
    const std::uint64_t weights = fingerprint(checkpoint, make_executor(options.threads));
    if (budgets.weights != weights) {
        throw FileError(options.budgets, "it is for a model with the fingerprint " +
                                             fingerprint_digits(budgets.weights) + ", that of this one is " +
                                             fingerprint_digits(weights));
    }
}

}  // namespace llama
