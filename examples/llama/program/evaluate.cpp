// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "llama/formats/head_budgets.hpp"
#include "llama/formats/weights_fingerprint.hpp"
#include "llama/io/file.hpp"
#include "llama/io/format.hpp"
#include "llama/model/checkpoint.hpp"
#include "llama/model/thread_executor.hpp"
#include "llama/program/evaluation_plan.hpp"
#include "llama/program/evaluation_results.hpp"
#include "llama/program/evaluation_run.hpp"
#include "llama/program/json_output.hpp"
#include "llama/program/open_language_model.hpp"
#include "llama/program/open_model.hpp"
#include "llama/program/partial_result.hpp"
#include "llama/program/program.hpp"
#include "llama/program/terminal.hpp"

namespace llama {

namespace {

nlohmann::ordered_json describe_run(const EvaluateOptions& options, const CacheSettings& settings,
                                    const EvaluationPlan& plan) {
    nlohmann::ordered_json object{{"model", options.model}};
    if (!options.adapter.empty()) object["adapter"] = options.adapter;
    object["tasks"] = options.tasks;
    object["lengths"] = plan.lengths();
    object["samples"] = options.samples;
    object["depths"] = options.depths;
    object["distances"] = options.distances;
    object["seed"] = options.seed;
    object["protocol"] = options.question_aware ? "question-aware" : "question-agnostic";
    object["chat_template"] = plan.chat_template();
    object["device"] = options.device;
    object["exact"] = options.exact;
    object.update(to_json(settings));
    object["prefill_chunk"] = options.prefill_chunk;
    return object;
}

std::vector<EvaluatedModels> open_workers(const EvaluateOptions& options, const Checkpoint& checkpoint,
                                          const CacheSettings& settings, const EvaluationPlan& plan) {
    const auto jobs = static_cast<int>(
        std::min(static_cast<std::size_t>(options.jobs), std::max<std::size_t>(1, plan.items().size())));
    EvaluateOptions own = options;
    const int threads = options.threads > 0 ? options.threads : static_cast<int>(make_executor(0).concurrency());
    own.threads = std::max(1, threads / jobs);
    CacheSettings full = settings;
    full.policy = PolicyName::full;
    full.parameters = {};
    full.type = CacheType::f32;
    full.sizes = {};
    full.sizes.capacity = plan.longest();
    std::vector<EvaluatedModels> workers;
    for (int j = 0; j < jobs; ++j) {
        EvaluatedModels models;
        models.model = open_language_model(checkpoint, settings, own);
        if (plan.needs_full()) models.full = open_language_model(checkpoint, full, own);
        workers.push_back(std::move(models));
    }
    return workers;
}

std::optional<PartialResult> partial_result(const EvaluateOptions& options, const nlohmann::ordered_json& run,
                                            const EvaluationPlan& plan, const Checkpoint& checkpoint) {
    if (options.out.empty() && !options.resume) return std::nullopt;
    nlohmann::ordered_json made_with = run;
    made_with["weights"] = fingerprint_digits(fingerprint(checkpoint, make_executor(options.threads)));
    made_with["texts"] = plan.fingerprint();
    const std::filesystem::path directory(options.out);
    return PartialResult((directory / "freqkv-evaluation.partial").string(), made_with);
}

}  // namespace

int evaluate(const EvaluateOptions& options) {
    check_options(options);
    check_device(options);
    if (options.device != "cpu" && options.jobs > 1) throw UsageError("--device cuda: a GPU does one job at a time");
    const Checkpoint checkpoint = open_model(options);
    const EvaluationPlan plan(options, checkpoint);
    const CacheSettings settings = resolve(options, checkpoint, plan.longest());
    const JsonOutput json(options.json);
    nlohmann::ordered_json run = describe_run(options, settings, plan);
    if (!options.out.empty()) make_directory(options.out);
    std::optional<PartialResult> partial = partial_result(options, run, plan, checkpoint);
    Interrupt::install();
    std::vector<EvaluatedModels> workers = open_workers(options, checkpoint, settings, plan);
    const std::optional<std::vector<EvaluationRow>> rows =
        run_evaluation(plan.items(), workers, partial ? &*partial : nullptr, options.resume);
    if (!rows) {
        std::fprintf(stderr, "freqkv-llama: interrupted, %s\n",
                     partial ? ("the same command with --resume goes on (" + partial->path() + ")").c_str()
                             : "nothing written; with --out DIR it could go on");
        return Interrupt::exit_status();
    }
    Index bytes = 0, beside = 0;
    for (const EvaluatedModels& models : workers) {
        bytes = std::max(bytes, models.model->cache_bytes());
        beside = std::max(beside, models.model->bookkeeping_bytes());
    }
    if (settings.grows()) {  // of what would hold the longest sample, whatever was read in this run
        CacheSizes sizes = settings.sizes;
        sizes.capacity = plan.longest();
        bytes = cache_bytes(checkpoint.config, sizes, settings.type);
        beside = Bookkeeping(checkpoint.config, settings.policy).bytes(checkpoint.config, sizes);
    }
    run["cache_bytes"] = bytes;
    run["bookkeeping_bytes"] = beside;
    if (!options.out.empty()) write_results(options.out, run, *rows);
    const std::vector<EvaluationCell> cells = cells_of(*rows, plan.has_places());
    nlohmann::ordered_json object = run;
    for (const EvaluationCell& cell : cells) object["results"].push_back(to_json(cell));
    json.write(object);
    if (partial) partial->remove();
    if (!json.takes_stdout()) {
        TextOutput().write(describe(cells) + "cache  " + format_bytes(bytes) +
                           (beside > 0 ? " and " + format_bytes(beside) + " beside it" : "") + ", " +
                           to_string(settings.policy) + ", " + to_string(settings.type) + "\n");
    }
    return 0;
}

}  // namespace llama
