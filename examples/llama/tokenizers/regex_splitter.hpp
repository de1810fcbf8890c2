// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

// Types of PCRE2, whose header stays in the implementation.
struct pcre2_real_code_8;
struct pcre2_real_match_data_8;
struct pcre2_real_match_context_8;
struct pcre2_real_jit_stack_8;

namespace llama {

/// What matching works in: one for each thread, for any number of splits.
class RegexScratch {
public:
    RegexScratch();

private:
    friend class RegexSplitter;
    struct Free {
        void operator()(pcre2_real_match_data_8* data) const;
        void operator()(pcre2_real_match_context_8* context) const;
        void operator()(pcre2_real_jit_stack_8* stack) const;
    };
    std::unique_ptr<pcre2_real_match_data_8, Free> data_;
    std::unique_ptr<pcre2_real_match_context_8, Free> context_;
    std::unique_ptr<pcre2_real_jit_stack_8, Free> stack_;  // null where there is no JIT
};

/// What becomes of a match, as tokenizers name it.
enum class SplitBehavior : std::uint8_t {
    isolated,              ///< a piece of its own
    removed,               ///< nothing
    contiguous,            ///< one piece with the matches beside it
    merged_with_previous,  ///< the end of the piece before it
    merged_with_next,      ///< the beginning of the piece behind it
};

/// How a text is cut: at the matches of a regular expression, or if `invert`, at what lies between them.
struct TextSplit {
    std::string pattern{};
    bool literal = false;  ///< the pattern is a text, no expression
    SplitBehavior behavior = SplitBehavior::isolated;
    bool invert = false;
};

/// Cuts texts by a regular expression, as the pattern of a byte-level BPE is meant: Unicode's categories, and white
/// space as Unicode defines it.
class RegexSplitter {
public:
    /// Throws std::invalid_argument for a pattern that is wrong, can match nothing, or uses what the regular
    /// expressions of tokenizers and those of PCRE2 do not have in common.
    explicit RegexSplitter(const TextSplit& split);
    explicit RegexSplitter(const std::string& pattern) : RegexSplitter(TextSplit{pattern}) {}

    /// Appends the pieces of a text in their order. `text` is valid UTF-8. Throws std::runtime_error if matching takes
    /// more steps or memory than any sensible pattern needs: steps are counted for the whole text, and there may be
    /// as many as are in proportion to it.
    void split(std::string_view text, RegexScratch& scratch, std::vector<std::string_view>& pieces) const;

private:
    struct Free {
        void operator()(pcre2_real_code_8* code) const;
    };
    std::unique_ptr<pcre2_real_code_8, Free> code_;
    SplitBehavior behavior_;
    bool invert_;
};

}  // namespace llama
