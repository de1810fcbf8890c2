// SPDX-License-Identifier: MIT
#include "llama/tokenizers/chat_template.hpp"

#include <array>
#include <cstddef>
#include <stdexcept>
#include <utility>

#include "llama/io/in_quotes.hpp"
#include "llama/tokenizers/template_marks.hpp"

namespace llama {

namespace {

using Family = ChatTemplate::Family;

// Stands for EOS in the markup.
constexpr char end_mark = '\x03';

struct Spelling {
    Family family;
    const char* name;
    bool system_is_user;  // the system's words are the beginning of the user's first ones
    const char* before_system;
    const char* behind_system;
    const char* before_user;
    const char* before_reply;  // what stands between the user's words and the reply
    const char* behind_reply;
    const char* ends;  // control tokens that end a reply, separated by spaces
};

constexpr std::array spellings{
    Spelling{Family::chatml, "chatml", false, "<|im_start|>system\n", "<|im_end|>\n", "<|im_start|>user\n",
             "<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>\n", "<|im_end|>"},
    Spelling{Family::smollm3, "smollm3", false, "<|im_start|>system\n", "<|im_end|>\n", "<|im_start|>user\n",
             "<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>\n", "<|im_end|>"},
    // The template has a space before EOS, which models leave out.
    Spelling{Family::llama2, "llama2", true, "<<SYS>>\n", "\n<</SYS>>\n\n", "[INST] ", " [/INST]", "\x03", ""},
    Spelling{Family::llama3, "llama3", false, "<|start_header_id|>system<|end_header_id|>\n\n", "<|eot_id|>",
             "<|start_header_id|>user<|end_header_id|>\n\n",
             "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>", "<|eot_id|> <|eom_id|>"},
    Spelling{Family::llama31, "llama31", false, "<|start_header_id|>system<|end_header_id|>\n\n", "<|eot_id|>",
             "<|start_header_id|>user<|end_header_id|>\n\n",
             "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>", "<|eot_id|> <|eom_id|>"},
    Spelling{Family::mistral, "mistral", true, "", "\n\n", "[INST] ", " [/INST]", "\x03", ""},
    Spelling{Family::mistral3, "mistral3", true, "", "\n\n", "[INST] ", "[/INST]", "\x03", ""},
    Spelling{Family::tekken, "tekken", true, "", "\n\n", "[INST]", "[/INST]", "\x03", ""},
    Spelling{Family::mistral7, "mistral7", false, "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[INST]", "[/INST]", "\x03",
             ""},
    Spelling{Family::zephyr, "zephyr", false, "<|system|>\n", "\x03\n", "<|user|>\n", "\x03\n<|assistant|>\n", "\x03\n",
             ""},
    Spelling{Family::phi3, "phi3", false, "<|system|>\n", "<|end|>\n", "<|user|>\n", "<|end|>\n<|assistant|>\n",
             "<|end|>\n", "<|end|>"},
    Spelling{Family::gemma, "gemma", true, "", "\n\n", "<start_of_turn>user\n", "<end_of_turn>\n<start_of_turn>model\n",
             "<end_of_turn>\n", "<end_of_turn>"},
};

const Spelling& spelling_of(Family family) {
    for (const Spelling& spelling : spellings) {
        if (spelling.family == family) return spelling;
    }
    throw std::invalid_argument("no such chat template");
}

void add(ChatPieces& pieces, ChatPiece::Kind kind, std::string_view text) {
    if (text.empty()) return;
    if (!pieces.empty() && pieces.back().kind == kind) {
        pieces.back().text += text;
    } else {
        pieces.push_back({kind, std::string(text)});
    }
}

void add_markup(ChatPieces& pieces, std::string_view text) {
    for (const char c : text) {
        if (c == end_mark) {
            pieces.push_back({ChatPiece::Kind::end_of_text});
        } else {
            add(pieces, ChatPiece::Kind::markup, {&c, 1});
        }
    }
}

constexpr std::string_view white_space = " \t\n\r\v\f";

std::string_view trim_end(std::string_view text) {
    const std::size_t last = text.find_last_not_of(white_space);
    return last == std::string_view::npos ? std::string_view() : text.substr(0, last + 1);
}

std::string_view trim(std::string_view text) {
    text = trim_end(text);
    return text.empty() ? text : text.substr(text.find_first_not_of(white_space));
}

// Which families' templates take white space off the ends of what people write.
bool trims(Family family) {
    return family == Family::llama2 || family == Family::llama3 || family == Family::llama31 || family == Family::gemma;
}

std::string date(std::time_t now, const char* format) {
    std::tm day{};
    ::localtime_r(&now, &day);
    std::array<char, 64> text{};
    return {text.data(), std::strftime(text.data(), text.size(), format, &day)};
}

std::string without(std::string text, std::string_view part) {
    for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at))
        text.erase(at, part.size());
    return text;
}

}  // namespace

ChatTemplate::ChatTemplate(Family family) : family_(family) {
    const bool without_bos =
        family == Family::chatml || family == Family::smollm3 || family == Family::zephyr || family == Family::phi3;
    begins_with_bos_ = !without_bos;
    repeats_bos_ = family == Family::llama2;
    tells_date_ = family == Family::smollm3 || family == Family::llama31;
}

