// SPDX-License-Identifier: MIT
#define PCRE2_CODE_UNIT_WIDTH 8  // NOLINT(readability-identifier-naming): PCRE2's name
#include "llama/tokenizers/regex_splitter.hpp"

#include <pcre2.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <new>
#include <stdexcept>

namespace llama {

namespace {

std::string message_of(int error) {
    PCRE2_UCHAR text[256] = {};
    pcre2_get_error_message(error, text, sizeof text);
    return reinterpret_cast<const char*>(text);
}

// The pattern for PCRE2, whose \s has a character more than Unicode's white space, which is what tokenizers mean.
std::string translate(const std::string& pattern) {
    constexpr std::string_view same_in_both = "pPdDrntfx";
    if (pattern.find("&&") != std::string::npos) throw std::invalid_argument("intersections (&&) are not supported");
    std::string translated;
    for (std::size_t i = 0; i < pattern.size(); ++i) {
        translated += pattern[i];
        if (pattern[i] != '\\' || i + 1 == pattern.size()) continue;
        const char escaped = pattern[++i];
        if (escaped == 's' || escaped == 'S') {
            translated += escaped == 's' ? "p{White_Space}" : "P{White_Space}";
            continue;
        }
        const bool is_letter = (escaped >= 'a' && escaped <= 'z') || (escaped >= 'A' && escaped <= 'Z');
        const bool is_digit = escaped >= '0' && escaped <= '9';
        if (is_digit || (is_letter && same_in_both.find(escaped) == std::string_view::npos)) {
            throw std::invalid_argument(std::string("the escape \\") + escaped + " is not supported");
        }
        translated += escaped;
    }
    return translated;
}

}  // namespace

void RegexScratch::Free::operator()(pcre2_real_match_data_8* data) const { pcre2_match_data_free(data); }
void RegexScratch::Free::operator()(pcre2_real_match_context_8* context) const { pcre2_match_context_free(context); }
void RegexScratch::Free::operator()(pcre2_real_jit_stack_8* stack) const { pcre2_jit_stack_free(stack); }
void RegexSplitter::Free::operator()(pcre2_real_code_8* code) const { pcre2_code_free(code); }

RegexScratch::RegexScratch()
    : data_(pcre2_match_data_create(1, nullptr)),
      context_(pcre2_match_context_create(nullptr)),
      stack_(pcre2_jit_stack_create(std::size_t{32} << 10, std::size_t{1} << 20, nullptr)) {
    if (!data_ || !context_) throw std::bad_alloc();
    pcre2_set_heap_limit(context_.get(), 64 << 10);  // KiB
    if (stack_) pcre2_jit_stack_assign(context_.get(), nullptr, stack_.get());
}

RegexSplitter::RegexSplitter(const std::string& pattern) {
    constexpr std::size_t longest = 4096;
    if (pattern.size() > longest) {
        throw std::invalid_argument("the pattern has " + std::to_string(pattern.size()) + " bytes; at most " +
                                    std::to_string(longest) + " are allowed");
    }
    const std::string translated = translate(pattern);
    int error = 0;
    PCRE2_SIZE offset = 0;
    // MULTILINE because ^ and $ always mean lines where these patterns come from.
    code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                              PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error, &offset,
                              nullptr));
    if (!code_) throw std::invalid_argument(message_of(error));
    std::uint32_t matches_nothing = 0;
    pcre2_pattern_info(code_.get(), PCRE2_INFO_MATCHEMPTY, &matches_nothing);
    if (matches_nothing != 0) throw std::invalid_argument("the pattern can match the empty text");
    pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE);  // where there is no JIT the interpreter does the same
}

void RegexSplitter::split(std::string_view text, RegexScratch& scratch, std::vector<std::string_view>& pieces) const {
    // The patterns of tokenizers go over a character a few times; others may take exponential time.
    const std::uint64_t steps = 1'000'000 + 8 * std::uint64_t{text.size()};
    pcre2_set_match_limit(scratch.context_.get(), static_cast<std::uint32_t>(std::min<std::uint64_t>(
                                                      steps, std::numeric_limits<std::uint32_t>::max())));
    const auto* const subject = reinterpret_cast<PCRE2_SPTR>(text.data());
    const PCRE2_SIZE* const match = pcre2_get_ovector_pointer(scratch.data_.get());
    std::size_t at = 0;
    while (at < text.size()) {
        const int result = pcre2_match(code_.get(), subject, text.size(), at, PCRE2_NO_UTF_CHECK, scratch.data_.get(),
                                       scratch.context_.get());
        if (result == PCRE2_ERROR_NOMATCH) break;
        if (result < 0) throw std::runtime_error("the tokenizer's pattern fails on the text: " + message_of(result));
        const std::size_t begin = match[0];
        const std::size_t end = match[1];
        if (begin > at) pieces.push_back(text.substr(at, begin - at));
        pieces.push_back(text.substr(begin, end - begin));
        at = end;
    }
    if (at < text.size()) pieces.push_back(text.substr(at));
}

}  // namespace llama
