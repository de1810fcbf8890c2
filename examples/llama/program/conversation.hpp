// SPDX-License-Identifier: MIT
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "llama/model/language_model.hpp"
#include "llama/model/sampler.hpp"
#include "llama/tokenizers/chat_template.hpp"
#include "llama/tokenizers/tokenizer.hpp"

namespace llama {

/// What became of one message.
struct Reply {
    Index read = 0;  ///< tokens of the message and what the template puts around it
    double read_seconds = 0;
    Index written = 0;  ///< tokens of the reply
    double written_seconds = 0;
};

/// A conversation with a model. Nothing of it is kept but what the model's cache keeps: it may go on for ever.
class Conversation {
public:
    /// All must outlive it. Throws std::invalid_argument if the tokenizer does not have what the template needs.
    Conversation(LanguageModel& model, const Tokenizer& tokenizer, const ChatTemplate& chat_template,
                 const SamplerOptions& sampler, Index prefill_chunk);

    /// What the conversation is doing, and whether it is to go on with it.
    struct Watcher {
        std::function<void(std::string_view)> show;              ///< the bytes of a token of the reply
        std::function<void(Index left)> reading = [](Index) {};  ///< tokens of the message that are not yet read
        std::function<bool()> stopped = [] { return false; };
    };

    /// Reads what the user says and writes a reply of at most `most` tokens. A message that is not read to its end, or
    /// a reply that is stopped, is a part of the conversation as it is. Throws std::invalid_argument, without change,
    /// if the message is not UTF-8.
    Reply respond(std::string_view message, Index most, const Watcher& watcher);

    /// Forgets everything.
    void clear();

    /// The same, and from now on `system` is said first.
    void restart(const std::string& system);

    /// Tokens since the beginning.
    Index tokens() const { return tokens_; }

private:
    bool ends(Token token) const;

    LanguageModel& model_;
    const Tokenizer& tokenizer_;
    ChatTemplate template_;
    SamplerOptions sampler_options_;
    Sampler sampler_;
    Index chunk_;
    std::vector<Token> ends_;
    std::vector<Token> unread_;
    bool began_ = false;
    Index tokens_ = 0;
};

/// Tokens before the user's first words, and those behind a message before its reply.
Index head_of_conversation(const Tokenizer& tokenizer, const ChatTemplate& chat_template);

}  // namespace llama
