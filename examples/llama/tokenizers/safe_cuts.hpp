// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "llama/io/utf8.hpp"

namespace llama {

/// Where a text may be cut without a change of its tokens: between two characters that stand beside each other in no
/// token. No merge reaches across. Of LLaMA-2's, whose tokens have a space at their beginning only, that is in front of
/// every word.
class SafeCuts {
public:
    /// Memory for longer texts is in proportion to the part; what is done once for each costs nothing then.
    static constexpr std::size_t part_bytes = std::size_t{64} << 10;

    /// Notes a token's text.
    void add(std::string_view token) {
        for (std::uint64_t last = 0; !token.empty();) {
            const std::uint64_t character = take(token);
            if (last != 0) pairs_.push_back(last << 32 | character);
            last = character;
        }
    }

    /// Once, after all tokens.
    void finish() {
        std::sort(pairs_.begin(), pairs_.end());
        pairs_.erase(std::unique(pairs_.begin(), pairs_.end()), pairs_.end());
        pairs_.shrink_to_fit();
    }

    /// Takes a part from the front of `text`: of part_bytes and what there is up to the next safe place. The characters
    /// behind it fulfil may_begin(character). In the text a space is what U+2581 is in tokens.
    template <class MayBegin>
    std::string_view take_part(std::string_view& text, MayBegin&& may_begin) const {
        const std::string_view whole = text;
        text = {};
        if (whole.size() <= part_bytes) return whole;
        std::size_t begin = part_bytes;
        while (begin > 0 && (static_cast<unsigned char>(whole[begin]) & 0xC0) == 0x80) --begin;
        std::string_view rest = whole.substr(begin);
        for (std::uint64_t last = take(rest); !rest.empty();) {
            const std::string_view from_here = rest;
            const std::uint64_t character = take(rest);
            const bool together = std::binary_search(pairs_.begin(), pairs_.end(), last << 32 | character);
            if (!together && may_begin(from_here.substr(0, from_here.size() - rest.size()))) {
                text = from_here;
                return whole.substr(0, whole.size() - from_here.size());
            }
            last = character;
        }
        return whole;
    }

private:
    // The bytes of the character at the beginning, which is never 0.
    static std::uint64_t take(std::string_view& text) {
        constexpr std::uint64_t mark = 0xE29681;  // U+2581
        const std::size_t length = std::max<std::size_t>(utf8_length(text), 1);
        std::uint64_t bytes = 0;
        for (const char byte : text.substr(0, length)) bytes = bytes << 8 | static_cast<unsigned char>(byte);
        text.remove_prefix(length);
        return bytes == ' ' ? mark : bytes == 0 ? 1 : bytes;
    }

    std::vector<std::uint64_t> pairs_;  // sorted
};

}  // namespace llama
