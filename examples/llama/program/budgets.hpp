// SPDX-License-Identifier: MIT
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "llama/model/cache_settings.hpp"
#include "llama/model/checkpoint.hpp"
#include "llama/program/options.hpp"

// One budget of bytes or entries for all layers and heads.
namespace llama {

/// "4194304", "4096KiB", "4MiB", "1GiB", "1.5GiB"; nothing for other texts and for more than 2^62 bytes.
std::optional<Index> parse_byte_count(std::string_view text);

/// Entries, of all heads that see the whole text together, whose keys, values and bookkeeping fit into `bytes` with
/// what local layers hold. Throws UsageError if there is not one for each head.
///
/// Of a packed type up to a block of entries of each head is left over.
Index entries_within(const Config& config, const Bookkeeping& bookkeeping, CacheType type, Index sinks, Index bytes);

/// The capacity of each of these heads if all are alike.
Index uniform_capacity(const Config& config, const Bookkeeping& bookkeeping, CacheType type, Index sinks, Index bytes);

/// Capacities of heads that see the whole text, of `entries` in all: a part `shared` of them, 0 to 1, goes by
/// `weights`, one for each of these heads in order, and the rest is the same for all. No head has less than it must,
/// nor more than `most` unless all of them have to. Throws UsageError if there are too few entries.
void share_entries(const Config& config, Index entries, std::span<const double> weights, double shared, Index most,
                   CacheSettings& settings);

/// Throws FileError if --budgets has the budgets of a model with other weights. Reads them all.
void check_budgets(const ModelOptions& options, const Checkpoint& checkpoint);

}  // namespace llama
