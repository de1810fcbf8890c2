// SPDX-License-Identifier: MIT
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "llama/evaluation/read_samples.hpp"
#include "llama/evaluation/synthetic_tasks.hpp"
#include "llama/model/checkpoint.hpp"
#include "llama/program/evaluation_run.hpp"
#include "llama/program/program.hpp"

namespace llama {

/// What an evaluation has to do: the samples of its tasks, lengths and places, in an order that depends on the options
/// alone.
class EvaluationPlan {
public:
    /// Options and checkpoint must outlive it. Throws UsageError for tasks that are none and options that do not go
    /// together, FileError for texts and samples that cannot be read.
    EvaluationPlan(const EvaluateOptions& options, const Checkpoint& checkpoint);
    ~EvaluationPlan();

    /// Valid as long as the plan.
    const std::vector<EvaluationItem>& items() const { return items_; }
    const std::vector<Index>& lengths() const { return lengths_; }
    /// Most tokens that are read and written at once.
    Index longest() const { return longest_; }
    /// Whether something is compared with a full cache.
    bool needs_full() const { return needs_full_; }
    /// Whether a task has results for each of several places.
    bool has_places() const { return has_places_; }
    /// The family of the conversation, or "none".
    const std::string& chat_template() const { return chat_template_; }
    /// Of all that is read beside the model.
    std::string fingerprint() const;

    /// "passkey, needle, ..."
    static std::string task_names();

private:
    struct Materials;

    void add_synthetic(SyntheticTask task);
    void add_passage();
    void add_pairs(bool forgetting);
    void add_divergence();
    void add_file(const std::string& path);
    void add_file(const std::string& path, const std::shared_ptr<const TaskFile>& file);
    void add(std::string task, Index tokens, std::function<std::vector<EvaluationRow>(EvaluatedModels&)> run);

    const EvaluateOptions& options_;
    std::unique_ptr<Materials> materials_;
    std::vector<EvaluationItem> items_;
    std::vector<Index> lengths_;
    std::string chat_template_;
    Index longest_ = 0;
    bool needs_full_ = false;
    bool has_places_ = false;
};

}  // namespace llama
