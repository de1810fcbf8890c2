// SPDX-License-Identifier: MIT
#pragma once

/// The regular expressions by which models cut texts into pieces before merging bytes.
namespace llama::pre_token_patterns {

/// Words with the space before them, numbers, the rest, white space.
inline constexpr const char* gpt2 = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

/// Words with any one character before them, up to three digits, the rest, ends of lines, white space.
inline constexpr const char* llama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

/// The same with single digits.
inline constexpr const char* qwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

inline constexpr const char* digit = R"(\p{N})";
inline constexpr const char* digits = R"(\p{N}+)";

}  // namespace llama::pre_token_patterns
