// SPDX-License-Identifier: MIT
#include "llama/training/instruction_records.hpp"

#include <algorithm>
#include <span>

#include <nlohmann/json.hpp>

#include "freqkv/error.hpp"
#include "freqkv/executor.hpp"
#include "llama/io/file.hpp"
#include "llama/io/json_file.hpp"
#include "llama/io/json_object.hpp"
#include "llama/model/random.hpp"
#include "llama/model/thread_executor.hpp"
#include "llama/tokenizers/fingerprint.hpp"
#include "llama/tokenizers/long_text.hpp"
#include "llama/tokenizers/text.hpp"
#include "llama/training/shuffled_order.hpp"

namespace llama {

namespace {

constexpr std::string_view opening = "### Instruction:\n";
constexpr std::string_view closing = "\n\n### Response:\n";

struct Texts {
    std::string instruction, input, output;
};

Texts read_texts(const nlohmann::json& record, std::size_t number, const std::string& path) {
    const std::string name = "record " + std::to_string(number);
    if (!record.is_object()) throw FileError(path, name + " is no JSON object");
    const JsonObject object(record, path, name + ": ");
    return {object.required("instruction", object.text("instruction")), object.text("input").value_or(""),
            object.required("output", object.text("output"))};
}

// Of a file that is JSON to its end.
std::size_t count_records(const std::string& path, std::size_t most_bytes) {
    std::size_t count = 0;
    const auto take = [&](const std::string&, const nlohmann::json&) { return ++count > 0; };
    const JsonMembers members[] = {{"", JsonMembers::Of::array, take}};
    if (!read_json(path, most_bytes, members).is_array()) throw FileError(path, "the file is no JSON array of records");
    return count;
}

struct Encoded {
    std::vector<Token> tokens;
    Index first_target = 0;  // 0: nothing of the output fits
    bool cut = false;
};

class Encoder {
public:
    Encoder(const Tokenizer& tokenizer, Index vocabulary, Index length, Token end_of_text, const std::string& path)
        : tokenizer_(tokenizer),
          vocabulary_(vocabulary),
          end_of_text_(tokenizer.end_of_text().empty() ? end_of_text : tokenizer.end_of_text().front()),
          longest_(static_cast<std::size_t>(length) + 1),
          path_(path) {
        opening_ = with_begin(tokenizer.encode(opening)).size();
        closing_ = encode_after_line(tokenizer, closing).size();
    }

    Encoded encode(const Texts& texts) const {
        Encoded result;
        if (texts.output.empty()) return result;
        std::vector<Token> prompt = with_begin(tokenizer_.encode(instruction_prompt(texts.instruction, texts.input)));
        std::vector<Token> output = encode_after_line(tokenizer_, texts.output);
        if (output.empty()) return result;  // white space may be no token
        if (end_of_text_ >= 0) output.push_back(end_of_text_);

        result.cut = prompt.size() + output.size() > longest_;
        const std::size_t least = std::min(prompt.size(), std::max(opening_ + closing_, longest_ / 4));
        if (least >= longest_) return result;
        output.resize(std::min(output.size(), longest_ - least));
        shorten(prompt, longest_ - output.size());

        result.tokens = std::move(prompt);
        result.first_target = static_cast<Index>(result.tokens.size());
        result.tokens.insert(result.tokens.end(), output.begin(), output.end());
        check_tokens(result.tokens, vocabulary_, path_);
        return result;
    }

private:
    std::vector<Token> with_begin(std::vector<Token> tokens) const {
        if (tokenizer_.begin_of_text() >= 0) tokens.insert(tokens.begin(), tokenizer_.begin_of_text());
        return tokens;
    }

    // Leaves out the middle of the instruction and its input. There is room for the first and the last heading.
    void shorten(std::vector<Token>& prompt, std::size_t room) const {
        if (prompt.size() <= room) return;
        const std::size_t texts = room - opening_ - closing_;
        const std::size_t front = opening_ + texts - texts / 2;
        const auto begin = prompt.begin() + static_cast<std::ptrdiff_t>(front);
        prompt.erase(begin, begin + static_cast<std::ptrdiff_t>(prompt.size() - room));
    }

    const Tokenizer& tokenizer_;
    Index vocabulary_;
    Token end_of_text_;              // -1: none
    std::size_t longest_;            // tokens of an example
    std::size_t opening_, closing_;  // tokens of the first heading, with BOS, and of the last
    const std::string& path_;
};

}  // namespace

std::string instruction_prompt(std::string_view instruction, std::string_view input) {
    std::string prompt(opening);
    prompt += instruction;
    if (!input.empty()) prompt.append("\n\n### Input:\n").append(input);
    return prompt.append(closing);
}

InstructionRecords::InstructionRecords(const std::string& path, const Tokenizer& tokenizer, Index vocabulary,
                                       Index length, std::uint64_t seed, int threads, const Progress& progress,
                                       Token end_of_text)
    : seed_(seed) {
    freqkv::require(length >= 1, "length", length, "must be at least 1");
    constexpr std::size_t most_bytes = std::size_t{2} << 30;
    constexpr std::size_t records_at_once = 256;
    const std::size_t all = count_records(path, most_bytes);
    const Encoder encoder(tokenizer, vocabulary, length, end_of_text, path);
    const ThreadExecutor executor = make_executor(threads);
    std::size_t read = 0;
    std::vector<Texts> texts;
    const auto encode_texts = [&] {
        std::vector<Encoded> encoded(texts.size());
        const auto encode = [&](Index task, Index) {
            const auto record = static_cast<std::size_t>(task);
            encoded[record] = encoder.encode(texts[record]);
        };
        freqkv::for_each_catching(executor, static_cast<Index>(encoded.size()), encode);
        for (const Encoded& record : encoded) {
            if (record.first_target == 0) {
                ++skipped_;
                continue;
            }
            cut_ += record.cut ? 1 : 0;
            const std::size_t begin = tokens_.size();
            tokens_.insert(tokens_.end(), record.tokens.begin(), record.tokens.end());
            records_.push_back({begin, tokens_.size(), record.first_target});
        }
        texts.clear();
        if (progress) progress(read, all);
    };
    const auto take = [&](const std::string&, const nlohmann::json& record) {
        texts.push_back(read_texts(record, read++, path));
        if (texts.size() == records_at_once) encode_texts();
        return true;
    };
    const JsonMembers members[] = {{"", JsonMembers::Of::array, take}};
    read_json(path, most_bytes, members);
    encode_texts();
    if (records_.empty()) {
        throw FileError(path, "none of its " + std::to_string(all) +
                                  " records has an output that fits a sequence of --length " + std::to_string(length));
    }
}

Example InstructionRecords::example(Index i) const {
    const Index epoch = i / examples_per_epoch();
    const std::uint64_t key = Random(seed_).next() + static_cast<std::uint64_t>(epoch);
    const Index place = ShuffledOrder(examples_per_epoch(), key)[i % examples_per_epoch()];
    const Record& record = records_[static_cast<std::size_t>(place)];
    return {std::span<const Token>(tokens_).subspan(record.begin, record.end - record.begin), record.first_target};
}

std::uint64_t InstructionRecords::fingerprint() const {
    std::uint64_t hash = llama::fingerprint(tokens_);
    for (const Record& record : records_) {
        const Token numbers[] = {static_cast<Token>(record.end - record.begin),
                                 static_cast<Token>(record.first_target)};
        hash = llama::fingerprint(numbers, hash);
    }
    return hash;
}

}  // namespace llama
