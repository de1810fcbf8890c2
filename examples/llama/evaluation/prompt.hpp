// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "llama/evaluation/sample.hpp"
#include "llama/tokenizers/chat_template.hpp"
#include "llama/tokenizers/tokenizer.hpp"

namespace llama {

/// When a question is known.
enum class Protocol : std::uint8_t {
    question_agnostic,  ///< behind the context: what compressions drop of it, they drop without knowing
    question_aware,     ///< before the context, too
};

/// What a model reads of a sample: first `context`, which all questions share, then one of `questions`.
struct Prompts {
    std::vector<Token> context;
    std::vector<std::vector<Token>> questions;
};

/// Writes samples as tokens: as a user's message and the beginning of a reply, or, without a chat template, as a text
/// to go on with.
class PromptWriter {
public:
    /// The tokenizer must outlive it. `vocabulary`: the model's.
    PromptWriter(const Tokenizer& tokenizer, Index vocabulary, std::optional<ChatTemplate> chat_template,
                 Protocol protocol)
        : tokenizer_(tokenizer), vocabulary_(vocabulary), template_(std::move(chat_template)), protocol_(protocol) {}

    /// Tokens of a sample that is all at once read and asked for; what its questions share is the longest common
    /// beginning, so that a question's tokens are the same as if it were alone. Throws FileError with `name` for what
    /// is not UTF-8 or not in the model's vocabulary.
    Prompts write(const Sample& sample, const std::string& name) const;

    /// Tokens of a text in the middle of others.
    Index count(std::string_view text) const { return static_cast<Index>(tokenizer_.encode(text).size()); }

    /// Tokens around a sample's own.
    Index frame() const;

private:
    std::vector<Token> encode(const Sample& sample, const Question& question, const std::string& name) const;

    const Tokenizer& tokenizer_;
    Index vocabulary_;
    std::optional<ChatTemplate> template_;
    Protocol protocol_;
};

}  // namespace llama
