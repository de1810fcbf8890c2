// SPDX-License-Identifier: MIT
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "edited_file.hpp"
#include "llama/io/file.hpp"
#include "llama/tokenizers/tokenizer_json.hpp"

// No tokenizer.json makes the reader touch memory that is not there, whether it is an edited one or none at all;
// with one that is accepted, any text is encoded, to ids within the vocabulary, and decoded again, or refused.
namespace {

// Edits reach a byte by 16 bits, so the vocabulary, most of the file, comes last.
std::string byte_tokenizer() {
    nlohmann::ordered_json json;
    json["normalizer"] = {{"type", "NFC"}};
    json["pre_tokenizer"] = {{"type", "Sequence"},
                             {"pretokenizers",
                              {{{"type", "Split"},
                                {"pattern", {{"Regex", " ?\\p{L}+|\\p{N}{1,3}|\\s+(?!\\S)|\\s+"}}},
                                {"behavior", "Isolated"}},
                               {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
    json["post_processor"] = {{"type", "TemplateProcessing"},
                              {"single", {{{"SpecialToken", {{"id", "<s>"}}}}}},
                              {"special_tokens", {{"<s>", {{"ids", {260}}}}}}};
    json["added_tokens"] = {{{"id", 260}, {"content", "<s>"}, {"special", true}},
                            {{"id", 261}, {"content", "ab"}, {"normalized", true}}};
    auto& model = json["model"];
    model["type"] = "BPE";
    model["ignore_merges"] = true;
    model["merges"] = {"a a", "aa a", "b c", "a bc"};
    int id = 0;
    int next = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
        const bool printable = (byte > 0x20 && byte < 0x7F) || (byte > 0xA0 && byte != 0xAD);
        const int character = printable ? byte : next++;
        std::string token(1, static_cast<char>(character));
        if (character >= 0x80) {
            token = {static_cast<char>(0xC0 | character >> 6), static_cast<char>(0x80 | (character & 0x3F))};
        }
        model["vocab"][token] = id++;
    }
    for (const char* token : {"aa", "aaa", "bc", "abc"}) model["vocab"][token] = id++;
    return json.dump();
}

void use(const llama::Tokenizer& tokenizer, std::string_view text) {
    llama::Token previous = tokenizer.begin_of_text();
    for (const llama::Token token : tokenizer.encode(text)) {
        if (token < 0 || token >= tokenizer.vocabulary()) std::abort();
        volatile std::size_t length = tokenizer.decode(previous, token).size();
        static_cast<void>(length);
        previous = token;
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const std::string valid = byte_tokenizer();
    if (size == 0) return 0;
    const bool raw = data[0] % 4 == 0;
    ++data;
    --size;
    const std::size_t text_size = size < 40 ? 0 : 32;
    const std::string_view text(reinterpret_cast<const char*>(data), text_size);
    const std::string rest(reinterpret_cast<const char*>(data + text_size), size - text_size);
    const fuzz::MemoryFile file(raw ? rest : fuzz::edited(valid, data + text_size, size - text_size));
    try {
        const auto tokenizer = llama::read_tokenizer_json(file.path());
        use(*tokenizer, "abc aaaa <s>b 12 e\xcc\x81");
        use(*tokenizer, text);
    } catch (const std::runtime_error&) {  // a FileError, or the text's own fault
    }
    return 0;
}
