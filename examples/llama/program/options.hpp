// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "llama/io/usage_error.hpp"
#include "llama/model/cache_settings.hpp"
#include "llama/model/config.hpp"

// The options that all commands have, and what they come to for one model.
namespace llama {

/// What becomes of a full cache, as given on the command line.
struct PolicyOptions {
    PolicyName policy = PolicyName::low_pass;
    decltype(CacheSettings::parameters) parameters{};
    std::optional<Index> capacity, sinks, recent;
    std::optional<double> ratio;
};

/// How a budget is shared among layers.
enum class BudgetBy : std::uint8_t { uniform, pyramid };

constexpr const char* to_string(BudgetBy by) { return by == BudgetBy::uniform ? "uniform" : "pyramid"; }

/// What heads are given entries for.
enum class CalibrateBy : std::uint8_t {
    retrieval,  ///< looking back at what was read long ago
    energy      ///< what compressions discard of them
};

constexpr const char* to_string(CalibrateBy by) { return by == CalibrateBy::retrieval ? "retrieval" : "energy"; }

/// As given on the command line.
struct ModelOptions : PolicyOptions {
    std::optional<Index> budget;  ///< bytes instead of a capacity
    BudgetBy budget_by = BudgetBy::uniform;
    bool text_positions = false;  ///< instead of indices
    bool weighted = false;
    std::string budgets;  ///< file of freqkv-llama calibrate
    std::string model;
    std::string adapter;
    std::string device = "cpu";
    std::optional<CacheType> cache_type;
    int threads = 0;
    Index prefill_chunk = 512;
    bool exact = true;
};

/// "h2o" or "snapkv:window=16,pool=1"; numbers that are not given have their standard value. Throws UsageError with a
/// message that says what there is.
PolicyChoice parse_policy(std::string_view text);

/// Throws UsageError for what can be refused without looking at the model.
void check_options(const PolicyOptions& options);

/// Warns on standard error of a capacity that the model never saw.
void warn_of_capacity(const Config& config, const CacheSettings& settings);

/// Refuses a cache that is larger than the machine's memory. Unused memory is not touched, so it would be noticed
/// late and badly. Throws std::runtime_error; else warn_of_capacity().
void check_capacity(const Config& config, const CacheSettings& settings);

/// Fills in the defaults and checks the sizes against each other and the model. A growing cache gets
/// `expected_tokens` as its first size. `capacity_name` is what messages call a given capacity. Throws UsageError.
CacheSettings resolve(const PolicyOptions& options, const Config& config, Index expected_tokens,
                      const std::string& capacity_name = "--capacity");
/// The same, and shares a budget; throws FileError for a file of budgets that are not for such a model.
CacheSettings resolve(const ModelOptions& options, const Config& config, Index expected_tokens);

}  // namespace llama
