// SPDX-License-Identifier: MIT
#include "llama/training/training_data.hpp"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "freqkv/error.hpp"
#include "llama/io/file.hpp"
#include "llama/model/random.hpp"
#include "llama/tokenizers/fingerprint.hpp"
#include "llama/training/shuffled_order.hpp"

namespace llama {

TrainingText::TrainingText(std::vector<Token> tokens, Index length, std::uint64_t seed, const std::string& name)
    : tokens_(std::move(tokens)), length_(length), seed_(seed) {
    freqkv::require(length >= 1, "length", length, "must be at least 1");
    const auto count = static_cast<Index>(tokens_.size());
    if (count - 1 < length) {
        throw FileError(name, std::to_string(count) + " tokens are fewer than the " + std::to_string(length) +
                                  " + 1 that one sequence of --length " + std::to_string(length) + " needs");
    }
    // As many as there are behind the latest first cut. A text that is too short for all of them has fewer cuts.
    per_epoch_ = std::max<Index>(1, count / length - 1);
    phases_ = std::min(length, count - per_epoch_ * length);
}

Example TrainingText::example(Index i) const {
    Random random(Random(seed_).next() + static_cast<std::uint64_t>(i / per_epoch_));
    const auto phase = static_cast<Index>(random.next() % static_cast<std::uint64_t>(phases_));
    const Index place = ShuffledOrder(per_epoch_, random.next())[i % per_epoch_];
    const auto begin = static_cast<std::size_t>(phase + place * length_);
    return {std::span<const Token>(tokens_).subspan(begin, static_cast<std::size_t>(length_) + 1), 1};
}

std::uint64_t TrainingText::fingerprint() const { return llama::fingerprint(tokens_); }

}  // namespace llama
