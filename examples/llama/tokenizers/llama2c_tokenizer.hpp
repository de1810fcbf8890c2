// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "llama/io/file.hpp"
#include "llama/io/utf8.hpp"
#include "llama/model/config.hpp"
#include "llama/tokenizers/pair_merger.hpp"
#include "llama/tokenizers/tokenizer.hpp"

namespace llama {

/// A llama2.c vocabulary: an int32 (length of the longest piece), then for each token a float32 score,
/// an int32 length and that many bytes. Tokens 3 to 258 are the single bytes "<0x00>" to "<0xFF>".
class Llama2cTokenizer final : public Tokenizer {
public:
    /// Its models end a text with BOS, too.
    static constexpr Token bos = 1;
    static constexpr Token eos = 2;

    /// The file does not hold the number of pieces; it must be exactly that long. Throws FileError.
    Llama2cTokenizer(const std::string& path, Index vocabulary)
        : Tokenizer(bos, {bos, eos}), content_(read_file(path)) {
        if (content_.empty()) throw FileError(path, "the file is empty");
        std::size_t at = 0;
        const auto take = [&](auto& value) {
            if (content_.size() - at < sizeof value) return false;
            std::memcpy(&value, content_.data() + at, sizeof value);
            at += sizeof value;
            return true;
        };
        std::int32_t longest = 0;
        bool complete = take(longest);
        for (Index i = 0; i < vocabulary && complete; ++i) {
            float score = 0;
            std::int32_t length = 0;
            complete = take(score) && take(length);
            if (complete && (length < 0 || length > (1 << 20) || std::isnan(score))) {
                throw FileError(path, "token " + std::to_string(i) + " has length " + std::to_string(length) +
                                          " and score " + std::to_string(score) + ": not a tokenizer");
            }
            complete = complete && content_.size() - at >= static_cast<std::size_t>(length);
            if (complete) {
                pieces_.emplace_back(content_.data() + at, static_cast<std::size_t>(length));
                scores_.push_back(score);
                at += static_cast<std::size_t>(length);
            }
        }
        if (!complete) {
            throw FileError(path, "the file ends after " + std::to_string(pieces_.size()) +
                                      " tokens, the model's vocabulary has " + std::to_string(vocabulary));
        }
        if (at != content_.size()) {
            throw FileError(path, std::to_string(content_.size() - at) + " bytes follow the model's vocabulary of " +
                                      std::to_string(vocabulary) + " tokens: it belongs to another model");
        }
        for (std::size_t i = 0; i < pieces_.size(); ++i) ids_.emplace(pieces_[i], static_cast<Token>(i));
        for (std::size_t i = 0; i < sizeof bytes_; ++i) bytes_[i] = static_cast<char>(i);
    }

    Index vocabulary() const override { return static_cast<Index>(pieces_.size()); }

    /// The piece as the file has it ("<0x0A>" for a byte).
    std::string_view piece(Token token) const { return pieces_[static_cast<std::size_t>(token)]; }

    /// The bytes that `token` adds to a text whose last token is `previous`: without the leading space
    /// after BOS, and the byte itself for a byte token. Valid as long as the tokenizer.
    std::string_view decode(Token previous, Token token) const override {
        std::string_view text = piece(token);
        if (previous == bos && text.starts_with(' ')) text.remove_prefix(1);
        if (const int byte = byte_of(text); byte >= 0) return {bytes_ + byte, 1};
        return text;
    }

private:
    /// The tokens of a UTF-8 text, without BOS: a space is put before it; every character becomes its
    /// token or the tokens of its bytes; then, as long as two neighbours together are a piece, the pair
    /// whose piece has the best score is joined, the leftmost of equals. There are no control tokens in texts.
    /// O(n log n) for n bytes.
    std::vector<Token> do_encode(std::string_view text, std::span<const TextRange> verbatim) const override;

    // The value of "<0xHH>", -1 for anything else.
    static int byte_of(std::string_view text) {
        if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>') return -1;
        int value = 0;
        for (const char c : text.substr(3, 2)) {
            const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
            if (digit < 0) return -1;
            value = 16 * value + digit;
        }
        return value;
    }

    std::vector<Token> split(std::string_view text) const;
    Token find(std::string_view text) const {
        const auto found = ids_.find(text);
        return found == ids_.end() ? -1 : found->second;
    }

    std::vector<char> content_;             // the file; pieces_ point into it
    std::vector<std::string_view> pieces_;  // [vocabulary]
    std::vector<float> scores_;             // [vocabulary]
    std::unordered_map<std::string_view, Token> ids_;
    char bytes_[256];
};

// The characters of " " + text, or their bytes where the vocabulary has no such character.
inline std::vector<Token> Llama2cTokenizer::split(std::string_view text) const {
    std::vector<Token> tokens;
    if (text.empty()) return tokens;
    tokens.reserve(text.size() + 1);
    const auto add = [&](std::string_view character) {
        if (const Token token = find(character); token >= 0) return tokens.push_back(token);
        for (const char c : character) {
            const Token token = static_cast<Token>(static_cast<unsigned char>(c)) + 3;
            if (token >= vocabulary()) {
                throw std::runtime_error("the tokenizer has no token for byte " + std::to_string(token - 3) +
                                         " of the text");
            }
            tokens.push_back(token);
        }
    };
    add(" ");
    while (!text.empty()) {
        const std::size_t length = std::max<std::size_t>(utf8_length(text), 1);
        add(text.substr(0, length));
        text.remove_prefix(length);
    }
    return tokens;
}

inline std::vector<Token> Llama2cTokenizer::do_encode(std::string_view text,
                                                      std::span<const TextRange> /*verbatim*/) const {
    PairMerger<float> merger;
    std::string both;
    const auto find_joined = [&](Token left, Token right) -> PairMerger<float>::Joined {
        both.assign(piece(left)).append(piece(right));
        const Token joined = find(both);
        if (joined < 0) return {};
        return {-scores_[static_cast<std::size_t>(joined)], joined};
    };
    std::vector<Token> tokens;
    merger.merge(split(text), find_joined, tokens);
    return tokens;
}

}  // namespace llama
