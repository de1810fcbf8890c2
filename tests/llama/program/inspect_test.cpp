// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "llama/program/program_fixture.hpp"
#include "llama/program/program_runs.hpp"

namespace llama {
namespace {

using nlohmann::json;
using test::Arguments;
using test::json_of;
using test::output_of;
using test::ProgramTest;
using test::run;
using testing::HasSubstr;

TEST_F(ProgramTest, InspectSaysWhatTheModelIsAndWhatCachesNeed) {
    const Arguments inspect{"inspect", "--model", file("m.bin")};
    const std::string text = output_of(inspect + Arguments{"--capacity", "100", "--sinks", "2", "--ratio", "0.25"});
    const std::string parameters = std::to_string((std::filesystem::file_size(file("m.bin")) - 28 - 512 * 8 * 4) / 4);
    for (const std::string& part :
         {std::string("legacy"), parameters, std::string("512 tokens, separate output projection"),
          std::string("a compression turns 98 entries into 24, once every 74 tokens"), std::string("low-pass"),
          std::string("local-window"), std::string("full, 32768 tokens"), std::string("125 KiB"),
          std::string("62.5 KiB")}) {
        EXPECT_THAT(text, HasSubstr(part));
    }
    const json result = json_of(inspect);
    EXPECT_EQ(result["rope_scaling"], "none");
    const std::string scaled = FREQKV_FIXTURES_DIR "/models/llama-3";
    EXPECT_THAT(output_of({"inspect", "--model", scaled}), HasSubstr("base 500000, scaling llama3 by 8"));
    const std::string sliding = FREQKV_FIXTURES_DIR "/models/mistral-sliding";
    EXPECT_THAT(output_of({"inspect", "--model", sliding}), HasSubstr("sliding window of 64"));
    const Arguments gemma{"inspect", "--model", FREQKV_FIXTURES_DIR "/models/gemma3"};
    EXPECT_THAT(output_of(gemma), HasSubstr("windows     of 8 tokens in 2 of 3 layers, rotary base 10000 there"));
    EXPECT_EQ(json_of(gemma)["cache_bytes"][0]["f32"], 2 * 32 * (128 + 2 * 16) * 4) << "of keys and values";
    const std::string smollm = FREQKV_FIXTURES_DIR "/models/smollm3";
    EXPECT_THAT(output_of({"inspect", "--model", smollm}), HasSubstr("no rotation in 1 of 4 layers"));
    const std::string phi = FREQKV_FIXTURES_DIR "/models/phi3";
    EXPECT_THAT(output_of({"inspect", "--model", phi}), HasSubstr("of 12 dimensions of a head"));
    EXPECT_EQ(result["parameters"], std::stoi(parameters));
    EXPECT_EQ(result["context"], 512);
    EXPECT_EQ(result["cache_bytes"][0]["f32"], 5 * 2 * 4 * 8 * 512 * 4);
    EXPECT_EQ(result["cache_bytes"][0]["bf16"], 5 * 2 * 4 * 8 * 512 * 2);
    EXPECT_EQ(run(inspect + Arguments{"--policy", "full"}).status, 0);
    // What inspect promises is what perplexity then holds.
    EXPECT_EQ(json_of(perplexity() + Arguments{"--limit", "10"})["cache_bytes"], result["cache_bytes"][0]["f32"]);
}

TEST_F(ProgramTest, PoliciesListsAllThatCanBeAskedFor) {
    const std::string lines = "\n" + output_of({"policies"});
    const json list = json_of({"policies"})["policies"];
    std::vector<std::string> listed;
    for (const json& policy : list) {
        listed.push_back(policy["name"]);
        EXPECT_THAT(lines, HasSubstr("\n" + listed.back() + " ")) << "a line of its own";
        for (const char* const key : {"what", "source", "cost", "where"}) EXPECT_NE(policy[key], "") << listed.back();
        const std::string where = policy["where"];
        const test::Outcome outcome = run({"inspect", "--model", file("m.bin"), "--policy", listed.back()});
        EXPECT_EQ(outcome.status, where.find("processor") == std::string::npos ? 2 : 0) << outcome.err;
        const test::Outcome training = run({"finetune", "--policy", listed.back(), "--help"});
        EXPECT_EQ(training.status, where.find("training") == std::string::npos ? 2 : 0) << training.err;
    }
    EXPECT_THAT(listed, testing::IsSupersetOf({"low-pass", "local-window", "snapkv", "h2o", "full"}));
}

TEST_F(ProgramTest, PoliciesTakeNumbers) {
    const auto settings = [&](const std::string& policy) {
        return json_of(perplexity() +
                       Arguments{"--capacity", "128", "--recent", "32", "--limit", "300", "--policy", policy});
    };
    const json standard = settings("snapkv");
    EXPECT_EQ(standard["parameters"], (json{{"window", 32}, {"pool", 7}}));
    EXPECT_EQ(settings("snapkv:pool=7,window=32")["nll"], standard["nll"]);
    const json other = settings("snapkv:window=4,pool=1");
    EXPECT_EQ(other["parameters"], (json{{"window", 4}, {"pool", 1}}));
    EXPECT_NE(other["nll"], standard["nll"]);
    EXPECT_NE(settings("h2o:decay=0.9")["nll"], settings("h2o")["nll"]);
    EXPECT_NE(settings("h2o:mean=1")["nll"], settings("h2o")["nll"]);
    EXPECT_NE(settings("tiers:tiers=3")["nll"], settings("tiers")["nll"]);
    EXPECT_NE(settings("merge:reach=1")["nll"], settings("merge")["nll"]);
    for (const char* const hybrid : {"snapkv+low-pass", "h2o+low-pass", "residual+low-pass"}) {
        const std::string name = hybrid;
        EXPECT_NE(settings(name + ":share=0.2")["nll"], settings(name)["nll"]) << name;
        EXPECT_EQ(settings(name + ":share=0")["nll"], settings("residual+low-pass:share=0")["nll"])
            << name << " that keeps nothing exactly";
    }
    EXPECT_FALSE(settings("low-pass").contains("parameters"));
}

TEST_F(ProgramTest, PoliciesThatChooseAreAskedLateAndOften) {
    const auto text = [&](const Arguments& more) {
        return output_of(Arguments{"inspect", "--model", file("m.bin"), "--policy", "snapkv", "--capacity", "200"} +
                         more);
    };
    EXPECT_THAT(text({}), HasSubstr("recent 50, ratio 0.9: a compression turns 146 entries into 131"));
    EXPECT_THAT(text({"--recent", "0", "--ratio", "0.5"}), HasSubstr("a compression turns 196 entries into 98"));
}

}  // namespace
}  // namespace llama
