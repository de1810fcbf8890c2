// SPDX-License-Identifier: MIT
#include "llama/tokenizers/gguf_tokenizer.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdio>
#include <limits>
#include <string_view>
#include <utility>

#include "llama/io/file.hpp"
#include "llama/io/in_quotes.hpp"
#include "llama/tokenizers/bpe.hpp"
#include "llama/tokenizers/pre_token_patterns.hpp"
#include "llama/tokenizers/sentencepiece_model.hpp"
#include "llama/tokenizers/sentencepiece_tokenizer.hpp"

namespace llama {

namespace {

// What a file calls the tokenizer of a family, which says by that what it holds nothing else about.
struct PreTokenizer {
    std::string_view pre;
    std::vector<const char*> patterns;
    bool ignore_merges = false;
    bool nfc = false;
    bool add_bos = false;
};

// Those of llama.cpp's names that models of the supported architectures have.
const std::vector<PreTokenizer>& families() {
    using namespace pre_token_patterns;
    static const std::vector<PreTokenizer> all{
        {.pre = "default", .patterns = {punctuation, gpt2, numbers, three_digits}},
        {.pre = "gpt-2", .patterns = {gpt2}},
        {.pre = "phi-2", .patterns = {gpt2}},
        {.pre = "mpt", .patterns = {gpt2}},
        {.pre = "olmo", .patterns = {gpt2}},
        {.pre = "trillion", .patterns = {gpt2}},
        {.pre = "mellum", .patterns = {gpt2}},
        {.pre = "a.x-4.0", .patterns = {gpt2}},
        {.pre = "llama3", .patterns = {llama3}, .ignore_merges = true, .add_bos = true},
        {.pre = "llama-v3", .patterns = {llama3}, .ignore_merges = true, .add_bos = true},
        {.pre = "llama-bpe", .patterns = {llama3}, .ignore_merges = true, .add_bos = true},
        {.pre = "falcon3", .patterns = {llama3}, .ignore_merges = true, .add_bos = true},
        {.pre = "pixtral", .patterns = {llama3}, .ignore_merges = true, .add_bos = true},
        {.pre = "midm-2.0", .patterns = {llama3}, .ignore_merges = true, .add_bos = true},
        {.pre = "smaug-bpe", .patterns = {llama3}},
        {.pre = "dbrx", .patterns = {llama3}},
        {.pre = "qwen2", .patterns = {qwen2}, .nfc = true},
        {.pre = "deepseek-r1-qwen", .patterns = {qwen2}, .nfc = true},
        {.pre = "megrez", .patterns = {qwen2}, .nfc = true},
        {.pre = "kormo", .patterns = {qwen2}, .nfc = true},
        {.pre = "tekken", .patterns = {tekken}, .ignore_merges = true, .add_bos = true},
        {.pre = "gpt-4o", .patterns = {gpt4o}},
        {.pre = "llama4", .patterns = {gpt4o}},
        {.pre = "kanana2", .patterns = {gpt4o}},
        {.pre = "smollm", .patterns = {digit, gpt2}},
        {.pre = "starcoder", .patterns = {digit, gpt2}},
        {.pre = "refact", .patterns = {digit, gpt2}},
        {.pre = "codeshell", .patterns = {digit, gpt2}},
        {.pre = "command-r", .patterns = {digit, gpt2}},
        {.pre = "minerva-7b", .patterns = {digit, gpt2}},
    };
    return all;
}

// Texts of tokens that end a turn, a message or a file, whatever else a file says about them. llama.cpp goes by the
// same.
constexpr std::array<std::string_view, 20> texts_of_ends{
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<eos>",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
    "<\xef\xbd\x9c"
    "end\xe2\x96\x81of\xe2\x96\x81sentence\xef\xbd\x9c>",
};

const PreTokenizer& family_of(const std::string& pre, const std::string& path) {
    if (pre.empty()) {
        std::fprintf(
            stderr,
            "freqkv-llama: warning: %s: tokenizer.ggml.pre is missing, so the file does not say how texts are cut; "
            "\"default\" is assumed, which is wrong for most models: give --tokenizer, or convert them anew\n",
            path.c_str());
        return families().front();
    }
    std::string names;
    for (const PreTokenizer& family : families()) {
        if (family.pre == pre) return family;
        names += (names.empty() ? "" : ", ") + std::string(family.pre);
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

// EOS first. What ends a text is a control token, though files forget to say so.
std::vector<Token> find_ends(GgufVocabulary& vocabulary) {
    std::vector<Token> ends;
    const auto add = [&](Token token) {
        if (token >= 0 && std::find(ends.begin(), ends.end(), token) == ends.end()) ends.push_back(token);
    };
    add(vocabulary.eos);
    for (const Token token : vocabulary.other_ends) add(token);
    for (std::size_t i = 0; i < vocabulary.tokens.size(); ++i) {
        if (std::find(texts_of_ends.begin(), texts_of_ends.end(), vocabulary.tokens[i]) == texts_of_ends.end())
            continue;
        if (ends.size() < 256) add(static_cast<Token>(i));
        vocabulary.types[i] = static_cast<std::int32_t>(PieceType::control);
    }
    return ends;
}

std::vector<AddedToken> find_added(const GgufVocabulary& vocabulary, bool normalized) {
    std::vector<AddedToken> added;
    for (std::size_t i = 0; i < vocabulary.tokens.size(); ++i) {
        const auto type = static_cast<PieceType>(vocabulary.types[i]);
        const bool special = type == PieceType::control || type == PieceType::unknown;
        if ((!special && type != PieceType::user_defined) || vocabulary.tokens[i].empty()) continue;
        // The file does not say which are looked for after normalisation; those of users are by default.
        added.push_back({vocabulary.tokens[i], static_cast<Token>(i), special, normalized && !special});
    }
    return added;
}

std::unique_ptr<Tokenizer> make_sentencepiece(GgufVocabulary vocabulary, const std::string& path) {
    check_length("scores", vocabulary.scores.size(), vocabulary, path);
    SentencePieceSettings settings;
    settings.end_of_text = find_ends(vocabulary);
    settings.begin_of_text = vocabulary.add_bos.value_or(true) ? vocabulary.bos : -1;
    settings.appended_end = vocabulary.add_eos.value_or(false) ? vocabulary.eos : -1;
    settings.added = find_added(vocabulary, false);
    std::vector<PieceType> types;
    types.reserve(vocabulary.types.size());
    for (const std::int32_t type : vocabulary.types) types.push_back(static_cast<PieceType>(type));
    const std::string model = serialize_sentencepiece_bpe(vocabulary.tokens, vocabulary.scores, types,
                                                          vocabulary.add_space_prefix.value_or(true));
    vocabulary.tokens = {};  // the library needs the memory
    return std::make_unique<SentencePieceTokenizer>(model, path, std::move(settings));
}

std::unique_ptr<Tokenizer> make_byte_level_bpe(GgufVocabulary vocabulary, const std::string& path) {
    if (vocabulary.merges.empty()) {
        throw FileError(path,
                        "tokenizer.ggml.merges is missing: without them every text would be single bytes; give "
                        "--tokenizer, or convert the model anew");
    }
    if (vocabulary.merges.size() > BpeParts::most_merges) {
        throw FileError(path, "tokenizer.ggml.merges has " + std::to_string(vocabulary.merges.size()) +
                                  " entries, at most " + std::to_string(BpeParts::most_merges) + " are read");
    }
    const PreTokenizer& family = family_of(vocabulary.pre, path);
    BpeParts parts;
    for (const char* const pattern : family.patterns) parts.splits.push_back({pattern});
    parts.ignore_merges = family.ignore_merges;
    if (family.nfc) parts.edits.push_back({TextEdit::Kind::nfc});
    parts.end_of_text = find_ends(vocabulary);
    parts.begin_of_text = vocabulary.add_bos.value_or(family.add_bos) ? vocabulary.bos : -1;
    parts.appended_end = vocabulary.add_eos.value_or(false) ? vocabulary.eos : -1;
    parts.added = find_added(vocabulary, true);
    parts.merges.reserve(vocabulary.merges.size());
    for (const std::string& merge : vocabulary.merges) {
        const std::size_t space = merge.find(' ', 1);
        if (space == std::string::npos) {
            throw FileError(path, "merge " + std::to_string(parts.merges.size()) + " is " + in_quotes(merge) +
                                      ", must be two tokens");
        }
        parts.merges.emplace_back(merge.substr(0, space), merge.substr(space + 1));
    }
    parts.tokens = std::move(vocabulary.tokens);
    return std::make_unique<Bpe>(std::move(parts), path);
}

}  // namespace

std::unique_ptr<Tokenizer> make_gguf_tokenizer(GgufVocabulary vocabulary, const std::string& path) {
    check_vocabulary(vocabulary, path);
    if (vocabulary.model == "llama") return make_sentencepiece(std::move(vocabulary), path);
    if (vocabulary.model == "gpt2") return make_byte_level_bpe(std::move(vocabulary), path);
    throw FileError(path, "tokenizer.ggml.model is " + in_quotes(vocabulary.model) + ", supported are llama and gpt2");
}

}  // namespace llama
