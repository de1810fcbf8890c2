// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "llama/program/budgets.hpp"
#include "llama/program/program_fixture.hpp"
#include "llama/program/program_runs.hpp"

namespace llama {
namespace {

using nlohmann::json;
using test::Arguments;
using test::expect_refusal;
using test::json_of;
using test::largest_difference;
using test::nll_of;
using test::Outcome;
using test::output_of;
using test::ProgramTest;
using test::read_text;
using test::run;
using test::Surroundings;
using testing::ContainsRegex;
using testing::HasSubstr;

constexpr Index heads_of_model = 20;  // in all layers, of 8 dimensions

std::vector<Index> all_capacities(const json& result) {
    std::vector<Index> all;
    for (const json& layer : result.at("head_capacities")) {
        for (const json& capacity : layer) all.push_back(capacity);
    }
    return all;
}

Index sum(const std::vector<Index>& values) { return std::accumulate(values.begin(), values.end(), Index{0}); }

class Budgets : public ProgramTest {
protected:
    // What calibrate makes of a text of 3000 letters.
    Arguments calibrate(const std::string& out, const std::string& threads = "1", const std::string& by = "energy") {
        std::string text;
        Random random(11);
        for (int i = 0; i < 3000; ++i) text += "abcdefghij klmno"[random.next() % 16];
        return {"calibrate", "--model",  file("m.bin"), "--text",  own_.write("text.txt", text),
                "--out",     own_ / out, "--threads",   threads,   "--capacity",
                "60",        "--recent", "10",          "--limit", "500",
                "--by",      by};
    }
    std::string calibrated() {
        output_of(calibrate("budgets.json"));
        return own_ / "budgets.json";
    }
};

TEST_F(Budgets, AreMetUnderEveryPolicyAndType) {
    constexpr Index budget = 150000;
    const json policies = json_of({"policies"})["policies"];
    for (const json& listed : policies) {
        const std::string policy = listed["name"], where = listed["where"];
        if (listed["grows"] == true || where.find("processor") == std::string::npos) continue;
        for (const Index element : {4, 2}) {
            SCOPED_TRACE(policy + ", bytes of an element: " + std::to_string(element));
            const Index entry = 2 * 8 * element + 16 + (policy.starts_with("h2o") ? 4 : 0);
            const Arguments options{"--policy", policy, "--cache-type", element == 4 ? "f32" : "bf16"};
            const auto held = [&](const json& result, const json& entries) {
                return entries.get<Index>() + result.at("bookkeeping_bytes").get<Index>();
            };
            for (const char* const by : {"uniform", "pyramid"}) {
                const Arguments given = options + Arguments{"--budget", std::to_string(budget), "--budget-by", by};
                const json result = json_of(perplexity() + given + Arguments{"--limit", "10"});
                const Index bytes = held(result, result.at("cache_bytes"));
                EXPECT_LE(bytes, budget) << by;
                EXPECT_GT(bytes, budget - entry * (by == std::string("uniform") ? heads_of_model : 1)) << by;
                const json promised = json_of(Arguments{"inspect", "--model", file("m.bin")} + given);
                EXPECT_EQ(held(promised, promised.at("cache_bytes")[0].at(element == 4 ? "f32" : "bf16")), bytes);
            }
        }
    }
}

TEST_F(Budgets, OfPackedEntriesAreMetWithinABlock) {
    constexpr Index budget = 200000;
    for (const auto& [type, row_bytes] : {std::pair{"q8", 34}, std::pair{"q4", 18}, std::pair{"q2", 10}}) {
        const json result = json_of(
            perplexity() + Arguments{"--limit", "10", "--cache-type", type, "--budget", std::to_string(budget)});
        const Index bytes = result.at("cache_bytes").get<Index>() + result.at("bookkeeping_bytes").get<Index>();
        EXPECT_LE(bytes, budget) << type;
        EXPECT_GT(bytes, budget - heads_of_model * 65 * (2 * row_bytes + 16)) << type;
    }
}

TEST_F(Budgets, LeaveLocalLayersTheirWindow) {
    const Arguments gemma{"inspect", "--model", FREQKV_FIXTURES_DIR "/models/gemma3"};
    const json result = json_of(gemma + Arguments{"--budget", "64KiB", "--budget-by", "pyramid"});
    ASSERT_EQ(result.at("head_capacities").size(), 3u);
    const std::vector<Index> capacities = all_capacities(result);
    ASSERT_EQ(capacities.size(), 2u) << "one layer sees the whole text";
    const Index local = 2 * 2 * 16 * (2 * 16 * 4 + 16);  // layers, heads, entries, bytes of one
    EXPECT_EQ(sum(capacities), (64 * 1024 - local) / (2 * 16 * 4 + 16));
    EXPECT_LE(capacities[0] - capacities[1], 1);
    expect_refusal(run(gemma + Arguments{"--budget", "9000"}), 2, {"--budget 9000", "at least 9504"});
}

TEST_F(Budgets, PyramidIsALine) {
    const Arguments given{"--capacity", "100", "--recent", "20", "--budget-by", "pyramid"};
    const json result = json_of(Arguments{"inspect", "--model", file("m.bin")} + given);
    EXPECT_EQ(result.at("head_capacities"),
              json::parse("[[170,170,170,170],[135,135,135,135],[100,100,100,100],[65,65,65,65],[30,30,30,30]]"))
        << "26 for each head, and 74 * 1.95 to 74 * 0.05 above";
    EXPECT_EQ(result.at("capacity"), 170);
    const json uniform = json_of({"inspect", "--model", file("m.bin"), "--capacity", "100"});
    for (const char* const type : {"f32", "f16", "bf16"}) {
        EXPECT_EQ(result.at("cache_bytes")[0].at(type), uniform.at("cache_bytes")[0].at(type)) << type;
    }
    EXPECT_THAT(output_of(Arguments{"inspect", "--model", file("m.bin")} + given),
                HasSubstr("capacities from 30 to 170, sinks 4, recent 20, ratio 0.5\nin all 156 KiB under low-pass"));
    // Results depend on neither chunks nor threads, and the flop model goes by the heads.
    const std::vector<double> nll = nll_of(perplexity() + given);
    EXPECT_LT(largest_difference(nll, nll_of(perplexity() + given + Arguments{"--prefill-chunk", "7"})), 1e-4);
    for (const std::string& threads : test::thread_counts) EXPECT_EQ(nll_of(perplexity(threads) + given), nll);
    const json flops = json_of(Arguments{"flops", "--model", file("m.bin"), "--context", "1000"} + given);
    EXPECT_EQ(flops.at("compressions"), json_of(perplexity() + given).at("compressions")) << "of the smallest head";
}

// The heads of a file by weight, each with its capacity.
std::vector<std::pair<double, Index>> heads_by_weight(const json& file_content) {
    std::vector<std::pair<double, Index>> heads;
    for (const json& layer : file_content.at("layers")) {
        for (std::size_t h = 0; h < layer.at("weights").size(); ++h) {
            heads.emplace_back(layer.at("weights")[h], layer.at("capacities")[h]);
        }
    }
    std::sort(heads.begin(), heads.end());
    return heads;
}

void expect_shares(const std::vector<std::pair<double, Index>>& heads, Index least) {
    Index entries = 0;
    for (std::size_t i = 0; i < heads.size(); ++i) {
        entries += heads[i].second;
        EXPECT_GE(heads[i].second, least);
        if (i > 0) {
            EXPECT_GE(heads[i].second, heads[i - 1].second);
        }
    }
    EXPECT_EQ(entries, 60 * static_cast<Index>(heads.size()));
    EXPECT_LT(heads.front().second, heads.back().second);
}

TEST_F(Budgets, CalibrationSharesByWhatWasDiscarded) {
    const auto heads = heads_by_weight(json::parse(read_text(calibrated())));
    ASSERT_EQ(heads.size(), static_cast<std::size_t>(heads_of_model));
    expect_shares(heads, 4 + 10 + 2);
    EXPECT_GT(heads.front().first, 0);
    EXPECT_LT(heads.back().first, 2);
    for (const std::string& threads : test::thread_counts) {
        output_of(calibrate("again.json", threads));
        EXPECT_EQ(read_text(own_ / "again.json"), read_text(own_ / "budgets.json")) << threads << " threads";
    }
}

// Queries and keys of one KV head are the same projection of the token, in channels that hardly turn over the text: it
// looks at the same token, where it is and where it was.
TEST_F(Budgets, CalibrationFindsTheHeadThatLooksBack) {
    constexpr std::size_t dim = 256, query_heads = 4, kv_heads = 2, head_dim = 64, layers = 3, vocabulary = 512;
    constexpr std::size_t head = 1, channels = 20;  // of the first layer
    const std::string model = own_ / "echo.bin";
    const Outcome made =
        test::run_program({FREQKV_MAKE_RANDOM_CHECKPOINT, model, own_ / "echo.tokenizer.bin", "--dim", "256", "--heads",
                           "4", "--kv-heads", "2", "--layers", "3", "--context", "256"});
    ASSERT_EQ(made.status, 0) << made.err;
    std::string bytes = read_text(model);
    Random random(5);
    std::vector<float> projection(head_dim * dim, 0.0f);
    for (std::size_t i = (head_dim - channels) * dim; i < projection.size(); ++i) {
        projection[i] = static_cast<float>(1.4 * random.uniform() - 0.7);
    }
    const std::size_t wq = 7 * sizeof(std::int32_t) + sizeof(float) * (vocabulary * dim + layers * dim);
    const std::size_t wk = wq + sizeof(float) * layers * query_heads * head_dim * dim;
    const auto put = [&](std::size_t matrix, std::size_t head_of_it) {
        const std::size_t size = sizeof(float) * projection.size();
        std::memcpy(bytes.data() + matrix + head_of_it * size, projection.data(), size);
    };
    put(wk, head);
    for (const std::size_t query : {2 * head, 2 * head + 1}) put(wq, query);
    own_.write("echo.bin", bytes);
    std::string text;  // of 210 tokens that hardly come twice in a piece
    for (int i = 0; i < 500; ++i) {
        if (random.next() % 2 == 0) text += ' ';
        text += "bcdfghjklmnpqrstvwxyz"[random.next() % 21];
        text += "aeiou"[random.next() % 5];
    }

    const auto calibrated_with = [&](const Arguments& more, const std::string& threads = "1") {
        Arguments command = calibrate("echo.json", threads, "retrieval");
        command[2] = model;
        command[4] = own_.write("syllables.txt", text);
        EXPECT_THAT(output_of(command + more), HasSubstr("echo.json: 360 entries in 6 heads of "));
        return json::parse(read_text(own_ / "echo.json"));
    };
    const json found = calibrated_with({});
    EXPECT_EQ(found.at("by"), "retrieval");
    const auto heads = heads_by_weight(found);
    ASSERT_EQ(heads.size(), layers * kv_heads);
    expect_shares(heads, 60 / 2);
    EXPECT_EQ(found.at("layers")[0].at("weights")[head], heads.back().first);
    EXPECT_GT(heads.back().first, 10 * heads[heads.size() - 2].first);
    EXPECT_LT(heads.back().first, 1);
    EXPECT_GT(heads.back().second, 150) << "of the 180 that are shared by weight and its 30";

    for (const std::string& threads : test::thread_counts) {
        EXPECT_EQ(calibrated_with({}, threads), found) << threads << " threads";
    }
    const auto chunked = heads_by_weight(calibrated_with({"--prefill-chunk", "7"}));
    for (std::size_t i = 0; i < heads.size(); ++i) EXPECT_NEAR(chunked[i].first, heads[i].first, 1e-5);
    for (const auto& [weight, capacity] : heads_by_weight(calibrated_with({"--shared", "0"}))) EXPECT_EQ(capacity, 60);
    const auto all = heads_by_weight(calibrated_with({"--shared", "1"}));
    EXPECT_GE(all.front().second, 4 + 10 + 2);
    EXPECT_LT(all.front().second, 30);
    EXPECT_LE(all.back().second, 256) << "the trained window";
}

TEST_F(Budgets, OfAFileAreTakenByAllCommands) {
    const Arguments given{"--budgets", calibrated()};
    const json result = json_of(perplexity() + given);
    EXPECT_EQ(result.at("recent"), 10) << "the file's";
    EXPECT_EQ(sum(all_capacities(result)), 60 * heads_of_model);
    EXPECT_EQ(result.at("cache_bytes"), 60 * heads_of_model * 2 * 8 * 4);
    EXPECT_EQ(json_of(perplexity() + given + Arguments{"--recent", "3"}).at("recent"), 3);
    const std::vector<double> nll = result.at("nll");
    EXPECT_LT(largest_difference(nll, nll_of(perplexity() + given + Arguments{"--prefill-chunk", "3"})), 1e-4);
    EXPECT_THAT(output_of(perplexity() + given), HasSubstr("at most in a head"));
    EXPECT_EQ(json_of(perplexity() + given + Arguments{"--policy", "h2o"}).at("head_capacities"),
              result.at("head_capacities"));
    const json promised = json_of(Arguments{"inspect", "--model", file("m.bin")} + given);
    EXPECT_EQ(promised.at("cache_bytes")[0].at("f32"), result.at("cache_bytes"));
    EXPECT_EQ(promised.at("head_capacities"), result.at("head_capacities"));
    EXPECT_EQ(json_of(Arguments{"flops", "--model", file("m.bin")} + given).at("cache_bytes"),
              result.at("cache_bytes"));
    EXPECT_EQ(run(generate() + given + Arguments{"--tokens", "100"}).status, 0);
    // A budget of bytes is shared alike.
    const std::string out = own_ / "bytes.json";
    Arguments by_bytes = calibrate("bytes.json");
    std::replace(by_bytes.begin(), by_bytes.end(), std::string("--capacity"), std::string("--budget"));
    std::replace(by_bytes.begin(), by_bytes.end(), std::string("60"), std::string("96001"));
    EXPECT_THAT(output_of(by_bytes), HasSubstr("bytes.json: 1200 entries in 20 heads of "));
    EXPECT_EQ(json::parse(read_text(out)).at("layers"), json::parse(read_text(own_ / "budgets.json")).at("layers"));
}

TEST_F(Budgets, AreShownInAConversation) {
    const std::string model = FREQKV_FIXTURES_DIR "/models/gguf-vocabulary-gpt2.gguf";
    std::string text;
    for (int i = 0; i < 300; ++i) text += "Hello, what is " + std::to_string(i * i) + "? ";
    output_of({"calibrate", "--model", model, "--text", own_.write("text.txt", text), "--out", own_ / "b.json",
               "--capacity", "64", "--limit", "400", "--threads", "1", "--by", "energy"});
    Surroundings with;
    with.input = "Hello\n/cache\n";
    const auto outcome = run({"chat", "--model", model, "--template", "llama3", "--tokens", "12", "--threads", "1",
                              "--budgets", own_ / "b.json"},
                             with);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    const json layer = json::parse(read_text(own_ / "b.json")).at("layers")[0].at("capacities");
    std::string capacities;
    for (const json& capacity : layer) capacities += (capacities.empty() ? "" : "+") + capacity.dump();
    EXPECT_THAT(outcome.err, HasSubstr(" of " + capacities + " entries, 0 compressions"));
    const auto budget = run({"chat", "--model", model, "--template", "llama3", "--tokens", "12", "--threads", "1",
                             "--budget", "16KiB", "--budget-by", "pyramid"},
                            with);
    EXPECT_EQ(budget.status, 0) << budget.err;
    EXPECT_THAT(budget.err, ContainsRegex("low-pass, 1[0-9].[0-9] KiB of keys and values"));
}

TEST_F(Budgets, AreRefusedForOtherModels) {
    const Arguments given{"--budgets", calibrated()};
    std::string bytes = read_text(file("m.bin"));
    char& changed_byte = bytes[bytes.size() / 2];
    changed_byte = static_cast<char>(changed_byte ^ 1);
    const std::string changed = own_.write("m.bin", bytes);
    std::filesystem::copy_file(file("m.tokenizer.bin"), own_ / "m.tokenizer.bin");
    const std::vector<std::string> words{"budgets.json", "for a model with the fingerprint"};
    expect_refusal(run(Arguments{"generate", "--model", changed} + given), 1, words);
    expect_refusal(run(Arguments{"inspect", "--model", changed} + given), 1, words);
    expect_refusal(run(Arguments{"perplexity", "--model", changed, "--token-file", file("ids.txt")} + given), 1, words);
    const std::string other = FREQKV_FIXTURES_DIR "/models/llama-gqa";
    expect_refusal(run(Arguments{"inspect", "--model", other} + given), 1, {"budgets.json", "for 5 layers"});
}

TEST_F(Budgets, AreRefusedInFilesThatHaveNone) {
    const json good = json::parse(read_text(calibrated()));
    const auto with = [&](const char* place, const json& value) {
        json changed = good;
        changed[json::json_pointer(place)] = value;
        return changed.dump();
    };
    const struct {
        std::string content;
        std::vector<std::string> words;
    } cases[] = {
        {"", {"bad.json"}},
        {"{}", {"no budgets of freqkv-llama calibrate"}},
        {"[1]", {"no budgets of freqkv-llama calibrate"}},
        {"{\"layers\": [", {"no usable JSON"}},
        {with("/weights", 5), {"weights is 5"}},
        {with("/weights", "12"), {"weights is", "16 hexadecimal digits"}},
        {with("/weights", "0123456789abcdeg"), {"16 hexadecimal digits"}},
        {with("/weights", nullptr), {"weights is missing"}},
        {with("/sinks", -1), {"sinks is -1"}},
        {with("/sinks", 1e300), {"sinks is 1e+300"}},
        {with("/recent", "x"), {"recent is"}},
        {with("/recent", nullptr), {"recent is missing"}},
        {with("/recent", Index{1} << 41), {"recent is 2199023255552, must be 0 to"}},
        {with("/ratio", 1), {"ratio is 1.0, must be between 0 and 1"}},
        {with("/layers", 5), {"layers is no list"}},
        {with("/layers", nullptr), {"layers is no list"}},
        {with("/layers", json::array({1})), {"for 1 layers, the model has 5"}},
        {with("/layers/2", 7), {"layers[2]. is no JSON object"}},
        {with("/layers/2/capacities", 7), {"layers[2].capacities is no list"}},
        {with("/layers/2/capacities", json::array()), {"layers[2].capacities has 0 numbers, the model 4 heads"}},
        {with("/layers/2/capacities/1", 0), {"layers[2].capacities is 0, must be whole numbers from 1 to"}},
        {with("/layers/2/capacities/1", 20.5), {"layers[2].capacities is 20.5"}},
        {with("/layers/2/capacities/1", std::uint64_t{1} << 63), {"layers[2].capacities is 9223372036854775808"}},
        {with("/layers/2/capacities/1", (Index{1} << 32) + 1), {"must be whole numbers from 1 to 4294967296"}},
        {with("/layers/2/capacities/1", Index{1} << 32), {"entries needs", "MiB"}},
        {with("/layers/2/capacities/1", 15), {"layers[2].capacities has 15, must be at least 16"}},
    };
    for (const auto& bad : cases) {
        SCOPED_TRACE(bad.content.substr(0, 300));
        const std::string path = own_.write("bad.json", bad.content);
        expect_refusal(run(generate() + Arguments{"--budgets", path}), 1, bad.words);
    }
    expect_refusal(run(generate() + Arguments{"--budgets", own_ / "none.json"}), 1, {"none.json", "No such file"});
    expect_refusal(run(generate() + Arguments{"--budgets", own_ / "budgets.json", "--recent", "40"}), 1,
                   {"must be at least 46 with --sinks 4, --recent 40"});
}

TEST_F(Budgets, AreRefusedWhereTheyMeanNothing) {
    const std::string path = calibrated();
    const std::vector<std::string> before = own_.names();
    const struct {
        Arguments arguments;
        std::vector<std::string> words;
    } cases[] = {
        {generate() + Arguments{"--budget", "4X"}, {"--budget", "\"4X\" is not a number of bytes"}},
        {generate() + Arguments{"--budget", "-1"}, {"--budget"}},
        {generate() + Arguments{"--budget", "9999999999TiB"}, {"--budget"}},
        {generate() + Arguments{"--budget", "100"}, {"--budget 100: 20 heads of 80 bytes an entry", "at least 1600"}},
        {generate() + Arguments{"--budget", "6000"}, {"--budget 6000, which is a capacity of 3, --sinks 4"}},
        {generate() + Arguments{"--budget", "1MiB", "--capacity", "9"}, {"--budget", "--capacity"}},
        {generate() + Arguments{"--budget", "1MiB", "--policy", "full"}, {"--policy full", "--budget"}},
        {generate() + Arguments{"--budget-by", "pyramid", "--policy", "full"}, {"--policy full", "--budget-by"}},
        {generate() + Arguments{"--budget-by", "heads"}, {"--budget-by", "pyramid"}},
        {generate() + Arguments{"--budgets", path, "--policy", "full"}, {"--policy full", "--budgets"}},
        {generate() + Arguments{"--budgets", path, "--capacity", "9"}, {"--budgets", "--capacity"}},
        {generate() + Arguments{"--budgets", path, "--budget", "1MiB"}, {"--budgets", "--budget"}},
        {generate() + Arguments{"--budgets", path, "--budget-by", "pyramid"}, {"--budgets", "--budget-by"}},
        {calibrate("x.json") + Arguments{"--policy", "full"}, {"--policy full"}},
        {calibrate("x.json") + Arguments{"--budgets", path}, {"--budgets"}},
        {{"calibrate", "--model", file("m.bin"), "--out", own_ / "x.json"}, {"--text"}},
        {{"calibrate", "--model", file("m.bin"), "--text", own_ / "text.txt"}, {"--out"}},
        {{"inspect", "--model", FREQKV_FIXTURES_DIR "/models/mistral-sliding", "--budget", "1GiB"},
         {"which is a capacity of", "the latest 64 tokens only"}},
    };
    for (const auto& wrong : cases) {
        SCOPED_TRACE(testing::PrintToString(wrong.arguments));
        expect_refusal(run(wrong.arguments), 2, wrong.words);
    }
    EXPECT_EQ(own_.names(), before);
}

TEST_F(Budgets, CalibrationWritesAllOrNothing) {
    Arguments command = calibrate("x.json");
    std::replace(command.begin(), command.end(), std::string("500"), std::string("60"));
    expect_refusal(run(command), 1, {"text.txt", "it has 60 tokens to read", "the capacity"});
    std::replace(command.begin(), command.end(), std::string("energy"), std::string("retrieval"));
    expect_refusal(run(command), 1, {"text.txt", "it has 60 tokens to read", "a piece"});
    std::replace(command.begin(), command.end(), own_ / "x.json", own_ / "none/x.json");
    expect_refusal(run(command), 1, {"none/x.json", "No such file"});
    EXPECT_EQ(own_.names(), std::vector<std::string>{"text.txt"});
}

TEST(BudgetOptions, MindTheSlidingWindow) {
    Config config{.layers = 4, .heads = 4, .kv_heads = 2, .head_dim = 8, .context = 128, .sliding_window = 64};
    ModelOptions options;
    options.budget_by = BudgetBy::pyramid;
    EXPECT_THAT([&] { resolve(options, config, 1000); },
                testing::ThrowsMessage<UsageError>(testing::AllOf(
                    HasSubstr("--budget-by pyramid: the largest head has "), HasSubstr("the latest 64 tokens only"))));
    options.capacity = 32;
    EXPECT_EQ(count_entries(config, resolve(options, config, 1000).sizes), 32 * 8);
    options.capacity.reset();
    options.budget = 8 * 32 * (2 * 8 * 4 + 16) + 7;
    EXPECT_EQ(count_entries(config, resolve(options, config, 1000).sizes), 32 * 8);
    CacheSettings settings{.sizes = {32, 4, 0}};
    share_entries(config, 32 * 8, std::vector<double>{9, 1, 0, 0, 0, 0, 0, 0}, 1, trained_window(config), settings);
    EXPECT_EQ(settings.sizes.capacity, 64) << "no head holds more than its queries see";
    EXPECT_EQ(count_entries(config, settings.sizes), 32 * 8);
    config.sliding_window = 0;
    config.local_layers = {false, true, true, false};
    config.local_window = 4;
    const CacheSizes sizes = resolve(options, config, 1000).sizes;
    EXPECT_EQ(count_entries(config, sizes), 8 * 32 - 4 * 8) << "without the windows, at the same bytes of an entry";
    EXPECT_TRUE(sizes.head_capacities[1].empty());
    config.local_layers = {true, true, true, true};
    EXPECT_THROW(resolve(options, config, 1000), UsageError);
}

TEST(ByteCounts, AreReadInBinaryUnits) {
    const struct {
        const char* text;
        std::optional<Index> bytes;
    } cases[] = {{"0", 0},
                 {"4194304", 4194304},
                 {"4MiB", 4 << 20},
                 {"1.5KiB", 1536},
                 {"0.5GiB", 1 << 29},
                 {"2TiB", Index{1} << 41},
                 {"", {}},
                 {"MiB", {}},
                 {"4 MiB", {}},
                 {"4MB", {}},
                 {"-4", {}},
                 {"inf", {}},
                 {"nan", {}},
                 {"1e3", {}},
                 {"0x10", {}},
                 {"4194304TiB", Index{1} << 62},
                 {"4194305TiB", {}},
                 {"1KiB ", {}}};
    for (const auto& one : cases) EXPECT_EQ(parse_byte_count(one.text), one.bytes) << one.text;
}

}  // namespace
}  // namespace llama
