// SPDX-License-Identifier: MIT
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <nlohmann/json.hpp>

#include "llama/formats/hugging_face_layout.hpp"
#include "llama/formats/open_checkpoint.hpp"
#include "llama/formats/weights_fingerprint.hpp"
#include "llama/io/format.hpp"
#include "llama/io/utf8.hpp"
#include "llama/model/checkpoint.hpp"
#include "llama/model/features.hpp"
#include "llama/model/thread_executor.hpp"
#include "llama/program/json_output.hpp"
#include "llama/program/open_training_data.hpp"
#include "llama/program/program.hpp"
#include "llama/program/terminal.hpp"
#include "llama/program/training_run.hpp"
#include "llama/tokenizers/tokenizer.hpp"
#include "llama/training/trainable_llama.hpp"
#include "llama/training/trained_parts.hpp"
#include "llama/training/training_output.hpp"

namespace llama {

namespace {

// Everything that the result depends on but the model.
nlohmann::ordered_json describe(const TrainingOptions& options, const CacheSettings& settings,
                                const TrainingSets& data) {
    nlohmann::ordered_json made_with;
    made_with["policy"] = to_string(settings.policy);
    if (!settings.grows()) {
        made_with["capacity"] = settings.sizes.capacity;
        made_with["sinks"] = settings.sizes.sinks;
        made_with["recent"] = settings.sizes.recent;
        made_with["ratio"] = settings.ratio;
    }
    made_with.update({{"length", options.length},
                      {"batch", options.batch},
                      {"steps", options.steps},
                      {"learning-rate", options.learning_rate},
                      {"schedule", options.schedule},
                      {"warmup", options.warmup},
                      {"beta1", options.beta1},
                      {"beta2", options.beta2},
                      {"weight-decay", options.weight_decay},
                      {"clip", options.clip},
                      {"seed", options.seed},
                      {"type", options.type}});
    made_with["data"] = format("%016llx", static_cast<unsigned long long>(data.training->fingerprint()));
    return made_with;
}

// Of a training that another run has brought to its end.
int report_finished(const TrainingOptions& options, const TrainingOutput& output, const JsonOutput& json) {
    json.write({{"out", output.directory()}, {"steps", options.steps}});
    if (!json.takes_stdout()) {
        TextOutput().write(output.directory() +
                           format(": finished before, %lld steps\n", static_cast<long long>(options.steps)));
    }
    return 0;
}

int run(const TrainingOptions& given, TrainableLlama& model, const Tokenizer* tokenizer, const ModelSource& source,
        nlohmann::ordered_json made_with) {
    TrainingOptions options = given;
    if (options.length == 0) options.length = model.config().context;
    const TrainingOutput output(options.out, options.type == "f32" ? WeightType::f32 : WeightType::bf16, source,
                                options.resume);
    const JsonOutput json(options.json);  // may be in the output's directory
    const TrainingSets data = open_training_sets(options, model.config(), tokenizer);
    const CacheSettings settings = resolve(options, model.config(), options.length);
    check_capacity(model.config(), settings);
    made_with.update(describe(options, settings, data));
    if (output.is_finished(made_with)) return report_finished(options, output, json);
    Interrupt::install();
    return run_training(options, settings, model, data, output, json, std::move(made_with));
}

void check(const TrainingOptions& options) {
    check_options(options);
    if (options.texts.empty() && options.token_file.empty() && options.instructions.empty()) {
        throw UsageError("give --text, --token-file or --instructions to train on");
    }
    if (options.learning_rate <= 0) throw UsageError("--learning-rate must be above 0");
}

TrainedParts chosen_parts(const FinetuneOptions& options, const Config& config) {
    if (options.parts.empty()) return options.full ? TrainedParts::all() : TrainedParts::of_adapter();
    const TrainedParts parts(options.parts);
    if (!options.full && !parts.contain_a_projection()) {
        throw UsageError("--train: an adapter needs one of q, k, v, o, gate, up and down; --full trains others alone");
    }
    if (parts.contain("classifier") && config.shared_classifier) {
        throw UsageError("--train classifier: this model's is its embedding; --train embedding trains both");
    }
    return parts;
}

}  // namespace

int train(const TrainOptions& options) {
    check(options);
    const std::unique_ptr<Tokenizer> tokenizer = open_tokenizer(options.tokenizer);
    Config config;
    config.dim = options.dim;
    config.hidden = options.hidden;
    config.layers = options.layers;
    config.heads = options.heads;
    config.kv_heads = options.kv_heads;
    if (config.dim % (2 * config.heads) != 0) {
        throw UsageError("--dim " + std::to_string(config.dim) + " must be a multiple of 2 --heads, which is " +
                         std::to_string(2 * config.heads));
    }
    config.head_dim = config.dim / config.heads;
    config.vocabulary = tokenizer->vocabulary();
    config.context = options.window;
    config.shared_classifier = options.shared_classifier;
    config.rope_base = options.rope_base;
    config.rope_pairing = freqkv::RopePairing::half_split;
    config.begin_of_text = tokenizer->begin_of_text();
    config.end_of_text = tokenizer->end_of_text();
    if (config.heads % config.kv_heads != 0) {
        throw UsageError("--kv-heads " + std::to_string(config.kv_heads) + " must divide --heads, which is " +
                         std::to_string(config.heads));
    }
    check_config(config, "the new model");
    TrainableLlama model(config, options.seed);
    return run(options, model, tokenizer.get(), {.tokenizer = options.tokenizer},
               {{"window", config.context},
                {"dim", config.dim},
                {"layers", config.layers},
                {"heads", config.heads},
                {"kv-heads", config.kv_heads},
                {"hidden", config.hidden},
                {"rope-base", config.rope_base},
                {"tie", config.shared_classifier}});
}

int finetune(const FinetuneOptions& options) {
    check(options);
    // An adapter's configuration, which is JSON, names it.
    if (first_invalid_utf8(options.model)) throw UsageError("--model: the name is not UTF-8");
    if (options.full && !std::filesystem::is_directory(options.model)) {
        throw UsageError(
            "--full: a whole model is written with the config.json and the tokenizer of a directory of "
            "Hugging Face, which " +
            options.model + " is not; without --full it gets an adapter");
    }
    std::optional<Checkpoint> checkpoint = open_checkpoint(options.model);
    arrange_as_hugging_face(*checkpoint);
    require_supported(checkpoint->config, checkpoint->path, "finetune", {});
    const TrainedParts parts = chosen_parts(options, checkpoint->config);
    std::unique_ptr<Tokenizer> tokenizer;
    if (options.token_file.empty()) tokenizer = open_tokenizer(options.tokenizer, *checkpoint);
    const std::optional<LoraOptions> lora =
        options.full ? std::nullopt : std::optional(LoraOptions{options.rank, options.alpha});
    const std::uint64_t weights = fingerprint(*checkpoint, make_executor(options.threads));
    TrainableLlama model(*checkpoint, lora, options.seed, parts);
    checkpoint.reset();  // all of it was copied
    nlohmann::ordered_json made_with{{"model", options.model},
                                     {"weights", format("%016llx", static_cast<unsigned long long>(weights))},
                                     {"full", options.full},
                                     {"train", parts.list()}};
    if (lora) made_with.update({{"rank", lora->rank}, {"alpha", lora->alpha}});
    return run(options, model, tokenizer.get(), {.directory = options.model}, made_with);
}

}  // namespace llama
