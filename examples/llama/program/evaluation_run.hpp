// SPDX-License-Identifier: MIT
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "llama/model/language_model.hpp"
#include "llama/program/evaluation_results.hpp"
#include "llama/program/partial_result.hpp"

namespace llama {

/// The models that one of the workers of an evaluation has.
struct EvaluatedModels {
    std::unique_ptr<LanguageModel> model;
    std::unique_ptr<LanguageModel> full;  ///< with a cache that keeps everything; null if nothing is compared with it
};

/// What can be done by itself, whatever has been done before.
struct EvaluationItem {
    std::string task;
    Index tokens = 0;  ///< about as many are to be read
    std::function<std::vector<EvaluationRow>(EvaluatedModels& models)> run;
};

/// The rows of all items in their order, whatever the number of workers and however often the work was interrupted;
/// none if it was interrupted now. `partial`, if there is one, has what was done so far, and gets more of it.
std::optional<std::vector<EvaluationRow>> run_evaluation(const std::vector<EvaluationItem>& items,
                                                         std::vector<EvaluatedModels>& workers, PartialResult* partial,
                                                         bool resume);

}  // namespace llama
