// SPDX-License-Identifier: MIT
#include "llama/program/conversation.hpp"

#include <algorithm>
#include <cstddef>

#include "llama/io/stopwatch.hpp"
#include "llama/tokenizers/chat_tokens.hpp"
#include "llama/tokenizers/text.hpp"

namespace llama {

Conversation::Conversation(LanguageModel& model, const Tokenizer& tokenizer, const ChatTemplate& chat_template,
                           const SamplerOptions& sampler, Index prefill_chunk)
    : model_(model),
      tokenizer_(tokenizer),
      template_(chat_template),
      sampler_options_(sampler),
      sampler_(sampler, model.config().vocabulary),
      chunk_(prefill_chunk),
      ends_(find_ends_of_reply(tokenizer, chat_template)) {
    const std::vector<Token>& more = model.config().end_of_text;
    ends_.insert(ends_.end(), more.begin(), more.end());
}

bool Conversation::ends(Token token) const { return std::find(ends_.begin(), ends_.end(), token) != ends_.end(); }

Reply Conversation::respond(std::string_view message, Index most, const Watcher& watcher) {
    const std::vector<Token> heard =
        encode_chat(tokenizer_, began_ ? template_.next_turn(message) : template_.first_turn(message));
    check_tokens(heard, model_.config().vocabulary, "the message");
    unread_.insert(unread_.end(), heard.begin(), heard.end());
    began_ = true;

    Reply reply;
    const Stopwatch reading;
    Token previous = -1;
    while (!unread_.empty() && !watcher.stopped()) {
        const std::size_t count = std::min(static_cast<std::size_t>(chunk_), unread_.size());
        model_.forward({unread_.data(), count});
        previous = unread_[count - 1];
        unread_.erase(unread_.begin(), unread_.begin() + static_cast<std::ptrdiff_t>(count));
        reply.read += static_cast<Index>(count);
        watcher.reading(static_cast<Index>(unread_.size()));
    }
    reply.read_seconds = reading.seconds();
    const Stopwatch writing;
    while (unread_.empty() && reply.written < most && !watcher.stopped()) {
        const Token token = sampler_(model_.logits());
        if (ends(token)) break;
        watcher.show(tokenizer_.decode(previous, token));
        previous = token;
        ++reply.written;
        if (reply.written == most || watcher.stopped()) {
            unread_.push_back(token);  // with the next message
            break;
        }
        model_.forward({&token, 1});
    }
    reply.written_seconds = writing.seconds();
    tokens_ += reply.read + reply.written - static_cast<Index>(unread_.size() == 1 && reply.written > 0);
    return reply;
}

void Conversation::clear() {
    model_.clear();
    sampler_ = Sampler(sampler_options_, model_.config().vocabulary);
    unread_.clear();
    began_ = false;
    tokens_ = 0;
}

void Conversation::restart(const std::string& system) {
    template_.set_system(system);
    clear();
}

Index head_of_conversation(const Tokenizer& tokenizer, const ChatTemplate& chat_template) {
    return static_cast<Index>(encode_chat(tokenizer, chat_template.first_turn({})).size());
}

}  // namespace llama
