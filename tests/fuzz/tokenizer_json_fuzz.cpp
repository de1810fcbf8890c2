// SPDX-License-Identifier: MIT
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <nlohmann/json.hpp>

#include "edited_file.hpp"
#include "llama/io/file.hpp"
#include "llama/tokenizers/sentencepiece_model.hpp"
#include "llama/tokenizers/sentencepiece_tokenizer.hpp"
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

// The same of characters, as LLaMA-2's.
std::string character_tokenizer() {
    const std::string mark = "\xe2\x96\x81";
    nlohmann::ordered_json json;
    json["normalizer"] = {{"type", "Sequence"},
                          {"normalizers",
                           {{{"type", "Prepend"}, {"prepend", mark}},
                            {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", mark}}}}};
    json["pre_tokenizer"] = {
        {"type", "Sequence"},
        {"pretokenizers",
         {{{"type", "Metaspace"}, {"replacement", mark}, {"prepend_scheme", "first"}},
          {{"type", "Split"}, {"pattern", {{"String", "b"}}}, {"behavior", "MergedWithPrevious"}, {"invert", true}}}}};
    json["decoder"] = {{"type", "Strip"}, {"content", " "}, {"start", 1}};
    json["added_tokens"] = {{{"id", 3}, {"content", "<s>"}, {"special", true}, {"normalized", true}},
                            {{"id", 4}, {"content", "ab"}, {"lstrip", true}, {"rstrip", true}, {"single_word", true}}};
    json["model"] = {{"type", "BPE"}, {"byte_fallback", true}, {"unk_token", "<unk>"}, {"fuse_unk", true}};
    json["model"]["merges"] = {"a a", "aa a", "b c", "a bc", mark + " a"};
    int id = 0;
    for (const std::string& token :
         {std::string("<unk>"), std::string("a"), std::string("b"), std::string("<s>"), std::string("ab"),
          std::string("c"), mark, std::string("<0x0A>"), std::string("<0xCC>"), std::string("aa"), std::string("aaa"),
          std::string("bc"), std::string("abc"), mark + "a"}) {
        json["model"]["vocab"][token] = id++;
    }
    return json.dump();
}

// A directory with a tokenizer of each kind, and the files beside them that the input stands for.
class Directory {
public:
    Directory() {
        if (mkdtemp(path_) == nullptr) std::abort();
        write("tokenizer.json", character_tokenizer());
        std::vector<std::string> pieces{"<unk>", "<s>", "</s>", "a", "b", "ab"};
        std::vector<llama::PieceType> types(pieces.size(), llama::PieceType::normal);
        types[0] = llama::PieceType::unknown;
        types[1] = types[2] = llama::PieceType::control;
        write("tokenizer.model",
              llama::serialize_sentencepiece_bpe(pieces, std::vector<float>(pieces.size()), types, true));
    }
    ~Directory() {
        std::error_code error;
        std::filesystem::remove_all(path_, error);
    }
    Directory(const Directory&) = delete;
    Directory& operator=(const Directory&) = delete;

    void write(const std::string& name, const std::string& content) const {
        std::ofstream(path(name), std::ios::binary) << content;
    }
    std::string path(const std::string& name) const { return std::string(path_) + "/" + name; }

private:
    char path_[40] = "/tmp/tokenizer_json_fuzz.XXXXXX";
};

constexpr const char* config =
    R"({"add_bos_token": true, "add_eos_token": true, "bos_token": "<s>", "eos_token": {"content": "<s>"}, "legacy": false,
"tokenizer_class": "LlamaTokenizer", "additional_special_tokens": ["ab"], "added_tokens_decoder": {
"6": {"content": "<t>", "special": true, "lstrip": true}, "7": {"content": "<u>", "single_word": true}}})";
constexpr const char* added = R"({"<t>": 6, "ab": 7, "<u>": 8})";

void use(const llama::Tokenizer& tokenizer, std::string_view text) {
    llama::Token previous = tokenizer.begin_of_text();
    const llama::TextRange verbatim{text.size() / 3, text.size() / 2};
    for (const llama::Token token : tokenizer.encode(text, std::span(&verbatim, 1))) {
        if (token < 0 || token >= tokenizer.vocabulary()) std::abort();
    }
    for (const llama::Token token : tokenizer.encode(text)) {
        if (token < 0 || token >= tokenizer.vocabulary()) std::abort();
        volatile std::size_t length = tokenizer.decode(previous, token).size();
        static_cast<void>(length);
        previous = token;
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const std::string of_bytes = byte_tokenizer();
    static const std::string of_characters = character_tokenizer();
    static const Directory directory;
    if (size == 0) return 0;
    const int kind = data[0] % 6;
    ++data;
    --size;
    const std::size_t text_size = size < 40 ? 0 : 32;
    const std::string_view text(reinterpret_cast<const char*>(data), text_size);
    data += text_size;
    size -= text_size;
    const std::string rest(reinterpret_cast<const char*>(data), size);
    try {
        if (kind >= 4) {
            directory.write("tokenizer_config.json", kind == 4 ? fuzz::edited(config, data, size) : "{}");
            directory.write("added_tokens.json", kind == 5 ? fuzz::edited(added, data, size) : "{}");
            use(llama::SentencePieceTokenizer(directory.path("tokenizer.model")), text);
            use(*llama::read_tokenizer_json(directory.path("tokenizer.json")), text);
            return 0;
        }
        const fuzz::MemoryFile file(kind == 0   ? rest
                                    : kind == 1 ? fuzz::edited(of_bytes, data, size)
                                                : fuzz::edited(of_characters, data, size));
        const auto tokenizer = llama::read_tokenizer_json(file.path());
        use(*tokenizer, "abc aaaa <s>b 12 e\xcc\x81");
        use(*tokenizer, text);
    } catch (const std::runtime_error&) {  // a FileError, or the text's own fault
    }
    return 0;
}
