// SPDX-License-Identifier: MIT
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>
#include <vector>

#include "llama/model/random.hpp"
#include "llama/program/program_runs.hpp"
#include "llama/program/run_program.hpp"
#include "llama/temporary_directory.hpp"

// freqkv-llama as a user runs it: its arguments, output, messages and exit status.
namespace llama::test {

// To be compared with one thread.
#if defined(_OPENMP)
inline const Arguments thread_counts{"2", "3"};
#else
inline const Arguments thread_counts{};  // the program has no others
#endif

inline nlohmann::json json_of(const Arguments& arguments) {
    const std::string text = output_of(arguments + Arguments{"--json", "-"});
    return nlohmann::json::accept(text) ? nlohmann::json::parse(text) : nlohmann::json{};
}

inline std::vector<double> nll_of(const Arguments& arguments) { return json_of(arguments).at("nll"); }

inline double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
    EXPECT_EQ(a.size(), b.size());
    double largest = a.size() == b.size() ? 0 : INFINITY;
    for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) largest = std::max(largest, std::abs(a[i] - b[i]));
    return largest;
}

inline double mean(const std::vector<double>& values, std::size_t last = SIZE_MAX) {
    const auto count = static_cast<std::ptrdiff_t>(std::min(last, values.size()));
    return std::accumulate(values.end() - count, values.end(), 0.0) / static_cast<double>(count);
}

// A model of random weights, its tokenizer, and token ids.
class ProgramTest : public testing::Test {
protected:
    static void SetUpTestSuite() {
        files_ = std::make_unique<TemporaryDirectory>();
        const Outcome made =
            run_program({FREQKV_MAKE_RANDOM_CHECKPOINT, *files_ / "m.bin", *files_ / "m.tokenizer.bin"});
        ASSERT_EQ(made.status, 0) << made.err;
        Random random(3);
        std::string ids;
        for (int i = 0; i < 1000; ++i) ids += std::to_string(random.next() % 512) + (i % 20 == 19 ? "\n" : " ");
        files_->write("ids.txt", ids);
    }
    static void TearDownTestSuite() { files_.reset(); }

    static std::string file(const std::string& name) { return *files_ / name; }
    // One thread, unless a test is about threads: other work on the machine then costs little time.
    static Arguments generate(const std::string& threads = "1") {
        return {"generate", "--model", file("m.bin"), "--ignore-eos", "--threads", threads};
    }
    static Arguments perplexity(const std::string& threads = "1") {
        return {"perplexity", "--model", file("m.bin"), "--token-file", file("ids.txt"), "--threads", threads};
    }

    inline static std::unique_ptr<TemporaryDirectory> files_;
    TemporaryDirectory own_;
};

}  // namespace llama::test
