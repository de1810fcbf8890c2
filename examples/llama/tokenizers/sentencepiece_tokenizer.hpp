// SPDX-License-Identifier: MIT
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "llama/tokenizers/tokenizer.hpp"

namespace sentencepiece {
class SentencePieceProcessor;
}

namespace llama {

/// A SentencePiece model, as LLaMA, LLaMA-2 and Mistral have it, run by libsentencepiece.
class SentencePieceTokenizer final : public Tokenizer {
public:
    /// A tokenizer.model, with its own BOS and EOS. Throws FileError.
    explicit SentencePieceTokenizer(const std::string& path);

    /// A serialised model; `path` is for messages. BOS -1: none.
    SentencePieceTokenizer(std::string_view model, const std::string& path, Token begin_of_text,
                           std::vector<Token> end_of_text);

    ~SentencePieceTokenizer() override;

    Index vocabulary() const override { return static_cast<Index>(texts_.size()); }

    bool lines_are_independent() const override { return lines_are_independent_; }

    /// `previous` is -1 or BOS at the beginning of a text, where the space that encode() put there is left out.
    std::string_view decode(Token previous, Token token) const override;

private:
    std::vector<Token> do_encode(std::string_view text, std::span<const TextRange> verbatim) const override;
    void load(std::string_view model, const std::string& path);

    std::unique_ptr<sentencepiece::SentencePieceProcessor> processor_;
    std::vector<std::string> texts_;  // by id: what a token adds within a text
    bool drops_leading_space_ = true;
    bool lines_are_independent_ = false;
};

}  // namespace llama
