// SPDX-License-Identifier: MIT
#include "llama/program/evaluation_results.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "llama/temporary_directory.hpp"

namespace llama {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

std::vector<EvaluationRow> some_rows() {
    std::vector<EvaluationRow> rows;
    for (const double depth : {0.0, 1.0}) {
        for (Index s = 0; s < 4; ++s) {
            EvaluationRow& row = rows.emplace_back(EvaluationRow{"passkey", 2048, depth, s, 0, {}, {}, {}});
            row.values["score"] = depth == 0 || s == 0 ? 1 : 0;
        }
    }
    rows.push_back({"vt", 1024, -1, 0, 2, "a \"b\",\nc", {"a", "d"}, {{"score", 0.5}, {"loss", 0.25}}});
    return rows;
}

TEST(EvaluationResults, CellsAreMeansWithTheirErrors) {
    const std::vector<EvaluationCell> cells = cells_of(some_rows(), true);
    ASSERT_EQ(cells.size(), 3u);
    EXPECT_EQ(cells[0].rows, 4);
    EXPECT_EQ(cells[0].values.at("score").mean, 1);
    EXPECT_EQ(cells[0].values.at("score").standard_error, 0);
    EXPECT_EQ(cells[1].place, 1);
    EXPECT_NEAR(cells[1].values.at("score").mean, 0.25, 1e-12);
    // Squares: 0.75^2 + 3 * 0.25^2 = 0.75; / 3 / 4
    EXPECT_NEAR(cells[1].values.at("score").standard_error, 0.25, 1e-12);
    EXPECT_EQ(cells[2].task, "vt");
    EXPECT_EQ(cells[2].values.at("loss").mean, 0.25);

    const std::vector<EvaluationCell> together = cells_of(some_rows(), false);
    ASSERT_EQ(together.size(), 2u);
    EXPECT_EQ(together[0].rows, 8);
    EXPECT_NEAR(together[0].values.at("score").mean, 5.0 / 8, 1e-12);
}

TEST(EvaluationResults, RowsComeBackFromJson) {
    for (const EvaluationRow& row : some_rows()) {
        const nlohmann::ordered_json written = to_json(row);
        EXPECT_EQ(to_json(row_from_json(nlohmann::json::parse(written.dump()))), written);
    }
    EXPECT_THROW(row_from_json(nlohmann::json::object()), nlohmann::json::exception);
}

TEST(EvaluationResults, FilesAreThoseThatOthersRead) {
    const test::TemporaryDirectory directory;
    const std::string path = directory / "results";
    std::filesystem::create_directory(path);
    write_results(path, {{"model", "a: b"}, {"lengths", {1024, 2048}}}, some_rows());
    const auto text = [&](const char* name) { return test::read_text(path + "/" + name); };
    EXPECT_EQ(text("config.yaml"), "model: \"a: b\"\nlengths: [1024,2048]\n");
    EXPECT_THAT(text("predictions.csv"),
                StartsWith("task,length,place,sample,question,predicted_answer,answer,loss,score\n"
                           "passkey,2048,0,0,0,,,,1\n"));
    EXPECT_THAT(text("predictions.csv"),
                HasSubstr("vt,1024,,0,2,\"a \"\"b\"\",\nc\",\"[\"\"a\"\",\"\"d\"\"]\",0.25,0.5\n"));
    const nlohmann::json metrics = nlohmann::json::parse(text("metrics.json"));
    EXPECT_EQ(metrics["passkey"]["string_match"], 62.5);
    EXPECT_EQ(metrics["vt"]["string_match"], 50);
    EXPECT_EQ(metrics["vt"]["loss"], 0.25);
}

}  // namespace
}  // namespace llama
