// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <ctime>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace llama {

/// A part of a conversation as a model reads it.
struct ChatPiece {
    enum class Kind : std::uint8_t {
        words,          ///< what someone says: control tokens that are spelt in it are text
        markup,         ///< what the template says: those in it are control tokens
        begin_of_text,  ///< the tokenizer's BOS
        end_of_text,    ///< the tokenizer's EOS
    };
    Kind kind = Kind::words;
    std::string text{};  ///< empty for BOS and EOS

    bool operator==(const ChatPiece&) const = default;
};

using ChatPieces = std::vector<ChatPiece>;

/// How a family of models writes a conversation. Checkpoints have this as a program in the language Jinja, which is not
/// run but recognised. A conversation is first_turn(), a reply of the model's, next_turn(), a reply and so on: no
/// earlier part ever changes.
class ChatTemplate {
public:
    enum class Family : std::uint8_t {
        chatml,   ///< SmolLM2, Qwen2, Qwen3 and many others
        smollm3,  ///< ChatML with a head of its own
        llama2,   ///< the system's words within the user's first ones
        llama3,
        llama31,   ///< LLaMA-3.1 to 3.3: a head with dates
        mistral,   ///< 7B v0.1 and v0.2
        mistral3,  ///< 7B v0.3
        tekken,    ///< Mistral Nemo
        mistral7,  ///< with a place for the system's words
        zephyr,    ///< and TinyLlama
        phi3,
        gemma,
    };

    /// The template of a checkpoint by its text. Throws std::invalid_argument for one that is none of these.
    static ChatTemplate recognize(std::string_view jinja);

    /// The template of a family as it is without a checkpoint that says more. Throws std::invalid_argument for a name
    /// that is none of names().
    static ChatTemplate named(std::string_view name);

    /// "chatml, smollm3, ...".
    static std::string names();

    std::string_view name() const;

    /// What is said to the model before all else; empty: nothing. Until then it is what the template itself says.
    void set_system(const std::string& text) { system_ = text; }

    /// All before the first reply. `now` is for families whose models are told the date.
    ChatPieces first_turn(std::string_view user, std::time_t now = std::time(nullptr)) const;

    /// All between a reply and the next one.
    ChatPieces next_turn(std::string_view user) const;

    /// Control tokens that end a reply, beside the tokenizer's EOS.
    std::vector<std::string> ends_of_reply() const;

private:
    explicit ChatTemplate(Family family);

    std::string system_words() const;
    bool thinks() const;
    void add_user(ChatPieces& pieces, std::string_view system, std::string_view user) const;

    Family family_;
    // Of a checkpoint's own template:
    bool begins_with_bos_ = true;
    bool repeats_bos_ = false;     // before each of the user's messages
    bool spaced_ = true;           // Mistral: a space before or behind its marks
    bool tells_date_ = false;      // of this day, not that of the template
    bool opens_thinking_ = false;  // a reply begins with "<think>", which the template writes
    std::string default_system_{};
    std::string default_thinking_system_{};  // SmolLM3
    std::optional<std::string> system_{};
};

}  // namespace llama
