// SPDX-License-Identifier: MIT
#define PCRE2_CODE_UNIT_WIDTH 8  // NOLINT(readability-identifier-naming): PCRE2's name
#include "llama/formats/module_patterns.hpp"

#include <pcre2.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <new>

#include "llama/io/file.hpp"
#include "llama/io/in_quotes.hpp"

namespace llama {

namespace {

bool is_word(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

// A dot of the name is any character.
bool is_same(std::string_view text, std::string_view name) {
    return std::equal(text.begin(), text.end(), name.begin(), name.end(),
                      [](char c, char expected) { return expected == '.' || c == expected; });
}

std::string message_of(int error) {
    PCRE2_UCHAR text[256] = {};
    pcre2_get_error_message(error, text, sizeof text);
    return reinterpret_cast<const char*>(text);
}

// What belongs to a regular expression, for the time of a match.
struct FreeMatch {
    void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
    void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
};

}  // namespace

void ModulePatterns::Free::operator()(pcre2_real_code_8* code) const { pcre2_code_free(code); }

ModulePatterns::ModulePatterns(std::string path, std::string name,
                               const std::vector<std::pair<std::string, double>>& numbers)
    : path_(std::move(path)), name_(std::move(name)) {
    constexpr std::size_t most = 65536;
    constexpr std::size_t most_expressions = 256;
    const auto check_count = [&](std::size_t count, std::size_t limit, const char* kind) {
        if (count > limit) {
            throw FileError(path_, name_ + " has " + std::to_string(count) + " " + kind + ", must be at most " +
                                       std::to_string(limit));
        }
    };
    check_count(numbers.size(), most, "keys");
    std::size_t expressions = 0;
    for (const auto& [key, number] : numbers) {
        Pattern pattern{key, number, key.starts_with('^'), key.substr(key.starts_with('^') ? 1 : 0), nullptr};
        if (pattern.name.ends_with('$')) pattern.name.pop_back();
        const bool is_name =
            std::ranges::all_of(pattern.name, [](char c) { return is_word(c) || c == '.'; }) && !pattern.name.empty();
        if (!is_name) {
            pattern.name.clear();
            check_count(++expressions, most_expressions, "regular expressions");
            compile(pattern);
        }
        patterns_.push_back(std::move(pattern));
    }
}

void ModulePatterns::fail(const std::string& key, const std::string& reason) const {
    throw FileError(path_, "the key " + in_quotes(key) + " of " + name_ + " " + reason);
}

// Refuses what only one of Python and PCRE2 knows, or each in its own way.
void ModulePatterns::check_kind(const std::string& key) const {
    constexpr std::string_view same_escapes = "dDwWsSbBAntrfv";
    constexpr std::array<std::string_view, 8> same_groups = {
        "(?:", "(?=", "(?!", "(?<=", "(?<!", "(?P<", "(?P=", "(?>"};
    const std::string_view text = key;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const std::string_view rest = text.substr(i);
        if (rest[0] == '\\') {
            const char escaped = rest.size() > 1 ? rest[1] : 'Z';
            const bool is_letter = (escaped >= 'a' && escaped <= 'z') || (escaped >= 'A' && escaped <= 'Z');
            const bool is_backward = escaped >= '0' && escaped <= '9';
            if (is_backward || (is_letter && same_escapes.find(escaped) == std::string_view::npos)) {
                fail(key, std::string("has the escape \\") + escaped + ", which is not supported");
            }
            ++i;
            continue;
        }
        const bool is_group = rest.starts_with("(?") || rest.starts_with("(*");
        const auto begins = [&](std::string_view group) { return rest.starts_with(group); };
        if (is_group && std::ranges::none_of(same_groups, begins)) {
            fail(key, "has a group that begins with " + in_quotes(rest.substr(0, 3)) + ", which is not supported");
        }
        for (const std::string_view other : {"[[:", "[:", "[[.", "[[=", "{,", "[]", "[^]"}) {
            if (begins(other)) fail(key, "has " + in_quotes(other) + ", which is not supported");
        }
    }
}

void ModulePatterns::compile(Pattern& pattern) const {
    constexpr std::size_t longest = 4096;
    if (pattern.key.size() > longest) fail(pattern.key, "is longer than " + std::to_string(longest) + " bytes");
    check_kind(pattern.key);
    const std::string whole = "(.*\\.)?(" + pattern.key + ")$";
    int error = 0;
    PCRE2_SIZE offset = 0;
    pattern.regex.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(whole.data()), whole.size(),
                                      PCRE2_ANCHORED | PCRE2_DOLLAR_ENDONLY | PCRE2_NEVER_BACKSLASH_C, &error, &offset,
                                      nullptr));
    if (!pattern.regex) fail(pattern.key, "is no regular expression: " + message_of(error));
}

bool ModulePatterns::matches(const Pattern& pattern, std::string_view module) const {
    if (!pattern.name.empty()) {
        const std::size_t size = pattern.name.size();
        if (module.size() < size) return false;
        const std::size_t before = module.size() - size;
        const bool begins_there = before == 0 || (!pattern.from_start && module[before - 1] == '.');
        return begins_there && is_same(module.substr(before), pattern.name);
    }
    constexpr std::uint32_t most_steps = 20000;  // three wildcards over a long name take a tenth of it
    const std::unique_ptr<pcre2_match_data, FreeMatch> data(pcre2_match_data_create(1, nullptr));
    const std::unique_ptr<pcre2_match_context, FreeMatch> context(pcre2_match_context_create(nullptr));
    if (!data || !context) throw std::bad_alloc();
    pcre2_set_match_limit(context.get(), most_steps);
    pcre2_set_heap_limit(context.get(), 1024);  // KiB
    const int result = pcre2_match(pattern.regex.get(), reinterpret_cast<PCRE2_SPTR>(module.data()), module.size(), 0,
                                   0, data.get(), context.get());
    if (result < 0 && result != PCRE2_ERROR_NOMATCH) {
        fail(pattern.key, "fails on " + in_quotes(module) + ": " + message_of(result));
    }
    return result >= 0;
}

std::optional<double> ModulePatterns::find(std::string_view module) const {
    for (const Pattern& pattern : patterns_) {
        if (matches(pattern, module)) return pattern.number;
    }
    return std::nullopt;
}

}  // namespace llama
