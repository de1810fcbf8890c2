// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <cstdint>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "llama/formats/random_checkpoint.hpp"
#include "llama/gguf_writer.hpp"
#include "llama/hugging_face_files.hpp"
#include "llama/program/hostile_files.hpp"
#include "llama/torch_files.hpp"

namespace llama {
namespace {

namespace pickle = test::pickle;
using nlohmann::json;
using test::Arguments;
using test::bytes_of;
using test::GgufTypes;
using test::GgufWriter;
using test::HostileFiles;
using test::listed;
using test::make_safetensors;
using test::repeated;
using test::small_gguf;
using test::with_header;

const std::string tensor = R"({"dtype":"F32","shape":[0],"data_offsets":[0,0]})";

// Values that JSON readers choke on.
std::vector<std::pair<std::string, std::string>> hostile_values() {
    return {
        {"many numbers", "[" + repeated("0,", 2'000'000) + "0]"},
        {"many objects", "[" + repeated("{},", 1'300'000) + "{}]"},
        {"many objects with a member", "{\"a\":[" + repeated(R"({"":0},)", 600'000) + "0]}"},
        {"many keys", "{" + listed(300'000, [](const std::string& i) { return "\"" + i + "\":0"; }) + "}"},
        {"many nested objects", "{" + listed(300'000, [](const std::string& i) { return "\"" + i + "\":{}"; }) + "}"},
        {"one key again and again", "{" + repeated("\"a\":0,", 500'000) + "\"a\":0}"},
        {"depth", std::string(2'000'000, '[')},
        {"depth of objects", repeated("{\"\":", 500'000)},
        {"a long number", std::string(2'000'000, '1')},
        {"a long key", "{\"" + std::string(2'000'000, 'k') + "\":1}"},
        {"a long text", "\"" + std::string(2'000'000, 't') + "\""},
        {"no end of a text", "\"" + std::string(2'000'000, 't')},
        {"an escape sequence", "{\"\x1b]0;title\x07\":1}"},
        {"an escaped escape sequence", R"({"architectures":["\u001b[2J\u009b31m"],"dtype":"\u001b[2J"})"},
        {"no UTF-8", "{\"\xff\xfe\":1}"},
        {"more behind a NUL character", std::string("{}\0 garbage", 11)}};
}

TEST_F(HostileFiles, OfHuggingFaceModels) {
    const std::string config = test::small_config().dump();
    const std::string weights = make_safetensors(test::small_model());
    const Arguments inspect{"inspect", "--model", "DIR"};
    expect_damaged_handled("config.json", config, 25, {{"model.safetensors", weights}}, inspect);
    expect_damaged_handled("model.safetensors", weights, 25, {{"config.json", config}}, inspect);
    for (const auto& [what, value] : hostile_values()) {
        expect_handled(what + " as config.json", {{"config.json", value}}, inspect);
        expect_handled(what + " as header", {{"config.json", config}, {"model.safetensors", with_header(value, "")}},
                       inspect);
        expect_handled(what + " as index",
                       {{"config.json", config}, {"model.safetensors.index.json", "{\"weight_map\":" + value + "}"}},
                       inspect);
    }
    const auto header = [&](std::size_t count) {
        return with_header("{" + listed(count, [](const std::string& i) { return "\"" + i + "\":" + tensor; }) + "}",
                           "");
    };
    for (const std::size_t count : {40'000U, 200'000U, 300'000U}) {
        expect_handled(std::to_string(count) + " tensors",
                       {{"config.json", config}, {"model.safetensors", header(count)}}, inspect);
    }
    expect_handled("many sizes",
                   {{"config.json", config},
                    {"model.safetensors", with_header(R"({"a":{"dtype":"F32","data_offsets":[0,0],"shape":[)" +
                                                          repeated("0,", 1'000'000) + "0]}}",
                                                      "")}},
                   inspect);
    expect_handled("many shards",
                   {{"config.json", config},
                    {"model.safetensors.index.json",
                     "{\"weight_map\":{" +
                         listed(200'000, [](const std::string& i) { return "\"" + i + "\":\"" + i + "\""; }) + "}}"}},
                   inspect);
    expect_handled("a long name of a shard",
                   {{"config.json", config},
                    {"model.safetensors.index.json", R"({"weight_map":{"a":")" + std::string(100'000, 's') + "\"}}"}},
                   inspect);
}

TEST_F(HostileFiles, OfGguf) {
    const std::string valid = small_gguf().bytes();
    const Arguments inspect{"inspect", "--model", "DIR/m.gguf"};
    const Arguments tokenize{"tokenize", "--tokenizer", "DIR/m.gguf", "--text", "DIR/t", "--out", "DIR/o"};
    expect_damaged_handled("m.gguf", valid, 40, {}, inspect);
    expect_damaged_handled("m.gguf", valid, 10, {{"t", "a text"}}, tokenize);
    for (std::uint32_t type = 0; type <= 40; ++type) {
        GgufWriter file = small_gguf();
        file.tensors[0].type = type;
        expect_handled("tensor type " + std::to_string(type), {{"m.gguf", file.bytes()}}, inspect);
    }
    for (const char* const key : {"split.no", "split.count", "split.tensors.count"}) {
        for (const std::uint16_t value : std::initializer_list<std::uint16_t>{0, 1, 2, 65535}) {
            GgufWriter file = small_gguf();
            file.set("split.no", std::uint16_t{0});
            file.set("split.count", std::uint16_t{2});
            file.set("split.tensors.count", std::int32_t{1});
            file.set(key, value);
            expect_handled(std::string(key) + " " + std::to_string(value),
                           {{"m-00001-of-00002.gguf", file.bytes()}, {"m-00002-of-00002.gguf", file.bytes()}},
                           {"inspect", "--model", "DIR/m-00001-of-00002.gguf"});
        }
    }
    const auto with_keys = [](int count) {
        GgufWriter file = small_gguf();
        for (int i = 0; i < count; ++i) file.entries.push_back({std::to_string(i), 0, "1"});
        return file.bytes();
    };
    expect_handled("many keys", {{"m.gguf", with_keys(1'000'000)}}, inspect);
    const auto with_tensors = [](int count) {
        GgufWriter file = small_gguf();
        for (int i = 0; i < count; ++i) file.tensors.push_back({std::to_string(i), 0, {1}, "", 0});
        return file.bytes();
    };
    for (const int count : {130'000, 300'000}) {  // the one is still read
        expect_handled(std::to_string(count) + " tensors", {{"m.gguf", with_tensors(count)}}, inspect);
    }
}

// Valid but for its size: `count` tokens that are numbers, and as many merges, after those of a byte-level tokenizer.
std::string large_vocabulary(std::string_view model, std::size_t tokens, std::size_t merges) {
    const json bytes = json::parse(test::read_text(FREQKV_FIXTURES_DIR "/tokenizers/llama3/tokenizer.json"));
    std::string texts = GgufWriter::string("<unk>");
    for (const auto& [token, id] : bytes["model"]["vocab"].items()) texts += GgufWriter::string(token);
    const std::size_t count = 1 + bytes["model"]["vocab"].size() + tokens;
    for (std::size_t i = 0; i < tokens; ++i) texts += GgufWriter::string("0" + std::to_string(i));
    std::vector<std::int32_t> types(count, 1);
    types[0] = 2;
    const auto strings = [](std::size_t length, const std::string& elements) {
        return GgufWriter::array(GgufTypes::string, length, elements);
    };
    GgufWriter file = small_gguf();
    file.set("tokenizer.ggml.model", model);
    file.set("tokenizer.ggml.pre", std::string_view("llama-bpe"));
    file.set_bytes("tokenizer.ggml.tokens", GgufTypes::array, strings(count, texts));
    file.set("tokenizer.ggml.scores", std::vector<float>(count));
    file.set("tokenizer.ggml.token_type", types);
    file.set_bytes("tokenizer.ggml.merges", GgufTypes::array,
                   strings(merges, repeated(GgufWriter::string("i n"), merges)));
    return file.bytes();
}

TEST_F(HostileFiles, OfGgufVocabularies) {
    const Arguments tokenize{"tokenize", "--tokenizer", "DIR/m.gguf", "--text", "DIR/t",
                             "--out",    "DIR/o",       "--threads",  "1"};
    const auto expect_vocabulary_handled = [&](std::string_view model, std::size_t tokens, std::size_t merges) {
        const std::string what =
            std::to_string(tokens) + " tokens and " + std::to_string(merges) + " merges of " + std::string(model);
        expect_handled(what, {{"m.gguf", large_vocabulary(model, tokens, merges)}, {"t", "some text"}}, tokenize);
    };
    for (const std::size_t tokens : {50'000U, 100'000U, 250'000U, 1'000'000U})
        expect_vocabulary_handled("llama", tokens, 0);
    for (const std::size_t tokens : {50'000U, 300'000U, 500'000U, 1'000'000U})
        expect_vocabulary_handled("gpt2", tokens, 0);
    for (const std::size_t merges : {50'000U, 700'000U, 1'000'000U, 3'000'000U})
        expect_vocabulary_handled("gpt2", 0, merges);
}

TEST_F(HostileFiles, OfLlama2c) {
    const std::string valid =
        test::bytes_of(std::vector<std::int32_t>{8, 12, 1, 2, 2, 16, 16}) + std::string(4 * 760, '\0');
    expect_damaged_handled("m.bin", valid, 15, {}, {"inspect", "--model", "DIR/m.bin"});
    expect_damaged_handled("t.bin", syllable_tokenizer(300), 10, {{"m.bin", valid}},
                           {"generate", "--model", "DIR/m.bin", "--tokenizer", "DIR/t.bin"});
}

class HostileAdapters : public HostileFiles {
protected:
    void expect_adapter_handled(const std::string& what, const std::vector<File>& adapter) {
        std::vector<File> files = model_;
        for (const File& file : adapter) files.push_back({"adapter/" + file.name, file.content});
        expect_handled(what, files, merge_);
    }

    const std::vector<File> model_{{"model/config.json", test::small_config().dump()},
                                   {"model/model.safetensors", make_safetensors(test::small_model())}};
    const std::string config_ = R"({"peft_type":"LORA","r":2,"lora_alpha":3})";
    const Arguments merge_{"merge", "--model", "DIR/model", "--adapter", "DIR/adapter", "--out", "DIR/out"};
    const test::TestTensors tensors_{
        {"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", test::random_tensor({2, 8}, "F32", 1)},
        {"base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight", test::random_tensor({8, 2}, "F32", 2)}};
};

TEST_F(HostileAdapters, OfPeft) {
    const std::string weights = make_safetensors(tensors_);
    std::vector<File> others = model_;
    others.push_back({"adapter/adapter_model.safetensors", weights});
    expect_damaged_handled("adapter/adapter_config.json", config_, 15, others, merge_);
    for (const auto& [what, value] : hostile_values()) {
        expect_adapter_handled(what, {{"adapter_config.json", value}, {"adapter_model.safetensors", weights}});
    }
    for (const char* const key : {"rank_pattern", "alpha_pattern"}) {
        for (const std::size_t count : {16'000U, 200'000U}) {
            const std::string patterns =
                "{" + listed(count, [](const std::string& i) { return "\"" + i + "\":2"; }) + "}";
            expect_adapter_handled(std::to_string(count) + " of " + key,
                                   {{"adapter_config.json", R"({"peft_type":"LORA","r":2,"lora_alpha":3,")" +
                                                                std::string(key) + "\":" + patterns + "}"},
                                    {"adapter_model.safetensors", weights}});
        }
    }
    for (const char* const rank : {"0", "-1", "1e9", "1.5", "4611686018427387904"}) {
        expect_adapter_handled(
            std::string("rank ") + rank,
            {{"adapter_config.json", R"({"peft_type":"LORA","lora_alpha":1,"r":)" + std::string(rank) + "}"},
             {"adapter_model.safetensors", weights}});
    }
    expect_adapter_handled("no tensors",
                           {{"adapter_config.json", config_}, {"adapter_model.safetensors", with_header("{}", "")}});
}

TEST_F(HostileAdapters, OfTorch) {
    std::vector<File> others = model_;
    others.push_back({"adapter/adapter_config.json", config_});
    expect_damaged_handled("adapter/adapter_model.bin", test::make_torch_file(tensors_), 20, others, merge_);
    const std::string long_name(2'000'000, 'n');
    const std::string long_key(60'000, '0');
    pickle::Tensor with_long_key;
    with_long_key.key = long_key;
    const std::string storage = pickle::tuple({pickle::text("storage"), pickle::function("torch", "FloatStorage"),
                                               pickle::text("0"), pickle::text("cpu"), pickle::whole(6)});
    const std::pair<std::string, std::string> programs[] = {
        {"a long name set again and again", "}" + pickle::text(long_name) + "q\1" + "0" + repeated("h\1Ns", 500'000)},
        {"a long name in a list of items", "}(" + pickle::text(long_name) + "q\1N" + repeated("h\1N", 500'000) + "u"},
        {"a long key of a storage", with_long_key.text()},
        {"a storage asked for again and again", "}(" + repeated(storage + "Q", 60'000)},
        {"one storage asked for again and again", "}" + storage + "q\1" + repeated("h\1Q\x85", 900'000)},
        {"empty tuples", repeated(")", 4'000'000)},
        {"empty dictionaries", repeated("}", 4'000'000)},
        {"marks", repeated("(", 4'000'000)},
        {"tuples in tuples", ")" + repeated("\x85", 4'000'000)},
        {"tuples of the memo", ")q\1" + repeated("h\1h\1h\1\x87", 500'000)},
        {"a memo of everything", "N" +
                                     [] {
                                         std::string all;
                                         for (std::uint32_t i = 0; i < 800'000; ++i) all += "r" + bytes_of(i);
                                         return all;
                                     }()},
        {"a large number", repeated("\x8a\xff" + std::string(255, '\x7f'), 10)},
        {"a command", pickle::function("os", "system") + "(" + pickle::text("touch x") + "tR"},
        {"an escape sequence", pickle::function("os\x1b[2J", "sys\xfftem") + ")R"}};
    for (const auto& [what, program] : programs) {
        const std::string file = test::make_zip({{"x/data.pkl", "\x80\x02" + program + "."},
                                                 {"x/data/0", std::string(24, '\0')},
                                                 {"x/data/" + long_key, ""}});
        expect_adapter_handled(what, {{"adapter_config.json", config_}, {"adapter_model.bin", file}});
    }
    std::vector<test::ZipEntry> entries;
    for (int i = 0; i < 60'000; ++i) entries.push_back({"x/data/" + std::to_string(i), ""});
    entries.push_back({"x/data.pkl", "\x80\x02}."});
    expect_adapter_handled("many files in the archive",
                           {{"adapter_config.json", config_}, {"adapter_model.bin", test::make_zip(entries)}});
}

}  // namespace
}  // namespace llama
