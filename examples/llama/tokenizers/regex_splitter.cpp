// SPDX-License-Identifier: MIT
#define PCRE2_CODE_UNIT_WIDTH 8  // NOLINT(readability-identifier-naming): PCRE2's name
#include "llama/tokenizers/regex_splitter.hpp"

#include <pcre2.h>

#include <cstdint>
#include <cstdlib>
#include <limits>
#include <new>
#include <optional>
#include <stdexcept>

#include "llama/tokenizers/newer_characters.hpp"

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
        // PCRE2's verbs, one of which matches the empty text wherever it stands.
        if (pattern[i] == '(' && i + 1 < pattern.size() && pattern[i + 1] == '*') {
            throw std::invalid_argument("verbs, which begin with (*, are not supported");
        }
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

std::string quote(const std::string& text) {
    std::string quoted;
    for (const char c : text) {
        const bool is_plain = static_cast<unsigned char>(c) >= 0x80 || c == ' ' || (c >= '0' && c <= '9') ||
                              (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
        if (!is_plain) quoted += '\\';
        quoted += c;
    }
    return quoted;
}

// Counts what matching a text costs. PCRE2 calls it before each item of the pattern; what an item goes over, forth
// and back, shows in where the next call is. Its own limits are for one match, and its JIT hardly heeds them.
class StepCounter {
public:
    // The patterns of tokenizers need 5 to 20 for a byte.
    explicit StepCounter(std::size_t bytes) : left_(1'000'000 + 100 * static_cast<std::int64_t>(bytes)) {}

    static int count(pcre2_callout_block* block, void* counter) {
        return static_cast<StepCounter*>(counter)->count(static_cast<std::int64_t>(block->current_position));
    }

private:
    int count(std::int64_t position) {
        left_ -= 1 + std::abs(position - position_);
        position_ = position;
        return left_ < 0 ? PCRE2_ERROR_MATCHLIMIT : 0;
    }

    std::int64_t left_;
    std::int64_t position_ = 0;
};

// The parts of a text, from left to right, to pieces. A part is a match or lies between two.
class PieceMaker {
public:
    PieceMaker(std::string_view text, SplitBehavior behavior, bool invert, std::vector<std::string_view>& pieces)
        : text_(text), behavior_(behavior), invert_(invert), pieces_(pieces), first_(pieces.size()) {}

    void add(std::size_t begin, std::size_t end, bool is_match) {
        if (begin == end) return;
        const bool is_cut = is_match != invert_;
        const bool has_previous = pieces_.size() > first_;
        bool joins = false;
        switch (behavior_) {
            case SplitBehavior::isolated:
                break;
            case SplitBehavior::removed:
                if (is_cut) return;
                break;
            case SplitBehavior::contiguous:
                joins = has_previous && is_cut == was_cut_;
                break;
            case SplitBehavior::merged_with_previous:
                joins = has_previous && is_cut && !was_cut_;
                break;
            case SplitBehavior::merged_with_next:
                joins = has_previous && was_cut_ && !is_cut;
                break;
        }
        if (joins) {
            const std::size_t whole = pieces_.back().size() + (end - begin);
            pieces_.back() = text_.substr(end - whole, whole);
        } else {
            pieces_.push_back(text_.substr(begin, end - begin));
        }
        was_cut_ = is_cut;
    }

private:
    std::string_view text_;
    SplitBehavior behavior_;
    bool invert_;
    std::vector<std::string_view>& pieces_;
    std::size_t first_;  // of the text's
    bool was_cut_ = false;
};

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
    pcre2_set_heap_limit(context_.get(), 64 << 10);                                    // KiB
    pcre2_set_match_limit(context_.get(), std::numeric_limits<std::uint32_t>::max());  // StepCounter has its own
    if (stack_) pcre2_jit_stack_assign(context_.get(), nullptr, stack_.get());
}

RegexSplitter::RegexSplitter(const TextSplit& split) : behavior_(split.behavior), invert_(split.invert) {
    constexpr std::size_t longest = 4096;
    if (split.pattern.size() > longest) {
        throw std::invalid_argument("the pattern has " + std::to_string(split.pattern.size()) + " bytes; at most " +
                                    std::to_string(longest) + " are allowed");
    }
    const std::string translated = split.literal ? quote(split.pattern) : translate(split.pattern);
    int error = 0;
    PCRE2_SIZE offset = 0;
    // MULTILINE because ^ and $ always mean lines where these patterns come from; calls to count steps.
    code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                              PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C | PCRE2_AUTO_CALLOUT,
                              &error, &offset, nullptr));
    if (!code_) throw std::invalid_argument(message_of(error));
    std::uint32_t matches_nothing = 0;
    pcre2_pattern_info(code_.get(), PCRE2_INFO_MATCHEMPTY, &matches_nothing);
    if (matches_nothing != 0) throw std::invalid_argument("the pattern can match the empty text");
    pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE);  // where there is no JIT the interpreter does the same
}

void RegexSplitter::split(std::string_view text, RegexScratch& scratch, std::vector<std::string_view>& pieces) const {
    StepCounter steps(text.size());
    pcre2_set_callout(scratch.context_.get(), StepCounter::count, &steps);
    const std::optional<std::string> older = with_older_characters(text);
    const auto* const subject = reinterpret_cast<PCRE2_SPTR>(older ? older->data() : text.data());
    const PCRE2_SIZE* const match = pcre2_get_ovector_pointer(scratch.data_.get());
    PieceMaker parts(text, behavior_, invert_, pieces);
    std::size_t at = 0;
    while (at < text.size()) {
        const int result = pcre2_match(code_.get(), subject, text.size(), at, PCRE2_NO_UTF_CHECK, scratch.data_.get(),
                                       scratch.context_.get());
        if (result == PCRE2_ERROR_NOMATCH) break;
        if (result < 0) throw std::runtime_error("the tokenizer's pattern fails on the text: " + message_of(result));
        const std::size_t begin = match[0];
        const std::size_t end = match[1];
        if (end <= begin) throw std::runtime_error("the tokenizer's pattern matches the empty text");
        parts.add(at, begin, false);
        parts.add(begin, end, true);
        at = end;
    }
    parts.add(at, text.size(), false);
}

}  // namespace llama
