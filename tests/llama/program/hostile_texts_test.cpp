// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "llama/formats/random_checkpoint.hpp"
#include "llama/hugging_face_files.hpp"
#include "llama/io/protobuf.hpp"
#include "llama/program/hostile_files.hpp"
#include "llama/tokenizers/sentencepiece_model.hpp"

namespace llama {
namespace {

using nlohmann::json;
using test::Arguments;
using test::HostileFiles;
using test::listed;
using test::read_text;
using test::repeated;
using test::with_header;

const std::string fixtures = FREQKV_FIXTURES_DIR "/tokenizers/";

Arguments tokenize(const std::string& tokenizer) {
    return {"tokenize", "--tokenizer", "DIR/" + tokenizer, "--text", "DIR/text", "--out", "DIR/out", "--threads", "1"};
}

std::vector<std::pair<std::string, std::string>> hostile_parts() {
    return {{"numbers", "[" + repeated("0,", 1'000'000) + "0]"},
            {"texts", "[" + repeated("\"\",", 1'000'000) + "\"\"]"},
            {"objects", "[" + repeated("{},", 1'000'000) + "{}]"},
            {"pairs", "[" + repeated(R"(["",""],)", 500'000) + "[]]"},
            {"an escape sequence", R"("\u001b[2J")"},
            {"depth", std::string(100'000, '[')},
            {"null", "null"}};
}

TEST_F(HostileFiles, OfTokenizerJson) {
    const std::string valid = read_text(fixtures + "llama3/tokenizer.json");
    const json content = json::parse(valid);
    expect_damaged_handled("tokenizer.json", content.dump(), 30, {{"text", "some text, and 123"}},
                           tokenize("tokenizer.json"));
    for (const char* const place : {"/model/vocab", "/model/merges", "/added_tokens", "/post_processor", "/normalizer",
                                    "/pre_tokenizer/pretokenizers"}) {
        json changed = content;
        changed[json::json_pointer(place)] = "HERE";
        const std::string text = changed.dump();
        const std::size_t at = text.find("\"HERE\"");
        for (const auto& [what, part] : hostile_parts()) {
            std::string file = text;
            expect_handled(what + " as " + place,
                           {{"tokenizer.json", file.replace(at, 6, part)}, {"text", "some text"}},
                           tokenize("tokenizer.json"));
        }
    }
}

// As many entries as fit, of files that are valid but for what they leave out.
TEST_F(HostileFiles, OfLargeTokenizerJson) {
    const json content = json::parse(read_text(fixtures + "llama3/tokenizer.json"));
    json changed = content;
    changed["model"]["vocab"] = "VOCAB";
    changed["model"]["merges"] = "MERGES";
    const std::string frame = changed.dump();
    const std::string bytes = [&] {
        const std::string all = content["model"]["vocab"].dump();
        return all.substr(1, all.size() - 2);
    }();
    const std::string merges = content["model"]["merges"].dump();
    const auto with = [&](const std::string& vocabulary, const std::string& pairs) {
        std::string file = frame;
        file.replace(file.find("\"MERGES\""), 8, pairs);
        return file.replace(file.find("\"VOCAB\""), 7, "{" + vocabulary + "}");
    };
    const std::string text = "some text, 123 and more";
    for (const int count : {100'000, 300'000, 500'000, 1'000'000}) {
        const std::string more = bytes + "," + listed(static_cast<std::size_t>(count), [](const std::string& i) {
                                     return "\"a" + i + "\":" + std::to_string(1000 + std::stoi(i));
                                 });
        expect_handled(std::to_string(count) + " tokens", {{"tokenizer.json", with(more, merges)}, {"text", text}},
                       tokenize("tokenizer.json"));
    }
    for (const int count : {130'000, 400'000}) {
        const std::string more = bytes + "," + listed(static_cast<std::size_t>(count), [](const std::string& i) {
                                     return "\"a" + i + "\":" + std::to_string(1000 + 4 * std::stoi(i));
                                 });
        expect_handled(std::to_string(count) + " ids far apart",
                       {{"tokenizer.json", with(more, merges)}, {"text", text}}, tokenize("tokenizer.json"));
    }
    for (const std::string pair : {R"("i n",)", R"(["i","n"],)", R"(["\u0120","t"],)"}) {
        for (const std::size_t count : {300'000U, 700'000U, 1'000'000U, 2'000'000U}) {
            expect_handled(std::to_string(count) + " merges " + pair,
                           {{"tokenizer.json", with(bytes, "[" + repeated(pair, count) + "\"i n\"]")}, {"text", text}},
                           tokenize("tokenizer.json"));
        }
    }
}

TEST_F(HostileFiles, OfTokenizerConfigurations) {
    const std::string tokenizer = read_text(fixtures + "llama3/tokenizer.json");
    const std::string config = read_text(fixtures + "llama3/tokenizer_config.json");
    expect_damaged_handled("tokenizer_config.json", config, 10, {{"tokenizer.json", tokenizer}, {"text", "some text"}},
                           tokenize("tokenizer.json"));
    for (const auto& [what, part] : hostile_parts()) {
        for (const char* const key : {"eos_token", "added_tokens_decoder", "chat_template"}) {
            expect_handled(what + " as " + key,
                           {{"tokenizer_config.json", "{\"" + std::string(key) + "\":" + part + "}"},
                            {"tokenizer.json", tokenizer},
                            {"text", "some text"}},
                           tokenize("tokenizer.json"));
        }
    }
}

// A model that could chat, with templates that are none.
TEST_F(HostileFiles, OfChatTemplates) {
    test::TestTensors tensors = test::small_model();
    for (const char* const name : {"model.embed_tokens.weight", "lm_head.weight"}) {
        tensors[name] = test::random_tensor({425, 8}, "F32", 1);
    }
    json config = test::small_config();
    config["vocab_size"] = 425;
    const std::vector<File> model{{"config.json", config.dump()},
                                  {"model.safetensors", test::make_safetensors(tensors)},
                                  {"tokenizer.json", read_text(fixtures + "llama3/tokenizer.json")}};
    const Arguments chat{"chat", "--model", "DIR", "--tokens", "2", "--threads", "1"};
    const auto expect_template_handled = [&](const std::string& what, const std::string& name,
                                             const std::string& content) {
        std::vector<File> files = model;
        files.push_back({name, content});
        expect_handled(what + " in " + name, files, chat, "Hello\n");
    };
    const std::string chatml =
        "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>'}}"
        "{% endfor %}";
    for (std::uint64_t seed = 0; seed < 15; ++seed) {
        expect_template_handled("damaged by " + std::to_string(seed), "chat_template.jinja",
                                test::damaged(chatml, seed));
    }
    for (const std::string part :
         {"{% for x in range(1000000000) %}", "{{", "{%", "<|im_start|>", "\x1b[2J", "\xff", "[INST]", "{#"}) {
        const std::string bomb = repeated(part, 4'000'000 / part.size());
        expect_template_handled("much of " + part, "chat_template.jinja", bomb);
        const std::string quoted = json(bomb).dump(-1, ' ', false, json::error_handler_t::replace);
        expect_template_handled("much of " + part, "tokenizer_config.json", "{\"chat_template\":" + quoted + "}");
    }
    expect_template_handled(
        "many templates", "tokenizer_config.json",
        "{\"chat_template\":[" + repeated(R"({"name":"default","template":""},)", 300'000) + "{}]}");
}

TEST_F(HostileFiles, OfSentencePiece) {
    const std::string valid = read_text(fixtures + "llama2/tokenizer.model");
    expect_damaged_handled("tokenizer.model", valid, 25, {{"text", "some text, and 123"}}, tokenize("tokenizer.model"));
    for (const std::size_t count : {60'000U, 250'000U, 400'000U, 1'000'000U}) {
        std::vector<std::string> pieces{"<unk>"};
        for (std::size_t i = 0; i < count; ++i) pieces.push_back(std::to_string(i));
        std::vector<PieceType> types(pieces.size(), PieceType::normal);
        types[0] = PieceType::unknown;
        const std::string model = serialize_sentencepiece_bpe(pieces, std::vector<float>(pieces.size()), types, true);
        expect_handled(std::to_string(count) + " pieces", {{"tokenizer.model", model}, {"text", "123"}},
                       tokenize("tokenizer.model"));
    }
    ProtobufWriter sample, samples, tests;
    sample.add(1, std::string_view("some text"));
    sample.add(2, std::string_view("\x1b[2J no piece\xff"));
    samples.add(1, sample.message());
    tests.add(4, samples.message());
    expect_handled("a test of its own that fails", {{"tokenizer.model", valid + tests.message()}, {"text", "123"}},
                   tokenize("tokenizer.model"));
    expect_handled("bytes that are no message", {{"tokenizer.model", std::string(4'000'000, '\x0a')}, {"text", "123"}},
                   tokenize("tokenizer.model"));
    expect_handled("empty pieces",
                   {{"tokenizer.model", repeated(std::string("\x0a\x00", 2), 2'000'000)}, {"text", "123"}},
                   tokenize("tokenizer.model"));
}

// A training of one step of the smallest model.
Arguments train(const Arguments& options) {
    return Arguments{"train",    "--tokenizer", fixtures + "llama2/tokenizer.model",
                     "--window", "16",          "--dim",
                     "8",        "--layers",    "1",
                     "--heads",  "1",           "--kv-heads",
                     "1",        "--hidden",    "8",
                     "--batch",  "1",           "--steps",
                     "1",        "--threads",   "1",
                     "--out",    "DIR/out"} +
           options;
}

TEST_F(HostileFiles, OfInstructions) {
    const Arguments arguments = train({"--instructions", "DIR/records.json"});
    const std::string record = R"({"instruction":"where is the cat?","input":"","output":"on the mat"})";
    expect_damaged_handled("records.json", "[" + repeated(record + ",", 5) + record + "]", 15, {}, arguments);
    for (const auto& [what, part] : hostile_parts()) {
        expect_handled(what, {{"records.json", part}}, arguments);
        expect_handled(what + " in a record",
                       {{"records.json", R"([{"instruction":"a","output":"b","more":)" + part + "}]"}}, arguments);
    }
    expect_handled("records without output",
                   {{"records.json", "[" + repeated(R"({"instruction":"","output":""},)", 320'000) + record + "]"}},
                   arguments);
}

TEST_F(HostileFiles, OfTrainingStates) {
    const Arguments arguments = train({"--text", "DIR/text", "--resume"});
    const std::string text = repeated("the cat sat on the mat. ", 50);
    const auto state = [](const std::string& training) {
        const json header{{"__metadata__", {{"training", training}}}};
        return with_header(header.dump(-1, ' ', false, json::error_handler_t::replace), "");
    };
    const std::string valid =
        R"({"options":{"steps":1},"step":2,"losses":[[1,256,0.001,8.25,0.5,0.5,null],[2,512,0.001,8,0.5,1,7.5]]})";
    for (std::uint64_t seed = 0; seed < 15; ++seed) {
        expect_handled("damaged by " + std::to_string(seed),
                       {{"text", text}, {"out/training_state.safetensors", state(test::damaged(valid, seed))}},
                       arguments);
    }
    for (const auto& [what, part] : hostile_parts()) {
        for (const char* const key : {"options", "step", "losses"}) {
            expect_handled(what + " as " + key,
                           {{"text", text},
                            {"out/training_state.safetensors", state("{\"" + std::string(key) + "\":" + part + "}")}},
                           arguments);
        }
    }
    const std::string rows = listed(200'000, [](const std::string& i) {
        return "[" + std::to_string(std::stoi(i) + 1) + "," + std::to_string(std::stoi(i) + 1) + ",0,0,0,0,null]";
    });
    expect_handled(
        "many losses",
        {{"text", text},
         {"out/training_state.safetensors", state("{\"options\":{},\"step\":200000,\"losses\":[" + rows + "]}")}},
        arguments);
}

TEST_F(HostileFiles, OfPartialResults) {
    const Arguments arguments{"perplexity",
                              "--model",
                              FREQKV_FIXTURES_DIR "/models/llama-mha",
                              "--token-file",
                              "DIR/ids",
                              "--json",
                              "DIR/r.json",
                              "--resume",
                              "--threads",
                              "1"};
    const std::string ids = "1 2 3 4 5 6";
    const std::string valid =
        R"({"made_with":{"model":"x","tokens":6},"state":{"nll":[1.5,2.5],"compressions":0,"seconds":0.5}})";
    for (std::uint64_t seed = 0; seed < 15; ++seed) {
        expect_handled("damaged by " + std::to_string(seed),
                       {{"ids", ids}, {"r.json.partial", test::damaged(valid, seed)}}, arguments);
    }
    for (const auto& [what, part] : hostile_parts()) {
        expect_handled(what + " as result", {{"ids", ids}, {"r.json.partial", part}}, arguments);
        expect_handled(what + " as state",
                       {{"ids", ids}, {"r.json.partial", R"({"made_with":{},"state":)" + part + "}"}}, arguments);
    }
}

}  // namespace
}  // namespace llama
