// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "llama/program/program_fixture.hpp"
#include "llama/program/program_runs.hpp"

namespace llama {
namespace {

using test::Arguments;
using test::expect_refusal;
using test::largest_difference;
using test::nll_of;
using test::ProgramTest;
using test::run;

TEST_F(ProgramTest, MergedModelsAreTheModelWithItsAdapter) {
    const std::string models = FREQKV_FIXTURES_DIR "/models/";
    const std::string ids = own_.write("ids.txt", "1 7 3 22 14 9 30 2 11 5 6 40 8 17 33 21");
    const auto nll = [&](const Arguments& model) {
        return nll_of(Arguments{"perplexity", "--token-file", ids, "--threads", "1", "--model"} + model);
    };
    const Arguments adapter{"--adapter", models + "adapter-lora"};
    const std::vector<double> adapted = nll(Arguments{models + "llama-mha"} + adapter);
    EXPECT_GT(largest_difference(adapted, nll({models + "llama-mha"})), 1e-2) << "the adapter does nothing";
    const Arguments merge = Arguments{"merge", "--model", models + "llama-mha"} + adapter + Arguments{"--out"};
    EXPECT_EQ(run(merge + Arguments{own_ / "exact"}).status, 0);
    EXPECT_EQ(nll({own_ / "exact"}), adapted);
    EXPECT_EQ(run(merge + Arguments{own_ / "rounded", "--type", "bf16"}).status, 0);
    EXPECT_LT(largest_difference(nll({own_ / "rounded"}), adapted), 0.3);
    EXPECT_NE(nll({own_ / "rounded"}), adapted);
    expect_refusal(run(merge + Arguments{own_ / "exact"}), 1, {own_ / "exact", "empty directory"});
    expect_refusal(run({"perplexity", "--token-file", ids, "--model", models + "gguf-f32.gguf", "--adapter",
                        models + "adapter-lora"}),
                   1, {"adapter_model.safetensors", "for weights of [16, 32]"});
}

}  // namespace
}  // namespace llama
