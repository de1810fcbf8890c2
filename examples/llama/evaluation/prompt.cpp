// SPDX-License-Identifier: MIT
#include "llama/evaluation/prompt.hpp"

#include <algorithm>
#include <cstddef>
#include <stdexcept>

#include "llama/io/file.hpp"
#include "llama/tokenizers/chat_tokens.hpp"
#include "llama/tokenizers/text.hpp"

namespace llama {

std::vector<Token> PromptWriter::encode(const Sample& sample, const Question& question, const std::string& name) const {
    std::string text;
    if (protocol_ == Protocol::question_aware && !question.text.empty()) text = question.text + "\n\n";
    text += sample.context + question.text;
    if (!template_) return encode_prompt(tokenizer_, text + question.answer_prefix, name, vocabulary_);
    std::vector<Token> tokens;
    try {
        tokens = encode_chat(tokenizer_, template_->first_turn(text));
    } catch (const std::invalid_argument& error) {
        throw FileError(name, error.what());
    }
    const std::vector<Token> prefix = tokenizer_.encode(question.answer_prefix, SpecialTokens::plain);
    tokens.insert(tokens.end(), prefix.begin(), prefix.end());
    check_tokens(tokens, vocabulary_, name);
    return tokens;
}

Prompts PromptWriter::write(const Sample& sample, const std::string& name) const {
    Prompts prompts;
    prompts.questions.reserve(sample.questions.size());
    for (const Question& question : sample.questions) prompts.questions.push_back(encode(sample, question, name));
    if (prompts.questions.empty()) return prompts;
    const std::vector<Token>& first = prompts.questions.front();
    std::size_t shared = first.size() - 1;  // each has a token of its own, after which its answer begins
    for (const std::vector<Token>& tokens : prompts.questions) {
        const auto end = first.begin() + static_cast<std::ptrdiff_t>(std::min(shared, tokens.size() - 1));
        shared = static_cast<std::size_t>(std::mismatch(first.begin(), end, tokens.begin()).first - first.begin());
    }
    const auto length = static_cast<std::ptrdiff_t>(shared);
    prompts.context.assign(first.begin(), first.begin() + length);
    for (std::vector<Token>& tokens : prompts.questions) tokens.erase(tokens.begin(), tokens.begin() + length);
    return prompts;
}

Index PromptWriter::frame() const {
    if (!template_) return tokenizer_.begin_of_text() >= 0 ? 1 : 0;
    return static_cast<Index>(encode_chat(tokenizer_, template_->first_turn({})).size());
}

}  // namespace llama
