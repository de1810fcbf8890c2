// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "llama/model/config.hpp"

namespace llama {

struct Checkpoint;

/// A part of a text: its bytes from `begin` to before `end`.
struct TextRange {
    std::size_t begin = 0, end = 0;
};

/// Whether the texts of control tokens become these tokens (as in a prompt, or what a template writes), or are
/// characters as all others (as in what a user says).
enum class SpecialTokens : std::uint8_t { parsed, plain };

/// Text to token ids and back. Immutable once made.
class Tokenizer {
public:
    virtual ~Tokenizer() = default;

    /// Ids are below it.
    virtual Index vocabulary() const = 0;

    /// The tokens of a UTF-8 text, without BOS.
    std::vector<Token> encode(std::string_view text, SpecialTokens special = SpecialTokens::parsed) const {
        const TextRange all{0, text.size()};
        return special == SpecialTokens::parsed ? do_encode(text, {}) : do_encode(text, {&all, 1});
    }

    /// The same for a text of both kinds: in the ranges `verbatim`, in their order and apart from each other, and
    /// across their ends, no control token is read. All else is as if the ranges were none: words may reach across
    /// their ends.
    std::vector<Token> encode(std::string_view text, std::span<const TextRange> verbatim) const {
        return do_encode(text, verbatim);
    }

    /// What stands before the end of a line never changes the tokens behind it, and the other way round.
    virtual bool lines_are_independent() const { return false; }

    /// The bytes that `token` adds to a text whose last token is `previous`; nothing for a control token.
    /// A character may be spread over several tokens. Valid as long as the tokenizer.
    virtual std::string_view decode(Token previous, Token token) const = 0;

    /// BOS, which the model expects before a text; -1: it expects none.
    Token begin_of_text() const { return begin_of_text_; }

    /// EOS where the model's own tokenizer puts it behind a text that is complete; -1: it does not.
    Token appended_end() const { return appended_end_; }

    /// The model says with any of them that a text is over.
    const std::vector<Token>& end_of_text() const { return end_of_text_; }

protected:
    Tokenizer(Token begin_of_text, std::vector<Token> end_of_text, Token appended_end = -1)
        : begin_of_text_(begin_of_text), appended_end_(appended_end), end_of_text_(std::move(end_of_text)) {}
    Tokenizer(const Tokenizer&) = delete;
    Tokenizer& operator=(const Tokenizer&) = delete;

    Token begin_of_text_;
    Token appended_end_;
    std::vector<Token> end_of_text_;

private:
    virtual std::vector<Token> do_encode(std::string_view text, std::span<const TextRange> verbatim) const = 0;
};

/// The tokenizer of a file (`given`), or if that is empty the one that comes with the checkpoint: inside a GGUF
/// file, in a model's directory (tokenizer.model, else tokenizer.json), beside a llama2.c file. Throws FileError
/// with the names that were looked for.
std::unique_ptr<Tokenizer> open_tokenizer(const std::string& given, const Checkpoint& checkpoint);

/// The tokenizer of a file or a model's directory, without a checkpoint. Throws FileError, also for a llama2.c
/// tokenizer, which is no use without its model's vocabulary.
std::unique_ptr<Tokenizer> open_tokenizer(const std::string& path);

}  // namespace llama
