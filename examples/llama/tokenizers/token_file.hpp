// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "llama/io/atomic_file.hpp"
#include "llama/io/file.hpp"
#include "llama/model/config.hpp"

// Texts that are token ids already.
namespace llama {

/// The ids in a file of decimal numbers separated by white space, at most `limit` of them (0: all).
/// Throws FileError for anything else and for ids outside [0, vocabulary).
inline std::vector<Token> read_token_file(const std::string& path, Index vocabulary, Index limit) {
    const std::vector<char> content = read_text_file(path);
    const std::string_view text(content.data(), content.size());
    constexpr std::string_view space = " \t\n\r\v\f";
    std::vector<Token> tokens;
    for (std::size_t at = 0; limit == 0 || static_cast<Index>(tokens.size()) < limit;) {
        const std::size_t begin = text.find_first_not_of(space, at);
        if (begin == std::string_view::npos) break;
        at = std::min(text.find_first_of(space, begin), text.size());
        const std::string_view word = text.substr(begin, at - begin);
        const std::string where = "token " + std::to_string(tokens.size()) + " (byte " + std::to_string(begin) + ")";
        const std::string shown = "\"" + std::string(word.substr(0, 32)) + (word.size() > 32 ? "..." : "") + "\"";
        if (word.find_first_not_of("0123456789", word.starts_with('-') ? 1 : 0) != std::string_view::npos ||
            word == "-") {
            throw FileError(path, where + " is " + shown + ", not a decimal id");
        }
        Token id = -1;
        const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), id);
        if (error != std::errc{} || id < 0 || id >= vocabulary) {
            throw FileError(path, where + " is " + shown + ", outside the vocabulary of " + std::to_string(vocabulary));
        }
        tokens.push_back(id);
    }
    return tokens;
}

/// How ids are written: as decimal numbers, or without a header as little-endian ones of 16 bits, as long-context
/// evaluations pass PG-19 around, or of 32 for vocabularies of more than 65,536 tokens.
inline constexpr const char* token_formats[] = {"decimal", "u16", "u32"};

/// The ids in a file of numbers of the type Id, at most `limit` of them (0: all). Throws FileError for a part of an
/// id and for ids outside [0, vocabulary).
template <class Id>
std::vector<Token> read_binary_token_file(const std::string& path, Index vocabulary, Index limit) {
    const MappedFile file(path);
    const std::span<const std::byte> bytes = file.bytes();
    if (bytes.size() % sizeof(Id) != 0) {
        throw FileError(path, std::to_string(bytes.size()) + " bytes are no whole number of " +
                                  std::to_string(8 * sizeof(Id)) + "-bit ids");
    }
    const std::size_t all = bytes.size() / sizeof(Id);
    const std::size_t count = limit == 0 ? all : std::min(all, static_cast<std::size_t>(limit));
    std::vector<Token> tokens(count);
    std::size_t not_zero[2] = {0, 0};  // at even places, at odd ones
    for (std::size_t i = 0; i < count; ++i) {
        Id id = 0;
        std::memcpy(&id, bytes.data() + sizeof(Id) * i, sizeof id);
        if (static_cast<Index>(id) >= vocabulary) {
            throw FileError(path, "token " + std::to_string(i) + " is " + std::to_string(id) +
                                      ", outside the vocabulary of " + std::to_string(vocabulary));
        }
        not_zero[i % 2] += id != 0 ? 1 : 0;
        tokens[i] = static_cast<Token>(id);
    }
    if (sizeof(Id) == 2 && count >= 64 && not_zero[0] > count / 4 && not_zero[1] == 0) {
        throw FileError(path, "every second id is 0: these are ids of 32 bits, --token-format u32");
    }
    return tokens;
}

/// The ids in a file of one of these formats.
inline std::vector<Token> read_tokens(const std::string& path, std::string_view format, Index vocabulary, Index limit) {
    if (format == "u16") return read_binary_token_file<std::uint16_t>(path, vocabulary, limit);
    if (format == "u32") return read_binary_token_file<std::uint32_t>(path, vocabulary, limit);
    return read_token_file(path, vocabulary, limit);
}

/// Writes ids as numbers of the type Id, in which they fit.
template <class Id>
void write_binary_token_file(const AtomicFile& file, std::span<const Token> tokens) {
    file.write_pieces([&](const AtomicFile::Append& append) {
        constexpr std::size_t ids_at_once = 4096;
        std::string bytes;
        for (std::size_t first = 0; first < tokens.size(); first += ids_at_once) {
            bytes.clear();
            for (const Token id : tokens.subspan(first, std::min(ids_at_once, tokens.size() - first))) {
                for (std::size_t byte = 0; byte < sizeof(Id); ++byte) {
                    bytes += static_cast<char>(id >> (8 * byte) & 0xFF);
                }
            }
            append(bytes);
        }
    });
}

}  // namespace llama
