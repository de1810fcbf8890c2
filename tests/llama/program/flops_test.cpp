// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "llama/program/program_fixture.hpp"
#include "llama/program/program_runs.hpp"

namespace llama {
namespace {

using nlohmann::json;
using test::json_of;
using test::output_of;
using test::ProgramTest;
using testing::HasSubstr;

TEST_F(ProgramTest, FlopsNeedNoWeights) {
    const std::string config = own_.write("config.json", R"({"architectures": ["LlamaForCausalLM"],
        "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 32, "vocab_size": 32000, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5,
        "hidden_act": "silu", "tie_word_embeddings": false})");
    for (const std::string& model : {config, own_.path()}) {
        const json result = json_of({"flops", "--model", model, "--context", "8192", "--cache-type", "f16"});
        EXPECT_NEAR(result["tflops"], 125.90, 0.125);
        EXPECT_EQ(result["compressions"], 3);
        EXPECT_EQ(result["cache_bytes"], std::int64_t{2} << 30);
    }
    const std::string table = output_of({"flops", "--model", config, "--context", "8192"});
    EXPECT_THAT(table, HasSubstr("compression"));
    EXPECT_THAT(table, HasSubstr("3 compressions in each layer"));
    const json full = json_of({"flops", "--model", config, "--context", "8192", "--policy", "full"});
    EXPECT_NEAR(full["tflops"], 143.46, 0.143);
    EXPECT_EQ(full["cache_bytes"], std::int64_t{8} << 30);
}

}  // namespace
}  // namespace llama
