// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "llama/model/config.hpp"
#include "llama/tokenizers/added_tokens.hpp"
#include "llama/tokenizers/pair_merger.hpp"
#include "llama/tokenizers/regex_splitter.hpp"
#include "llama/tokenizers/safe_cuts.hpp"
#include "llama/tokenizers/tokenizer.hpp"

namespace llama {

/// A step of a text's normalisation.
struct TextEdit {
    enum class Kind : std::uint8_t { nfc, prepend, replace };
    Kind kind = Kind::nfc;
    std::string from{};  ///< of replace
    std::string to{};    ///< of replace; prepend puts it before a text that is not empty
};

/// Which parts of a text get a space at their beginning, unless they begin with one. A text's parts lie between its
/// added tokens.
enum class PrefixSpace : std::uint8_t { never, first, always };

/// What a byte-pair encoding is made of, in the order in which a text goes through it.
struct BpeParts {
    // Half as many again as the largest vocabularies have: each takes ten times its bytes in a file.
    static constexpr std::size_t most_tokens = std::size_t{3} << 17;
    static constexpr std::size_t most_merges = std::size_t{3} << 18;

    bool byte_level = true;  ///< tokens are written in GPT-2's alphabet, a character for each byte; else as they are
    std::vector<AddedToken> added;  ///< their ids may, but need not, be among the tokens'
    std::vector<TextEdit> edits;    ///< of what lies between added tokens
    bool mark_spaces = false;       ///< spaces become U+2581, also in the prefix
    PrefixSpace prefix_space = PrefixSpace::never;
    std::vector<TextSplit> splits;    ///< each cuts the pieces that those before it left
    bool ignore_merges = false;       ///< a piece that is a token becomes it, whatever the merges say
    std::vector<std::string> tokens;  ///< by id; empty: there is none of that id
    std::vector<std::pair<std::string, std::string>> merges;  ///< the best first
    bool byte_fallback = false;  ///< a character that is no token becomes the tokens <0x00> to <0xFF> of its bytes
    Token unknown = -1;         ///< what becomes of bytes or characters without a token; -1: nothing, they are left out
    bool fuse_unknown = false;  ///< one for several beside each other
    bool drops_leading_space = false;  ///< the space at the beginning of a decoded text is not the text's own
    Token begin_of_text = -1;
    std::vector<Token> end_of_text;
    Token appended_end = -1;
};

/// The tokenizer of LLaMA-3, Qwen2 and GPT-2 (byte-level), and LLaMA-2's as the tokenizers library has it (of
/// characters). A text is cut at its added tokens, then by the splits into pieces; within each the bytes or characters
/// are joined in the order of the merges.
class Bpe final : public Tokenizer {
public:
    /// Throws FileError with `path` if the parts do not fit together or are too many.
    Bpe(BpeParts parts, const std::string& path);

    Index vocabulary() const override { return static_cast<Index>(texts_.size()); }
    bool lines_are_independent() const override { return lines_are_independent_; }
    std::string_view decode(Token previous, Token token) const override;

private:
    using Merge = PairMerger<std::uint32_t>::Joined;
    struct Scratch;

    void add_tokens(const BpeParts& parts);
    void add_text(const BpeParts& parts, const std::string& token, Token id);
    void add_merges(const BpeParts& parts, const std::string& path);
    void add_cuts(const BpeParts& parts);
    void add_added_tokens(const BpeParts& parts, const std::string& path);

    /// O(n log n) for a piece of n bytes. Throws std::runtime_error if the text is not UTF-8.
    std::vector<Token> do_encode(std::string_view text, std::span<const TextRange> verbatim) const override;

    std::string normalize(std::string_view text) const;
    void encode_plain(std::string text, bool is_first, Scratch& scratch, std::vector<Token>& tokens) const;
    void encode_piece(std::string_view piece, Scratch& scratch, std::vector<Token>& tokens) const;
    void spell_bytes(std::string_view piece, std::vector<Token>& symbols) const;
    void spell_characters(std::string_view piece, std::vector<Token>& symbols) const;
    Token find_character(std::string_view character) const;

    Merge find_merge(Token left, Token right) const {
        const auto found = merges_.find(key(left, right));
        return found == merges_.end() ? Merge{} : found->second;
    }
    static std::uint64_t key(Token left, Token right) {
        return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
    }

    bool byte_level_;
    std::vector<TextEdit> edits_;
    bool mark_spaces_;
    PrefixSpace prefix_space_;
    bool byte_fallback_;
    Token unknown_;
    bool fuse_unknown_;
    bool drops_leading_space_;
    bool lines_are_independent_ = false;
    std::vector<std::string> texts_;                     // by id: the bytes that the token stands for
    std::array<Token, 256> bytes_{};                     // the token of each byte; -1: none
    std::unordered_map<std::string, Token> characters_;  // those that are tokens
    std::unordered_map<std::uint64_t, Merge> merges_;
    std::unordered_map<std::string, Token> whole_pieces_;  // with ignore_merges
    std::optional<SafeCuts> cuts_;                         // of long pieces
    std::vector<RegexSplitter> splitters_;
    std::vector<AddedTokenFinder> added_;  // looked for one after the other: before normalisation, and after it
};

}  // namespace llama
