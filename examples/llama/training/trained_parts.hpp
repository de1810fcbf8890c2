// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <bitset>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace llama {

/// What of a model is trained: parts that all layers have, or that stand beside them.
class TrainedParts {
public:
    /// Projections first. "norms" are all of them; the biases of a projection belong to it.
    static constexpr std::array<std::string_view, 10> names{"q",  "k",    "v",         "o",     "gate",
                                                            "up", "down", "embedding", "norms", "classifier"};

    /// No part.
    TrainedParts() = default;

    /// Parts by their names, all of which are in `names`.
    explicit TrainedParts(std::span<const std::string> parts);

    static TrainedParts all();

    /// What FreqKV adapts: q, k, v and o by low-rank factors, the embedding and the norms as they are.
    static TrainedParts of_adapter();

    /// Whether a tensor belongs to them, by its name in a Hugging Face file.
    bool contain_tensor(std::string_view tensor) const;

    /// Whether a tensor is the matrix of a projection within a layer.
    static bool is_projection(std::string_view tensor);

    bool contain(std::string_view part) const;
    bool contain_a_projection() const;

    /// In the order of `names`.
    std::vector<std::string> list() const;

private:
    static constexpr std::size_t projections = 7;
    static std::size_t find(std::string_view part);
    static std::size_t part_of(std::string_view tensor);

    std::bitset<names.size()> parts_;
};

}  // namespace llama
