// SPDX-License-Identifier: MIT
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// A type of PCRE2, whose header stays in the implementation.
struct pcre2_real_code_8;

namespace llama {

/// Numbers for the modules of a model by patterns of their names, as PEFT reads rank_pattern and alpha_pattern: each
/// key is a regular expression that has to match the whole name or all of it behind a dot, and the first key that fits
/// counts. Keys that are names, which are nearly all, are compared without PCRE2.
///
/// A match takes a bounded number of steps, and there are at most 65,536 keys, 256 of them regular expressions.
class ModulePatterns {
public:
    ModulePatterns() = default;

    /// The keys in the order of the file; `name` is what messages call them: "rank_pattern". Throws FileError for a key
    /// that is no regular expression, or one of a kind that Python and PCRE2 read differently.
    ModulePatterns(std::string path, std::string name, const std::vector<std::pair<std::string, double>>& numbers);

    /// Throws FileError for a regular expression that takes too many steps.
    std::optional<double> find(std::string_view module) const;

private:
    struct Free {
        void operator()(pcre2_real_code_8* code) const;
    };
    struct Pattern {
        std::string key;
        double number;
        bool from_start = false;                         // of a name: it began with ^
        std::string name;                                // empty: a regular expression; a dot is any character
        std::unique_ptr<pcre2_real_code_8, Free> regex;  // of (.*\.)?(key)$
    };

    [[noreturn]] void fail(const std::string& key, const std::string& reason) const;
    void check_kind(const std::string& key) const;
    void compile(Pattern& pattern) const;
    bool matches(const Pattern& pattern, std::string_view module) const;

    std::string path_;
    std::string name_;
    std::vector<Pattern> patterns_;
};

}  // namespace llama
