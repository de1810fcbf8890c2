// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "freqkv/config.hpp"
#include "freqkv/error.hpp"

namespace freqkv::cuda {

/// Tokens of one sequence among those of a call, which holds the parts one after another.
struct SequenceTokens {
    Index sequence = 0;
    Index tokens = 0;
};

namespace detail {

/// Tokens [first, first + count) of a call, which go to one sequence.
struct FeedPiece {
    Index sequence = 0;
    Index first = 0;
    Index count = 0;

    friend bool operator==(const FeedPiece&, const FeedPiece&) = default;
};

/// Cuts the tokens of a call into rounds, in each of which no sequence meets a boundary: room(sequence) says how many
/// tokens it takes until then, and fills up as pieces are taken.
class Feed {
public:
    /// Throws Error unless the parts are of different sequences in [0, sequences).
    Feed(std::span<const SequenceTokens> parts, Index sequences) {
        std::vector<bool> met(static_cast<std::size_t>(sequences));
        Index total = 0;
        for (const SequenceTokens& part : parts) {
            require(part.sequence >= 0 && part.sequence < sequences, "sequence", part.sequence,
                    "must be one of the cache's");
            require(!met[static_cast<std::size_t>(part.sequence)], "sequence", part.sequence,
                    "must not be in one call twice");
            require(part.tokens >= 0 && part.tokens < Index{1} << 31, "tokens of a sequence", part.tokens,
                    "must be 0 to 2^31 - 1");
            met[static_cast<std::size_t>(part.sequence)] = true;
            left_.push_back({part.sequence, total, part.tokens});
            total += part.tokens;
        }
    }

    /// And unless they are `tokens` in all.
    Feed(std::span<const SequenceTokens> parts, Index sequences, Index tokens) : Feed(parts, sequences) {
        const Index total = left_.empty() ? 0 : left_.back().first + left_.back().count;
        if (total != tokens) {
            refuse("tokens of all sequences", std::to_string(total),
                   "must be those of the views, which are " + std::to_string(tokens));
        }
    }

    bool done() const {
        return std::all_of(left_.begin(), left_.end(), [](const FeedPiece& piece) { return piece.count == 0; });
    }

    /// Sequences with tokens left that have no room for any.
    template <class Room>
    std::vector<Index> full(const Room& room) const {
        std::vector<Index> sequences;
        for (const FeedPiece& piece : left_) {
            if (piece.count > 0 && room(piece.sequence) == 0) sequences.push_back(piece.sequence);
        }
        return sequences;
    }

    /// Throws Error, which ends with `why`, unless each sequence has room for all its tokens.
    template <class Room>
    void require_room(const Room& room, const std::string& why = {}) const {
        for (const FeedPiece& piece : left_) {
            if (piece.count > room(piece.sequence)) {
                refuse(("tokens of sequence " + std::to_string(piece.sequence)).c_str(), std::to_string(piece.count),
                       "must be within its room, which is " + std::to_string(room(piece.sequence)) + why);
            }
        }
    }

    /// As many tokens of each sequence as it has room for.
    template <class Room>
    std::vector<FeedPiece> next(const Room& room) {
        std::vector<FeedPiece> pieces;
        for (FeedPiece& piece : left_) {
            const Index count = std::min(piece.count, room(piece.sequence));
            if (count == 0) continue;
            pieces.push_back({piece.sequence, piece.first, count});
            piece.first += count;
            piece.count -= count;
        }
        return pieces;
    }

private:
    std::vector<FeedPiece> left_;
};

}  // namespace detail

}  // namespace freqkv::cuda
