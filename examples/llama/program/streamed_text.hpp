// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "llama/io/format.hpp"
#include "llama/io/utf8.hpp"

namespace llama {

/// What a model writes, as a terminal can show it while it is written: characters only when all of their bytes are
/// there, control characters (but the end of a line and the tabulator) spelt out, U+FFFD for what is no UTF-8.
class StreamedText {
public:
    /// What can be shown now.
    std::string add(std::string_view bytes) {
        held_ += bytes;
        std::string shown;
        std::string_view rest = held_;
        while (!rest.empty()) {
            const std::size_t length = utf8_length(rest);
            if (length == 0 && may_become_character(rest)) break;
            shown += length == 0 ? std::string(replacement) : visible(rest.substr(0, length));
            rest.remove_prefix(length == 0 ? 1 : length);
        }
        held_.erase(0, held_.size() - rest.size());
        return shown;
    }

    /// What is left at the end of the text.
    std::string end() {
        std::string shown;
        for (; !held_.empty(); held_.pop_back()) shown = replacement;
        return shown;
    }

private:
    static constexpr std::string_view replacement = "\xef\xbf\xbd";

    // Whether bytes that are no character begin one. Of the second byte the largest or the smallest that there is
    // goes with every first one.
    static bool may_become_character(std::string_view bytes) {
        for (std::size_t more = 1; bytes.size() + more <= 4; ++more) {
            for (const char filler : {'\x80', '\xbf'}) {
                if (utf8_length(std::string(bytes) + std::string(more, filler)) == bytes.size() + more) return true;
            }
        }
        return false;
    }

    static std::string visible(std::string_view character) {
        const auto first = static_cast<unsigned char>(character.front());
        if (character.size() == 1) {
            const bool control = (first < 0x20 && first != '\n' && first != '\t') || first == 0x7f;
            return control ? format("\\x%02x", first) : std::string(character);
        }
        const auto second = static_cast<unsigned char>(character[1]);
        const bool control = first == 0xc2 && second < 0xa0;  // U+0080 to U+009F, which some terminals obey
        return control ? format("\\x%02x", second) : std::string(character);
    }

    std::string held_;
};

}  // namespace llama
