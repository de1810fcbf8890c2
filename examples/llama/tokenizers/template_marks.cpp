// SPDX-License-Identifier: MIT
#include "llama/tokenizers/template_marks.hpp"

#include <cstddef>

namespace llama {

namespace {

// A text as it stands within quotes.
std::string unescape(std::string_view quoted) {
    std::string text;
    for (std::size_t i = 0; i < quoted.size(); ++i) {
        if (quoted[i] != '\\' || i + 1 == quoted.size()) {
            text += quoted[i];
            continue;
        }
        const char c = quoted[++i];
        text += c == 'n' ? '\n' : c == 't' ? '\t' : c;
    }
    return text;
}

std::string without_end(std::string text) {
    text.erase(text.find_last_not_of(" \t\n\r\v\f") + 1);
    return text;
}

}  // namespace

bool has(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

std::string find_default_system(std::string_view jinja) {
    constexpr std::string_view begin = "<|im_start|>system";
    constexpr std::string_view end = "<|im_end|>";
    constexpr std::size_t longest = 16384;
    for (std::size_t at = jinja.find(begin); at != std::string_view::npos; at = jinja.find(begin, at)) {
        at += begin.size();
        std::string_view rest = jinja.substr(at, longest);
        if (rest.starts_with("\\n")) {
            rest.remove_prefix(2);
        } else if (rest.starts_with('\n')) {
            rest.remove_prefix(1);
        } else {
            continue;
        }
        const std::string_view words = rest.substr(0, rest.find(end));
        const bool literal = !words.empty() && words.size() < rest.size() && !has(words, "}}") && !has(words, "{{") &&
                             !has(words, "{%") && !has(words, "' +") && !has(words, "\" +");
        if (literal) return unescape(words);
    }
    return {};
}

std::vector<std::string> find_literals(std::string_view jinja, std::string_view begin) {
    std::vector<std::string> found;
    const std::string quoted = '"' + std::string(begin);
    for (std::size_t at = jinja.find(quoted); at != std::string_view::npos; at = jinja.find(quoted, at + 1)) {
        const std::string_view rest = jinja.substr(at + 1);
        const std::size_t end = rest.find('"');
        if (end == std::string_view::npos) break;
        found.push_back(without_end(unescape(rest.substr(0, end))));
    }
    return found;
}

std::optional<ChatTemplate::Family> find_family(std::string_view jinja) {
    using Family = ChatTemplate::Family;
    if (has(jinja, "<|im_start|>")) {
        if (has(jinja, "<|im_sep|>") || has(jinja, "<end_of_utterance>")) return std::nullopt;
        const bool head = has(jinja, "## Custom Instructions") && has(jinja, "Reasoning Mode: ");
        return head ? Family::smollm3 : Family::chatml;
    }
    if (has(jinja, "<|start_header_id|>")) {
        return has(jinja, "Cutting Knowledge Date") ? Family::llama31 : Family::llama3;
    }
    if (has(jinja, "<start_of_turn>")) return Family::gemma;
    if (has(jinja, "[INST]")) {
        if (has(jinja, "[SYSTEM_PROMPT]")) return Family::mistral7;
        if (has(jinja, "<<SYS>>")) return Family::llama2;
        if (!has(jinja, "[AVAILABLE_TOOLS]")) return Family::mistral;
        return has(jinja, "[INST] ") ? Family::mistral3 : Family::tekken;
    }
    if (has(jinja, "<|user|>") && has(jinja, "<|assistant|>") && !has(jinja, "tool")) {
        if (has(jinja, "<|end|>")) return Family::phi3;
        if (has(jinja, "eos_token")) return Family::zephyr;
    }
    return std::nullopt;
}

}  // namespace llama
