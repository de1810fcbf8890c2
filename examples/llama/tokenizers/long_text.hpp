// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "llama/tokenizers/tokenizer.hpp"

// Texts of any length to tokens.
namespace llama {

/// Called from time to time with the number of bytes that are done.
using TextProgress = std::function<void(std::size_t)>;

/// tokenizer.encode(text). Where the tokens of lines do not depend on each other, parts of the text go to `threads`
/// threads (0: all cores) and need memory for these parts only.
std::vector<Token> encode_long_text(const Tokenizer& tokenizer, std::string_view text, int threads,
                                    const TextProgress& progress = {});

/// The tokens of a text that stands behind the end of a line: without the space that many tokenizers put before a
/// text.
std::vector<Token> encode_after_line(const Tokenizer& tokenizer, std::string_view text);

/// What read_text_files() makes of text files.
struct TextTokens {
    std::vector<Token> tokens;
    std::size_t bytes = 0;  ///< of all texts
};

/// The tokens of text files, one after the other, each after BOS if the tokenizer has it. `progress` gets the bytes
/// of the file that is read, and its name. Throws FileError for an empty file, one that is not UTF-8, and for tokens
/// outside [0, vocabulary).
TextTokens read_text_files(const std::vector<std::string>& paths, const Tokenizer& tokenizer, Index vocabulary,
                           int threads, const std::function<void(const std::string&, double)>& progress = {});

}  // namespace llama
