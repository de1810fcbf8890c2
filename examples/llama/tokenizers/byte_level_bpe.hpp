// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "llama/model/config.hpp"
#include "llama/tokenizers/added_tokens.hpp"
#include "llama/tokenizers/pair_merger.hpp"
#include "llama/tokenizers/regex_splitter.hpp"
#include "llama/tokenizers/tokenizer.hpp"

namespace llama {

/// What a byte-level BPE is made of. Tokens and merges are written in GPT-2's alphabet, in which each byte is a
/// printable character.
struct ByteLevelBpeParts {
    // Half as many again as the largest vocabularies have: each takes ten times its bytes in a file.
    static constexpr std::size_t most_tokens = std::size_t{1} << 19;
    static constexpr std::size_t most_merges = std::size_t{3} << 18;

    std::vector<std::string> tokens;                          ///< by id; empty: there is none of that id
    std::vector<std::pair<std::string, std::string>> merges;  ///< the best first
    std::vector<AddedToken> added;                            ///< their ids may, but need not, be among the tokens'
    std::vector<std::string> patterns;  ///< regular expressions; each cuts the pieces that those before it left
    bool ignore_merges = false;         ///< a piece that is a token becomes it, whatever the merges say
    bool nfc = false;                   ///< texts are normalised first
    bool add_prefix_space = false;      ///< a text begins with a space
    Token begin_of_text = -1;
    std::vector<Token> end_of_text;
};

/// The tokenizer of LLaMA-3, Qwen2 and GPT-2. A text is cut at its added tokens, then by the patterns into
/// pieces; within each the bytes are joined in the order of the merges.
class ByteLevelBpe final : public Tokenizer {
public:
    /// Throws FileError with `path` if the parts do not fit together, are too many, or a byte has no token.
    ByteLevelBpe(ByteLevelBpeParts parts, const std::string& path);

    Index vocabulary() const override { return static_cast<Index>(texts_.size()); }

    /// O(n log n) for a piece of n bytes. Throws std::runtime_error if the text is not UTF-8.
    std::vector<Token> encode(std::string_view text) const override;

    std::string_view decode(Token previous, Token token) const override;

private:
    using Merge = PairMerger<std::uint32_t>::Joined;
    struct Scratch;

    void add_tokens(const std::vector<std::string>& spelled, const std::string& path);
    void add_merges(const ByteLevelBpeParts& parts, const std::string& path);
    void add_added_tokens(const ByteLevelBpeParts& parts, const std::string& path);

    void encode_plain(std::string_view text, Scratch& scratch, std::vector<Token>& tokens) const;
    void encode_piece(std::string_view piece, Scratch& scratch, std::vector<Token>& tokens) const;

    Merge find_merge(Token left, Token right) const {
        const auto found = merges_.find(key(left, right));
        return found == merges_.end() ? Merge{} : found->second;
    }
    static std::uint64_t key(Token left, Token right) {
        return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
    }

    std::vector<std::string> texts_;  // by id: the bytes that the token stands for
    std::array<Token, 256> bytes_{};  // the token of each byte
    std::unordered_map<std::uint64_t, Merge> merges_;
    std::unordered_map<std::string, Token> whole_pieces_;  // with ignore_merges
    std::vector<RegexSplitter> splitters_;
    std::vector<AddedTokenFinder> added_;  // looked for one after the other: before normalisation, and after it
    bool nfc_;
    bool add_prefix_space_;
};

}  // namespace llama
