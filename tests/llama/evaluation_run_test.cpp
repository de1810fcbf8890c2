// SPDX-License-Identifier: MIT
#include "llama/program/evaluation_run.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "llama/temporary_directory.hpp"

namespace llama {
namespace {

// Items that count how often they run, of which that at `failing` throws.
std::vector<EvaluationItem> counted_items(std::atomic<int>& runs, int failing = -1) {
    std::vector<EvaluationItem> items;
    for (int i = 0; i < 20; ++i) {
        items.push_back({"t", 10, [&runs, i, failing](EvaluatedModels&) {
                             if (i == failing) throw std::runtime_error("no such luck");
                             ++runs;
                             return std::vector<EvaluationRow>(static_cast<std::size_t>(i % 3),
                                                               {"t", 10, -1, i, 0, std::to_string(i), {}, {}});
                         }});
    }
    return items;
}

TEST(EvaluationRun, RowsAreInTheOrderOfItemsForAnyNumberOfWorkers) {
    for (const std::size_t count : {1u, 2u, 5u, 40u}) {
        std::atomic<int> runs = 0;
        std::vector<EvaluatedModels> workers(count);
        const auto rows = run_evaluation(counted_items(runs), workers, nullptr, false);
        ASSERT_TRUE(rows);
        EXPECT_EQ(runs, 20);
        ASSERT_EQ(rows->size(), 19u);
        for (std::size_t r = 1; r < rows->size(); ++r) EXPECT_LE((*rows)[r - 1].sample, (*rows)[r].sample);
    }
}

TEST(EvaluationRun, GoesOnWithWhatWasDone) {
    const test::TemporaryDirectory directory;
    PartialResult partial(directory / "partial", {{"seed", 1}});
    std::vector<EvaluatedModels> workers(1);
    std::atomic<int> runs = 0;
    EXPECT_THROW(run_evaluation(counted_items(runs, 12), workers, &partial, false), std::runtime_error);
    EXPECT_EQ(runs, 12);
    ASSERT_TRUE(std::filesystem::exists(partial.path()));
    runs = 0;
    const auto resumed = run_evaluation(counted_items(runs), workers, &partial, true);
    EXPECT_EQ(runs, 8);
    const auto whole = run_evaluation(counted_items(runs), workers, nullptr, false);
    ASSERT_TRUE(resumed && whole);
    ASSERT_EQ(resumed->size(), whole->size());
    for (std::size_t r = 0; r < whole->size(); ++r) EXPECT_EQ(to_json((*resumed)[r]), to_json((*whole)[r]));
}

TEST(EvaluationRun, RefusesDamagedPartialResults) {
    const test::TemporaryDirectory directory;
    PartialResult partial(directory / "partial", {{"seed", 1}});
    std::vector<EvaluatedModels> workers(1);
    std::atomic<int> runs = 0;
    for (const nlohmann::ordered_json& state :
         {nlohmann::ordered_json{1}, {{99, nlohmann::json::array()}}, {{0, {1}}}}) {
        partial.save(state);
        EXPECT_THROW(run_evaluation(counted_items(runs), workers, &partial, true), std::runtime_error) << state;
    }
    EXPECT_EQ(runs, 0);
}

}  // namespace
}  // namespace llama
