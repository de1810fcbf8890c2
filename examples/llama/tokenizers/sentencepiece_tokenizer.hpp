// SPDX-License-Identifier: MIT
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "llama/tokenizers/added_tokens.hpp"
#include "llama/tokenizers/safe_cuts.hpp"
#include "llama/tokenizers/tokenizer.hpp"

namespace sentencepiece {
class SentencePieceProcessor;
}

namespace llama {

/// What a SentencePiece model does not say itself.
struct SentencePieceSettings {
    Token begin_of_text = -1;  ///< -1: none
    std::vector<Token> end_of_text;
    Token appended_end = -1;
    std::vector<AddedToken> added;   ///< beside the model's own control pieces, of any ids
    bool space_behind_added = true;  ///< what follows an added token gets a space at its beginning, as a text does
};

/// A SentencePiece model, as LLaMA, LLaMA-2 and Mistral have it, run by libsentencepiece on what lies between control
/// and added tokens.
class SentencePieceTokenizer final : public Tokenizer {
public:
    /// A tokenizer.model with its own BOS and EOS, and what the files beside it say. Throws FileError.
    explicit SentencePieceTokenizer(const std::string& path);

    /// A serialised model; `path` is for messages.
    SentencePieceTokenizer(std::string_view model, const std::string& path, SentencePieceSettings settings);

    ~SentencePieceTokenizer() override;

    Index vocabulary() const override { return static_cast<Index>(texts_.size()); }

    bool lines_are_independent() const override { return lines_are_independent_; }

    /// `previous` is -1 or BOS at the beginning of a text, where the space that encode() put there is left out.
    std::string_view decode(Token previous, Token token) const override;

private:
    std::vector<Token> do_encode(std::string_view text, std::span<const TextRange> verbatim) const override;
    void encode_part(std::string_view text, std::vector<Token>& tokens) const;

    void load(std::string_view model, const std::string& path);
    void add_texts();
    void add_tokens(std::vector<AddedToken> added, const std::string& path);

    std::unique_ptr<sentencepiece::SentencePieceProcessor> processor_;
    std::vector<std::string> texts_;  // by id: what a token adds within a text
    std::optional<AddedTokenFinder> added_;
    std::optional<SafeCuts> cuts_;  // of long texts
    bool puts_space_ = false;       // at the beginning of a text; otherwise the library does if the model says so
    bool space_behind_added_ = true;
    bool drops_leading_space_ = true;
    bool lines_are_independent_ = false;
};

}  // namespace llama