ChatTemplate ChatTemplate::recognize(std::string_view jinja) {
    const std::optional<Family> family = find_family(jinja);
    if (!family) throw std::invalid_argument("the chat template is none of " + names());
    ChatTemplate found(*family);
    found.begins_with_bos_ = has(jinja, "bos_token");
    if (*family == Family::llama2) found.repeats_bos_ = has(jinja, "bos_token + '[INST]");
    if (*family == Family::chatml) {
        found.default_system_ = find_default_system(jinja);
        found.opens_thinking_ = has(jinja, "<|im_start|>assistant\\n<think>\\n'");
    }
    if (*family == Family::llama31) found.tells_date_ = has(jinja, "strftime_now");
    if (*family == Family::mistral) found.spaced_ = has(jinja, " [INST]");
    if (*family == Family::mistral7) found.spaced_ = has(jinja, "[INST] ");
    if (*family == Family::smollm3) {
        found.tells_date_ = has(jinja, "Today Date: ");
        const std::vector<std::string> defaults = find_literals(jinja, "You are ");
        if (!defaults.empty()) found.default_thinking_system_ = defaults.front();
        if (!defaults.empty()) found.default_system_ = defaults.back();
    }
    return found;
}

ChatTemplate ChatTemplate::named(std::string_view name) {
    for (const Spelling& spelling : spellings) {
        if (name == spelling.name) return ChatTemplate(spelling.family);
    }
    throw std::invalid_argument(in_quotes(name) + " is no chat template, there are " + names());
}

std::string ChatTemplate::names() {
    std::string all;
    for (const Spelling& spelling : spellings) all += (all.empty() ? "" : ", ") + std::string(spelling.name);
    return all;
}

std::string_view ChatTemplate::name() const { return spelling_of(family_).name; }

std::vector<std::string> ChatTemplate::ends_of_reply() const {
    std::vector<std::string> ends;
    std::string_view rest = spelling_of(family_).ends;
    while (!rest.empty()) {
        const std::size_t space = rest.find(' ');
        ends.emplace_back(rest.substr(0, space));
        rest.remove_prefix(space == std::string_view::npos ? rest.size() : space + 1);
    }
    return ends;
}

// Whether a SmolLM3 is to think before it answers, which the system's words decide.
bool ChatTemplate::thinks() const { return family_ == Family::smollm3 && !(system_ && has(*system_, "/no_think")); }

std::string ChatTemplate::system_words() const {
    if (family_ != Family::smollm3) {
        const std::string& words = system_ ? *system_ : default_system_;
        const bool trimmed = family_ == Family::llama3 || family_ == Family::llama31;
        return std::string(trimmed ? trim(words) : std::string_view(words));
    }
    const std::string& otherwise = thinks() ? default_thinking_system_ : default_system_;
    const std::string given(trim_end(without(without(system_.value_or(""), "/no_think"), "/think")));
    return given.empty() ? otherwise : given;
}

ChatPieces ChatTemplate::first_turn(std::string_view user, std::time_t now) const {
    const Spelling& spelling = spelling_of(family_);
    const std::string words = system_words();
    ChatPieces pieces;
    if (begins_with_bos_) pieces.push_back({ChatPiece::Kind::begin_of_text});
    if (spelling.system_is_user) {
        add_user(pieces, words, user);
        return pieces;
    }
    std::string head;
    if (family_ == Family::llama31) {
        head = "Cutting Knowledge Date: December 2023\nToday Date: " +
               (tells_date_ ? date(now, "%d %b %Y") : "26 Jul 2024") + "\n\n";
    } else if (family_ == Family::smollm3) {
        head = "## Metadata\n\nKnowledge Cutoff Date: June 2025\n" +
               (tells_date_ ? "Today Date: " + date(now, "%d %B %Y") + "\n" : "") +
               "Reasoning Mode: " + (thinks() ? "/think" : "/no_think") + "\n\n## Custom Instructions\n\n";
    }
    if (!head.empty() || !words.empty()) {
        add_markup(pieces, spelling.before_system);
        if (family_ == Family::mistral7 && spaced_) add_markup(pieces, " ");
        add_markup(pieces, head);
        add(pieces, ChatPiece::Kind::words, words);
        if (family_ == Family::smollm3) add_markup(pieces, "\n\n");
        add_markup(pieces, spelling.behind_system);
    }
    add_user(pieces, {}, user);
    return pieces;
}

ChatPieces ChatTemplate::next_turn(std::string_view user) const {
    ChatPieces pieces;
    add_markup(pieces, spelling_of(family_).behind_reply);
    if (begins_with_bos_ && repeats_bos_) pieces.push_back({ChatPiece::Kind::begin_of_text});
    add_user(pieces, {}, user);
    return pieces;
}

// What the user says, behind the system's words where these are a part of it.
void ChatTemplate::add_user(ChatPieces& pieces, std::string_view system, std::string_view user) const {
    const Spelling& spelling = spelling_of(family_);
    if (family_ == Family::mistral && spaced_) add_markup(pieces, " ");
    add_markup(pieces, spelling.before_user);
    if (family_ == Family::mistral7 && spaced_) add_markup(pieces, " ");
    if (!system.empty()) {
        add_markup(pieces, spelling.before_system);
        add(pieces, ChatPiece::Kind::words, system);
        add_markup(pieces, spelling.behind_system);
    }
    // LLaMA-2's template trims both together, which leaves the white space between them.
    if (trims(family_)) user = system.empty() || family_ != Family::llama2 ? trim(user) : trim_end(user);
    add(pieces, ChatPiece::Kind::words, user);
    add_markup(pieces, spelling.before_reply);
    if (opens_thinking_) add_markup(pieces, "<think>\n");
    if (family_ == Family::smollm3 && !thinks()) add_markup(pieces, "<think>\n\n</think>\n");
}

}  // namespace llama
