// SPDX-License-Identifier: MIT
#include "llama/tokenizers/chat_tokens.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "llama/io/utf8.hpp"

namespace llama {

namespace {

// Text between BOS and EOS, in which words and markup may be parts of one token.
class Passage {
public:
    explicit Passage(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

    void add(const ChatPiece& piece) {
        const std::size_t begin = text_.size();
        text_ += piece.text;
        if (piece.kind == ChatPiece::Kind::words) words_.push_back({begin, text_.size()});
    }

    void move_to(std::vector<Token>& tokens) {
        if (!text_.empty()) {
            const std::vector<Token> more = tokenizer_.encode(text_, words_);
            tokens.insert(tokens.end(), more.begin(), more.end());
        }
        text_.clear();
        words_.clear();
    }

private:
    const Tokenizer& tokenizer_;
    std::string text_;
    std::vector<TextRange> words_;
};

}  // namespace

std::vector<Token> encode_chat(const Tokenizer& tokenizer, const ChatPieces& pieces) {
    std::vector<Token> tokens;
    Passage passage(tokenizer);
    for (const ChatPiece& piece : pieces) {
        switch (piece.kind) {
            case ChatPiece::Kind::words:
                if (const auto offset = first_invalid_utf8(piece.text)) {
                    throw std::invalid_argument("the message is not UTF-8 at byte " + std::to_string(*offset));
                }
                passage.add(piece);
                break;
            case ChatPiece::Kind::markup:
                passage.add(piece);
                break;
            case ChatPiece::Kind::begin_of_text:
                passage.move_to(tokens);
                if (tokenizer.begin_of_text() >= 0) tokens.push_back(tokenizer.begin_of_text());
                break;
            case ChatPiece::Kind::end_of_text:
                passage.move_to(tokens);
                if (!tokenizer.end_of_text().empty()) tokens.push_back(tokenizer.end_of_text().front());
                break;
        }
    }
    passage.move_to(tokens);
    return tokens;
}

std::vector<Token> find_ends_of_reply(const Tokenizer& tokenizer, const ChatTemplate& chat_template) {
    std::vector<Token> ends = tokenizer.end_of_text();
    const std::vector<std::string> names = chat_template.ends_of_reply();
    bool found = names.empty();
    for (const std::string& name : names) {
        // A control token is one token; what is spelt is more.
        const std::vector<Token> tokens = tokenizer.encode(name);
        if (tokens.size() != 1) continue;
        found = true;
        if (std::find(ends.begin(), ends.end(), tokens.front()) == ends.end()) ends.push_back(tokens.front());
    }
    if (!found) {
        throw std::invalid_argument("the tokenizer has no token " + names.front() +
                                    ", which ends replies in the template " + std::string(chat_template.name()));
    }
    return ends;
}

}  // namespace llama
