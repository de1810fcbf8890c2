// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "llama/program/program_fixture.hpp"
#include "llama/program/program_runs.hpp"
#include "llama/program/run_program.hpp"
#include "llama/temporary_directory.hpp"
#include "sanitized.hpp"

namespace llama {
namespace {

using nlohmann::json;
using test::Arguments;
using test::json_of;
using test::largest_difference;
using test::nll_of;
using test::Outcome;
using test::output_of;
using test::read_text;
using test::run;
using test::Surroundings;
using test::thread_counts;
using testing::HasSubstr;
using testing::StartsWith;

using freqkv::test::sanitized;

const std::string shared = FREQKV_SHARED_DIR;

class TrainedModelTest : public testing::Test {
protected:
    void SetUp() override {
        for (const std::string& needed : {model_, shared + "/models/tok512.bin", shared + "/golden/tokens.txt"}) {
            if (!std::filesystem::exists(needed)) GTEST_SKIP() << "no " << needed;
        }
    }

    Arguments generate(const std::string& threads = "1") const {
        return {"generate", "--model", model_, "--threads", threads};
    }
    Arguments perplexity(int limit, const std::string& threads = "1") const {
        const std::string ids = shared + "/golden/tokens.txt";
        const std::string tokens = std::to_string(limit);
        return {"perplexity", "--model", model_, "--token-file", ids, "--limit", tokens, "--threads", threads};
    }

    const std::string model_ = shared + "/models/stories260K.bin";
};

TEST_F(TrainedModelTest, WritesTheGreedyText) {
    EXPECT_THAT(
        output_of(generate()),
        StartsWith("Once upon a time, there was a little girl named Lily. She loved to play outside in the park. "
                   "One day, she saw a big, red ball. She wanted to play with it, but it was too high.\n"
                   "Lily's mom said, \"Lily, let's go to the park.\""));
    EXPECT_EQ(output_of(generate() + Arguments{"--prompt", "Once upon a time", "--tokens", "30"}).substr(0, 52),
              "Once upon a time, there was a little girl named Lily");
}

TEST_F(TrainedModelTest, HasTheGoldenLosses) {
    for (const std::string name :
         {"lowpass-64", "lowpass-128-recent-16", "lowpass-100-quarter", "lowpass-512", "window-64", "full"}) {
        const json golden = json::parse(read_text(shared + "/golden/" + name + ".json"));
        const std::vector<double> expected = golden["nll"];
        const Arguments bounded{"--policy",   golden["policy"] == "low_pass" ? "low-pass" : "local-window",
                                "--capacity", golden["capacity"].dump(),
                                "--sinks",    golden["sinks"].dump(),
                                "--recent",   golden["recent"].dump(),
                                "--ratio",    golden["ratio"].dump()};
        std::vector<Arguments> ways{bounded};
        if (name == "full") ways.push_back({"--policy", "full"});
        for (const Arguments& way : ways) {
            SCOPED_TRACE(name + " " + way[1]);
            const json result = json_of(perplexity(golden["tokens"]) + way);
            EXPECT_LT(largest_difference(result["nll"], expected), 2e-3);
            const double perplexity = golden["perplexity"];
            EXPECT_NEAR(result["perplexity"], perplexity, 1e-4 * perplexity);
            EXPECT_EQ(result["tokens"], golden["tokens"]);
            EXPECT_EQ(result["compressions"], golden["compressions"]);
        }
    }
}

TEST_F(TrainedModelTest, ThreadsAndChunksDoNotMatter) {
    const Arguments cache{"--capacity", "128"};
    const Arguments tokens{"--tokens", "600", "--ignore-eos"};
    const std::vector<double> whole = nll_of(perplexity(1000) + cache);
    const std::string text = output_of(generate() + tokens);
    for (const std::string& threads : thread_counts) {
        EXPECT_EQ(nll_of(perplexity(1000, threads) + cache), whole);
        EXPECT_EQ(output_of(generate(threads) + tokens), text);
    }
    for (const char* const chunk : {"1", "7", "333"}) {
        EXPECT_LT(largest_difference(nll_of(perplexity(1000) + cache + Arguments{"--prefill-chunk", chunk}), whole),
                  1e-3);
    }
}

// Bytes of memory that a process has in use.
long resident_bytes(pid_t process) {
    std::ifstream file("/proc/" + std::to_string(process) + "/smaps_rollup");
    for (std::string word; file >> word;) {
        long kibibytes = 0;
        if (word == "Rss:" && file >> kibibytes) return 1024 * kibibytes;
    }
    return -1;
}

TEST_F(TrainedModelTest, WritesLongTextsInConstantMemory) {
    if (resident_bytes(::getpid()) < 0) GTEST_SKIP() << "no /proc/PID/smaps_rollup here";
    const int tokens = sanitized ? 3000 : 20000;
    const Arguments options = generate() + Arguments{"--ignore-eos", "--capacity", "512"};
    const std::size_t start = output_of(options + Arguments{"--tokens", "600"}).size();
    std::vector<long> resident;
    Surroundings with;
    with.on_text = [&](pid_t child, const Outcome& so_far) {
        const long bytes = so_far.out.size() > start && so_far.err.empty() ? resident_bytes(child) : -1;
        if (bytes > 0) resident.push_back(bytes);
    };
    const Outcome outcome = run(options + Arguments{"--tokens", std::to_string(tokens)}, with);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_THAT(outcome.err, StartsWith(std::to_string(tokens) + " tokens"));
    EXPECT_THAT(outcome.err, HasSubstr("/512, " + std::to_string((tokens - 513) / 254 + 1) + " compressions"));
    ASSERT_GE(resident.size(), 50u) << "too few looks at the memory";
    // The most of each half of the text, for a kernel may take back pages for a while that are not in use. A sanitizer
    // holds freed memory back for a while. Otherwise, what the process touches for the first time when it ends, or the
    // kernel's own caching, is no growth.
    const auto middle = resident.begin() + static_cast<std::ptrdiff_t>(resident.size() / 2);
    const long before = *std::max_element(resident.begin(), middle);
    const long after = *std::max_element(middle, resident.end());
    EXPECT_LE(after - before, sanitized ? 256 << 20 : 64 << 10) << before << " to " << after;
}

}  // namespace
}  // namespace llama
