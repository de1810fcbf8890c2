// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "llama/io/utf8.hpp"

namespace llama {

/// GPT-2's alphabet, in which each byte is a printable character: printable bytes of Latin-1 are the characters that
/// they are there, the others, in their order, the characters from U+0100 on.
class ByteAlphabet {
public:
    ByteAlphabet() {
        bytes_.fill(-1);
        std::size_t next = 0x100;
        for (int byte = 0; byte < 256; ++byte) {
            const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
            bytes_[printable ? static_cast<std::size_t>(byte) : next++] = byte;
        }
    }

    /// The bytes that a token is written for; nothing if it has a character outside of the alphabet.
    std::optional<std::string> bytes_of(std::string_view spelled) const {
        std::string bytes;
        for (std::size_t i = 0; i < spelled.size(); ++i) {
            auto character = static_cast<std::size_t>(static_cast<unsigned char>(spelled[i]));
            if (character >= 0x80) {  // two bytes of UTF-8, or outside
                if (utf8_length(spelled.substr(i)) != 2) return std::nullopt;
                character = (character & 0x1F) << 6 | (static_cast<unsigned char>(spelled[++i]) & 0x3F);
            }
            if (character >= bytes_.size() || bytes_[character] < 0) return std::nullopt;
            bytes += static_cast<char>(bytes_[character]);
        }
        return bytes;
    }

private:
    std::array<int, 0x100 + 68> bytes_;  // 68 bytes are not printable
};

}  // namespace llama
