// SPDX-License-Identifier: MIT
#pragma once

#include <map>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "llama/model/config.hpp"

namespace llama {

/// What one question, probe or stretch of a text came to.
struct EvaluationRow {
    std::string task;
    Index length = 0;   ///< tokens that the sample may have
    double place = -1;  ///< depth of what is asked for, from 0 to 1, or its distance in tokens; -1: neither
    Index sample = 0;
    Index question = 0;
    std::string prediction;
    std::vector<std::string> answers;
    std::map<std::string, double> values;  ///< "score" from 0 to 1, "loss" in nats, ...
};

/// The rows of a task that have the same length and place, and the means of their values.
struct EvaluationCell {
    struct Value {
        double mean = 0;
        double standard_error = 0;  ///< 0 for a single row
    };
    std::string task;
    Index length = 0;
    double place = -1;
    Index rows = 0;
    std::map<std::string, Value> values;
};

/// In the order in which they first appear. `by_place` false: all places together.
std::vector<EvaluationCell> cells_of(const std::vector<EvaluationRow>& rows, bool by_place);

nlohmann::ordered_json to_json(const EvaluationRow& row);
/// Throws nlohmann::json::exception for what is none.
EvaluationRow row_from_json(const nlohmann::json& json);

nlohmann::ordered_json to_json(const EvaluationCell& cell);

/// Writes predictions.csv, metrics.json and config.yaml into a directory, as KVPress lays out results, so that what
/// reads those reads these: metrics.json has for each task its score in percent. `run`: what the results depend on.
/// Throws FileError.
void write_results(const std::string& directory, const nlohmann::ordered_json& run,
                   const std::vector<EvaluationRow>& rows);

/// A table of the cells for people.
std::string describe(const std::vector<EvaluationCell>& cells);

}  // namespace llama
