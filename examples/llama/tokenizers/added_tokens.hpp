// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "llama/model/config.hpp"

namespace llama {

/// A token that stands for a text as a whole, beside what merges lead to.
struct AddedToken {
    std::string text;
    Token id = -1;
    bool special = false;     ///< a control token: part of no decoded text
    bool normalized = false;  ///< looked for after the normalisation of the text, not before it
};

/// Finds added tokens in a text.
class AddedTokenFinder {
public:
    struct Match {
        std::size_t begin, end;
        Token id;
    };

    /// Texts must not be empty; of equal ones the lowest id counts.
    explicit AddedTokenFinder(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
        std::sort(tokens_.begin(), tokens_.end(), [](const AddedToken& left, const AddedToken& right) {
            return std::tie(left.text, left.id) < std::tie(right.text, right.id);
        });
        for (const AddedToken& token : tokens_) begins_[static_cast<unsigned char>(token.text.front())] = true;
    }

    /// The first match from byte `from` on, of several there the longest. Each byte is compared with the bytes of
    /// one token at most.
    std::optional<Match> find(std::string_view text, std::size_t from) const {
        for (std::size_t begin = from; begin < text.size(); ++begin) {
            if (!begins_[static_cast<unsigned char>(text[begin])]) continue;
            if (const auto match = longest_at(text, begin)) return match;
        }
        return std::nullopt;
    }

private:
    // Narrows the sorted tokens to those that begin as the text does, byte by byte. The one that ends is the
    // first of them.
    std::optional<Match> longest_at(std::string_view text, std::size_t begin) const {
        std::optional<Match> longest;
        auto first = tokens_.begin();
        auto last = tokens_.end();
        for (std::size_t i = 0; begin + i < text.size(); ++i) {
            const auto byte = static_cast<unsigned char>(text[begin + i]);
            const auto byte_of = [i](const AddedToken& token) {
                return i < token.text.size() ? static_cast<unsigned char>(token.text[i]) : -1;
            };
            first = std::partition_point(first, last, [&](const AddedToken& token) { return byte_of(token) < byte; });
            last = std::partition_point(first, last, [&](const AddedToken& token) { return byte_of(token) == byte; });
            if (first == last) break;
            if (first->text.size() == i + 1) longest = Match{begin, begin + i + 1, first->id};
        }
        return longest;
    }

    std::vector<AddedToken> tokens_;  // sorted by their bytes
    std::array<bool, 256> begins_{};  // whether one begins with that byte
};

}  // namespace llama
