// SPDX-License-Identifier: MIT
#include "llama/tokenizers/long_text.hpp"

#include <algorithm>
#include <cstdint>

#include "freqkv/executor.hpp"
#include "llama/io/file.hpp"
#include "llama/model/thread_executor.hpp"
#include "llama/tokenizers/text.hpp"

namespace llama {

namespace {

// Long enough that what is done once for each part costs nothing, short enough for the processor's caches.
constexpr std::size_t part_bytes = std::size_t{64} << 10;
constexpr freqkv::Index parts_at_once = 32;

// Takes a part from the front of `text`: whole lines.
std::string_view take_part(std::string_view& text) {
    const std::size_t end = text.size() <= part_bytes ? std::string_view::npos : text.find('\n', part_bytes - 1);
    const std::string_view part = text.substr(0, end == std::string_view::npos ? text.size() : end + 1);
    text.remove_prefix(part.size());
    return part;
}

}  // namespace

std::vector<Token> encode_after_line(const Tokenizer& tokenizer, std::string_view text) {
    const std::vector<Token> line_end = tokenizer.encode("\n");
    std::vector<Token> tokens = tokenizer.encode("\n" + std::string(text));
    // A tokenizer may have one token for several ends of lines.
    if (tokens.size() < line_end.size() || !std::equal(line_end.begin(), line_end.end(), tokens.begin())) {
        return tokenizer.encode(text);
    }
    tokens.erase(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(line_end.size()));
    return tokens;
}

std::vector<Token> encode_long_text(const Tokenizer& tokenizer, std::string_view text, int threads,
                                    const TextProgress& progress) {
    if (!tokenizer.lines_are_independent()) return tokenizer.encode(text);
    const ThreadExecutor executor = make_executor(threads);
    std::string_view left = text;
    const std::string_view first = take_part(left);
    std::vector<Token> tokens = tokenizer.encode(first);
    while (!left.empty()) {
        std::vector<std::string_view> parts;
        while (!left.empty() && static_cast<Index>(parts.size()) < parts_at_once) parts.push_back(take_part(left));
        std::vector<std::vector<Token>> encoded(parts.size());
        const auto encode = [&](Index task, Index) {
            const auto part = static_cast<std::size_t>(task);
            encoded[part] = encode_after_line(tokenizer, parts[part]);
        };
        freqkv::for_each_catching(executor, static_cast<Index>(parts.size()), encode);
        for (const std::vector<Token>& part : encoded) tokens.insert(tokens.end(), part.begin(), part.end());
        if (progress) progress(text.size() - left.size());
    }
    return tokens;
}

TextTokens read_text_files(const std::vector<std::string>& paths, const Tokenizer& tokenizer, Index vocabulary,
                           int threads, const std::function<void(const std::string&, double)>& progress) {
    TextTokens result;
    for (const std::string& path : paths) {
        const std::vector<char> content = read_text_file(path);
        if (content.empty()) throw FileError(path, "the file is empty");
        const auto report = [&](std::size_t done) {
            if (progress) progress(path, static_cast<double>(done) / static_cast<double>(content.size()));
        };
        const std::vector<Token> tokens =
            encode_text(tokenizer, {content.data(), content.size()}, path, vocabulary, threads, report);
        result.tokens.insert(result.tokens.end(), tokens.begin(), tokens.end());
        result.bytes += content.size();
    }
    return result;
}

}  // namespace llama
