// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <span>
#include <vector>

#include "freqkv/config.hpp"
#include "freqkv/error.hpp"
#include "freqkv/policy/report.hpp"

// One budget for the caches of a model: bytes to entries, and entries to layers and heads. What comes out goes into
// CacheOptions::capacity or head_capacities, so that the memory is really freed.
namespace freqkv {

/// What an entry of one head costs, as CacheMemory counts it.
struct EntryCost {
    Index key_dim = 0;                                           ///< >= 1
    Index value_dim = 0;                                         ///< >= 1; 0: key_dim
    Index element_bytes = 4;                                     ///< >= 1: sizeof(T) of the cache
    Index bookkeeping = static_cast<Index>(sizeof(TokenRange));  ///< >= 0; under a codec that reads attention_mass
                                                                 ///< sizeof(Arithmetic<T>) more
    Index group = 1;                                             ///< >= 1: elements in a T, of packed ones T::group

    /// Throws Error for sizes outside their range.
    Index bytes() const {
        require(key_dim >= 1, "key_dim", key_dim, "must be at least 1");
        require(value_dim >= 0, "value_dim", value_dim, "must be at least 1, or 0 for key_dim");
        require(element_bytes >= 1, "element_bytes", element_bytes, "must be at least 1");
        require(bookkeeping >= 0, "bookkeeping", bookkeeping, "must not be negative");
        require(group >= 1, "group", group, "must be at least 1");
        const auto row_bytes = [this](const char* what, Index elements) {
            return checked_product(what, elements / group + (elements % group > 0 ? 1 : 0), element_bytes);
        };
        return row_bytes("bytes of a key", key_dim) +
               row_bytes("bytes of a value", value_dim > 0 ? value_dim : key_dim) + bookkeeping;
    }
};

/// Entries, of all heads together, that fit into `bytes`. Throws Error if there is not one.
inline Index entries_within(Index bytes, const EntryCost& cost) {
    const Index each = cost.bytes();
    require(bytes >= each, "budget in bytes", bytes, "must be at least one entry's bytes");
    return bytes / each;
}

/// PyramidKV's line over layers (arXiv 2406.02069, section 4.2, and its code, which has beta = 20): the last layer has
/// 1 / beta of the mean, the first 2 - 1 / beta, those between lie on a straight line. The larger beta, the steeper; 1
/// is the same for all. Returns [layers], of mean 1, from first to last; for share_entries(), whose floor takes the
/// place of the paper's window of latest entries. Throws Error unless layers >= 1 and beta >= 1.
inline std::vector<double> pyramid_weights(Index layers, double beta = 20) {
    require(layers >= 1, "number of layers", layers, "must be at least 1");
    require(beta >= 1 && std::isfinite(beta), "beta", beta, "must be at least 1");
    std::vector<double> weights(static_cast<std::size_t>(layers), 1.0);
    const double last = 1 / beta;
    const double step = layers > 1 ? 2 * (1 - last) / static_cast<double>(layers - 1) : 0;
    for (Index l = 0; layers > 1 && l < layers; ++l) {
        weights[static_cast<std::size_t>(l)] = last + step * static_cast<double>(layers - 1 - l);
    }
    return weights;
}

/// Shares `total` entries among heads: each has `floor` (sinks + recent + the least span that the policy takes, 2 for a
/// ratio of one half), and what is above that goes in proportion to `weights` ([heads]; not negative, not all 0), such
/// as the energy that each has lost to a low-pass at equal capacities, or a layer's place on a line. No head gets more
/// than `ceiling`, such as the trained window; what it would have had goes to the others in proportion, and in equal
/// parts if their weights are 0. Rounded by largest remainders, of which the earlier head comes first among equals: the
/// sum is `total` exactly, every head is within one entry of its share, and a heavier head never has less than a
/// lighter one. Returns [heads].
///
/// Throws Error if there are no heads, a weight is negative or not finite, all are 0, the budget cannot be met, if
/// `total` is less than the floors or more than the ceilings, or above 2^53. O(heads log heads).
inline std::vector<Index> share_entries(Index total, std::span<const double> weights, Index floor,
                                        Index ceiling = Index{1} << 53) {
    const auto heads = static_cast<Index>(weights.size());
    require(heads >= 1, "number of weights", heads, "must be at least 1");
    require(floor >= 0, "floor of a head", floor, "must not be negative");
    require(total <= Index{1} << 53, "budget in entries", total, "must be at most 2^53");
    require(total >= 0 && floor <= total / heads, "budget in entries", total,
            "must be at least the floor times the number of heads");
    require(ceiling >= (total + heads - 1) / heads, "ceiling of a head", ceiling,
            "must be at least the budget divided by the number of heads");
    for (const double weight : weights) {
        require(weight >= 0 && std::isfinite(weight), "weight of a head", weight, "must be finite and not negative");
    }
    // Scaled by the largest, so that no sum overflows.
    const double largest = *std::max_element(weights.begin(), weights.end());
    require(largest > 0, "sum of the weights", largest, "must be positive");
    std::vector<std::size_t> order(weights.size());  // the heaviest first, whose shares are cut first
    std::iota(order.begin(), order.end(), std::size_t{0});
    const auto heavier = [&](std::size_t a, std::size_t b) {
        return weights[a] != weights[b] ? weights[a] > weights[b] : a < b;
    };
    std::sort(order.begin(), order.end(), heavier);

    const Index room = ceiling - floor;  // of each head, above the floor
    Index left = total - heads * floor;
    std::vector<Index> shares(weights.size(), floor);
    std::vector<double> sums(weights.size() + 1, 0.0);  // of the weights from there on, in order
    for (std::size_t i = weights.size(); i-- > 0;) sums[i] = sums[i + 1] + weights[order[i]] / largest;
    std::size_t first = 0;  // in order, of the heads that are not cut
    const auto part = [&](std::size_t i) {
        return sums[first] > 0 ? weights[order[i]] / largest / sums[first]
                               : 1 / static_cast<double>(weights.size() - first);
    };
    while (first < order.size() && static_cast<double>(left) * part(first) > static_cast<double>(room)) {
        shares[order[first++]] = ceiling;
        left -= room;
    }

    const auto above = static_cast<double>(left);
    std::vector<double> remainders(weights.size(), 0.0);
    for (std::size_t i = first; i < order.size(); ++i) {
        const double exact = above * part(i);
        const Index whole = std::min({static_cast<Index>(exact), left, room});
        shares[order[i]] += whole;
        remainders[order[i]] = exact - static_cast<double>(whole);
        left -= whole;
    }
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
        return remainders[a] != remainders[b] ? remainders[a] > remainders[b] : heavier(a, b);
    });
    for (std::size_t i = 0; left > 0; i = (i + 1) % order.size()) {
        if (shares[order[i]] == ceiling) continue;
        ++shares[order[i]];
        --left;
    }
    return shares;
}

}  // namespace freqkv
