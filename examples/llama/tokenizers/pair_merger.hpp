// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "llama/model/config.hpp"

namespace llama {

/// The merging of byte-pair encodings: as long as two neighbours can be joined, the pair of the lowest rank is, the
/// leftmost of equals. Keeps its memory from one call to the next.
template <class Rank>
class PairMerger {
public:
    /// What a pair becomes.
    struct Joined {
        Rank rank{};
        Token token = -1;  ///< -1: the pair cannot be joined
    };

    /// Appends to `result` what becomes of `tokens`. find(left, right) returns Joined. O(n log n) for n tokens.
    template <class Find>
    void merge(const std::vector<Token>& tokens, Find&& find, std::vector<Token>& result) {
        const auto count = static_cast<std::ptrdiff_t>(tokens.size());
        symbols_.clear();
        for (std::ptrdiff_t i = 0; i < count; ++i) {
            symbols_.push_back({tokens[static_cast<std::size_t>(i)], i - 1, i + 1 < count ? i + 1 : -1});
        }
        pairs_.clear();
        const auto note = [&](std::ptrdiff_t left, std::ptrdiff_t right) {
            if (left < 0 || right < 0) return;
            const Joined joined = find(at(left).token, at(right).token);
            if (joined.token < 0) return;
            pairs_.push_back({joined, at(left).token, at(right).token, left});
            std::push_heap(pairs_.begin(), pairs_.end());
        };
        for (std::ptrdiff_t i = 0; i + 1 < count; ++i) note(i, i + 1);
        while (!pairs_.empty()) {
            std::pop_heap(pairs_.begin(), pairs_.end());
            const Pair best = pairs_.back();
            pairs_.pop_back();
            Symbol& left = at(best.left);
            if (left.token != best.left_token || left.next < 0 || at(left.next).token != best.right_token) continue;
            at(left.next).token = -1;
            left.token = best.joined.token;
            left.next = at(left.next).next;
            if (left.next >= 0) at(left.next).previous = best.left;
            note(left.previous, best.left);
            note(best.left, left.next);
        }
        for (const Symbol& symbol : symbols_) {
            if (symbol.token >= 0) result.push_back(symbol.token);
        }
    }

private:
    struct Symbol {
        Token token;  // -1: joined with its left neighbour
        std::ptrdiff_t previous, next;
    };
    // A pair that could be joined when it was noted; it is out of date once either side has changed.
    struct Pair {
        Joined joined;
        Token left_token, right_token;
        std::ptrdiff_t left;

        // The best is the largest, as a heap has it.
        bool operator<(const Pair& other) const {
            return joined.rank != other.joined.rank ? joined.rank > other.joined.rank : left > other.left;
        }
    };

    Symbol& at(std::ptrdiff_t i) { return symbols_[static_cast<std::size_t>(i)]; }

    std::vector<Symbol> symbols_;
    std::vector<Pair> pairs_;  // a heap
};

}  // namespace llama
