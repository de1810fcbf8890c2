// SPDX-License-Identifier: MIT
#pragma once

#include <vector>

#include "llama/tokenizers/chat_template.hpp"
#include "llama/tokenizers/tokenizer.hpp"

namespace llama {

/// The tokens of a part of a conversation. What is spelt in someone's words is never a control token. Throws
/// std::invalid_argument if the words are not UTF-8.
std::vector<Token> encode_chat(const Tokenizer& tokenizer, const ChatPieces& pieces);

/// The tokens that end a reply: those of the template and the tokenizer's own. Throws std::invalid_argument if the
/// tokenizer has none of the template's.
std::vector<Token> find_ends_of_reply(const Tokenizer& tokenizer, const ChatTemplate& chat_template);

}  // namespace llama
