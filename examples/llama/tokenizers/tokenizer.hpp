// SPDX-License-Identifier: MIT
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "llama/model/config.hpp"

namespace llama {

struct Checkpoint;

/// Text to token ids and back. Immutable once made.
class Tokenizer {
public:
    virtual ~Tokenizer() = default;

    /// Ids are below it.
    virtual Index vocabulary() const = 0;

    /// The tokens of a UTF-8 text, without BOS. Texts of special tokens become these where the original
    /// tokenizer does the same.
    virtual std::vector<Token> encode(std::string_view text) const = 0;

    /// What stands before the end of a line never changes the tokens behind it, and the other way round.
    virtual bool lines_are_independent() const { return false; }

    /// The bytes that `token` adds to a text whose last token is `previous`; nothing for a control token.
    /// A character may be spread over several tokens. Valid as long as the tokenizer.
    virtual std::string_view decode(Token previous, Token token) const = 0;

    /// BOS, which the model expects before a text; -1: it expects none.
    Token begin_of_text() const { return begin_of_text_; }

    /// The model says with any of them that a text is over.
    const std::vector<Token>& end_of_text() const { return end_of_text_; }

protected:
    Tokenizer(Token begin_of_text, std::vector<Token> end_of_text)
        : begin_of_text_(begin_of_text), end_of_text_(std::move(end_of_text)) {}
    Tokenizer(const Tokenizer&) = delete;
    Tokenizer& operator=(const Tokenizer&) = delete;

    Token begin_of_text_;
    std::vector<Token> end_of_text_;
};

/// The tokenizer of a file (`given`), or if that is empty the one that comes with the checkpoint: inside a GGUF
/// file, in a model's directory (tokenizer.model, else tokenizer.json), beside a llama2.c file. Throws FileError
/// with the names that were looked for.
std::unique_ptr<Tokenizer> open_tokenizer(const std::string& given, const Checkpoint& checkpoint);

/// The tokenizer of a file or a model's directory, without a checkpoint. Throws FileError, also for a llama2.c
/// tokenizer, which is no use without its model's vocabulary.
std::unique_ptr<Tokenizer> open_tokenizer(const std::string& path);

}  // namespace llama
