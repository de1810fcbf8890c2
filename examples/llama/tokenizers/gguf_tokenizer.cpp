// SPDX-License-Identifier: MIT
#include "llama/tokenizers/gguf_tokenizer.hpp"

#include <cstddef>
#include <limits>
#include <string_view>
#include <utility>

#include "llama/io/file.hpp"
#include "llama/io/in_quotes.hpp"
#include "llama/tokenizers/byte_level_bpe.hpp"
#include "llama/tokenizers/pre_token_patterns.hpp"
#include "llama/tokenizers/sentencepiece_model.hpp"
#include "llama/tokenizers/sentencepiece_tokenizer.hpp"

namespace llama {

namespace {

using pre_token_patterns::digit;
using pre_token_patterns::gpt2;
using pre_token_patterns::llama3;
using pre_token_patterns::qwen2;

// What a file calls the tokenizer of a family, which says by that what it holds nothing else about.
struct Family {
    std::string_view pre;
    std::vector<std::string> patterns;
    bool ignore_merges = false;
    bool nfc = false;
    bool add_bos = false;
};

const std::vector<Family>& families() {
    static const std::vector<Family> all{
        {.pre = "", .patterns = {gpt2}},
        {.pre = "default", .patterns = {gpt2}},
        {.pre = "gpt-2", .patterns = {gpt2}},
        {.pre = "llama3", .patterns = {llama3}, .ignore_merges = true, .add_bos = true},
        {.pre = "llama-v3", .patterns = {llama3}, .ignore_merges = true, .add_bos = true},
        {.pre = "llama-bpe", .patterns = {llama3}, .ignore_merges = true, .add_bos = true},
        {.pre = "qwen2", .patterns = {qwen2}, .nfc = true},
        {.pre = "smollm", .patterns = {digit, gpt2}},
    };
    return all;
}

const Family& family_of(const std::string& pre, const std::string& path) {
    std::string names;
    for (const Family& family : families()) {
        if (family.pre == pre) return family;
        if (!family.pre.empty()) names += (names.empty() ? "" : ", ") + std::string(family.pre);
    }
    throw FileError(path, "tokenizer.ggml.pre is " + in_quotes(pre) + ", supported are " + names);
}

void check_length(const char* name, std::size_t length, const GgufVocabulary& vocabulary, const std::string& path) {
    if (length != vocabulary.tokens.size()) {
        throw FileError(path, std::string("tokenizer.ggml.") + name + " has " + std::to_string(length) +
                                  " entries, must have one for each of the " +
                                  std::to_string(vocabulary.tokens.size()) + " tokens");
    }
}

void check_vocabulary(const GgufVocabulary& vocabulary, const std::string& path) {
    const std::size_t size = vocabulary.tokens.size();
    if (size == 0 || size > std::numeric_limits<Token>::max()) {
        throw FileError(path, "tokenizer.ggml.tokens has " + std::to_string(size) + " entries");
    }
    check_length("token_type", vocabulary.types.size(), vocabulary, path);
    for (std::size_t i = 0; i < size; ++i) {
        const std::int32_t type = vocabulary.types[i];
        if (type < static_cast<int>(PieceType::normal) || type > static_cast<int>(PieceType::byte)) {
            throw FileError(path,
                            "token " + std::to_string(i) + " is of type " + std::to_string(type) + ", must be 1 to 6");
        }
    }
    const auto check_id = [&](const char* name, Token id) {
        if (id < -1 || (id >= 0 && static_cast<std::size_t>(id) >= size)) {
            throw FileError(path, std::string(name) + " is " + std::to_string(id) + ", outside the vocabulary of " +
                                      std::to_string(size));
        }
    };
    check_id("tokenizer.ggml.bos_token_id", vocabulary.bos);
    check_id("tokenizer.ggml.eos_token_id", vocabulary.eos);
}

std::vector<Token> end_of_text(const GgufVocabulary& vocabulary) {
    if (vocabulary.eos < 0) return {};
    return {vocabulary.eos};
}

std::unique_ptr<Tokenizer> make_sentencepiece(GgufVocabulary vocabulary, const std::string& path) {
    check_length("scores", vocabulary.scores.size(), vocabulary, path);
    std::vector<PieceType> types;
    types.reserve(vocabulary.types.size());
    for (const std::int32_t type : vocabulary.types) types.push_back(static_cast<PieceType>(type));
    const std::string model = serialize_sentencepiece_bpe(vocabulary.tokens, vocabulary.scores, types,
                                                          vocabulary.add_space_prefix.value_or(true));
    vocabulary.tokens = {};  // the library needs the memory
    return std::make_unique<SentencePieceTokenizer>(
        model, path, vocabulary.add_bos.value_or(true) ? vocabulary.bos : -1, end_of_text(vocabulary));
}

std::unique_ptr<Tokenizer> make_byte_level_bpe(GgufVocabulary vocabulary, const std::string& path) {
    const Family& family = family_of(vocabulary.pre, path);
    ByteLevelBpeParts parts;
    parts.patterns = family.patterns;
    parts.ignore_merges = family.ignore_merges;
    parts.nfc = family.nfc;
    parts.begin_of_text = vocabulary.add_bos.value_or(family.add_bos) ? vocabulary.bos : -1;
    parts.end_of_text = end_of_text(vocabulary);
    for (std::size_t i = 0; i < vocabulary.tokens.size(); ++i) {
        const auto type = static_cast<PieceType>(vocabulary.types[i]);
        const bool control = type == PieceType::control;
        if (!control && type != PieceType::user_defined) continue;
        // The file does not say which are looked for after normalisation; these are by default.
        parts.added.push_back({vocabulary.tokens[i], static_cast<Token>(i), control, !control});
    }
    if (vocabulary.merges.size() > ByteLevelBpeParts::most_merges) {
        throw FileError(path, "tokenizer.ggml.merges has " + std::to_string(vocabulary.merges.size()) +
                                  " entries, at most " + std::to_string(ByteLevelBpeParts::most_merges) + " are read");
    }
    parts.merges.reserve(vocabulary.merges.size());
    for (const std::string& merge : vocabulary.merges) {
        const std::size_t space = merge.find(' ');
        if (space == std::string::npos) {
            throw FileError(path, "merge " + std::to_string(parts.merges.size()) + " is " + in_quotes(merge) +
                                      ", must be two tokens");
        }
        parts.merges.emplace_back(merge.substr(0, space), merge.substr(space + 1));
    }
    parts.tokens = std::move(vocabulary.tokens);
    return std::make_unique<ByteLevelBpe>(std::move(parts), path);
}

}  // namespace

std::unique_ptr<Tokenizer> make_gguf_tokenizer(GgufVocabulary vocabulary, const std::string& path) {
    check_vocabulary(vocabulary, path);
    if (vocabulary.model == "llama") return make_sentencepiece(std::move(vocabulary), path);
    if (vocabulary.model == "gpt2") return make_byte_level_bpe(std::move(vocabulary), path);
    throw FileError(path, "tokenizer.ggml.model is " + in_quotes(vocabulary.model) + ", supported are llama and gpt2");
}

}  // namespace llama
