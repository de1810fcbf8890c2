// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "llama/model/config.hpp"

namespace llama {

/// One sequence to train on: tokens[i + 1] is the target of tokens[i].
struct Example {
    std::span<const Token> tokens;
    Index first_target = 1;  ///< targets before tokens[first_target] do not count

    /// How many targets count; at least 1.
    Index targets() const { return static_cast<Index>(tokens.size()) - first_target; }
};

/// Examples without end, by their running number. Each epoch has all of them in an order of its own. Immutable once
/// made; what an example is depends on the data, the seed and its number alone, so a run that goes on where another
/// stopped needs no state.
class TrainingData {
public:
    virtual ~TrainingData() = default;

    /// Example `i` of the run, at least 0; it is one of epoch i / examples_per_epoch(). The tokens are valid as
    /// long as the data. O(1).
    virtual Example example(Index i) const = 0;

    /// The same for all epochs.
    virtual Index examples_per_epoch() const = 0;

    /// Changes if the tokens do.
    virtual std::uint64_t fingerprint() const = 0;

protected:
    TrainingData() = default;
    TrainingData(const TrainingData&) = delete;
    TrainingData& operator=(const TrainingData&) = delete;
};

/// A stream of tokens, cut into sequences with `length` targets each, at other places in each epoch. A token is a
/// target at most once in an epoch; those before the first and behind the last cut are none, fewer than
/// 2 * length together.
class TrainingText final : public TrainingData {
public:
    /// `name` says in the error where the tokens come from. Throws FileError for fewer than length + 1 tokens.
    TrainingText(std::vector<Token> tokens, Index length, std::uint64_t seed, const std::string& name);

    Example example(Index i) const override;
    Index examples_per_epoch() const override { return per_epoch_; }
    std::uint64_t fingerprint() const override;

private:
    std::vector<Token> tokens_;
    Index length_;
    Index per_epoch_;
    Index phases_;  // the first sequence of an epoch begins at a token below it
    std::uint64_t seed_;
};

}  // namespace llama
