// SPDX-License-Identifier: MIT
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "llama/formats/open_checkpoint.hpp"
#include "llama/formats/weights_fingerprint.hpp"
#include "llama/io/format.hpp"
#include "llama/io/machine_memory.hpp"
#include "llama/io/stopwatch.hpp"
#include "llama/io/utf8.hpp"
#include "llama/model/checkpoint.hpp"
#include "llama/model/features.hpp"
#include "llama/model/thread_executor.hpp"
#include "llama/program/json_output.hpp"
#include "llama/program/open_training_data.hpp"
#include "llama/program/program.hpp"
#include "llama/program/terminal.hpp"
#include "llama/tokenizers/tokenizer.hpp"
#include "llama/training/adam_w.hpp"
#include "llama/training/batch_gradient.hpp"
#include "llama/training/layer_activations.hpp"
#include "llama/training/learning_rate.hpp"
#include "llama/training/trainable_llama.hpp"
#include "llama/training/training_output.hpp"
#include "llama/training/training_pass_maker.hpp"
#include "llama/training/training_state.hpp"

namespace llama {

namespace {

// One training, from its first or its saved step to its last.
class Training {
public:
    Training(const TrainingOptions& options, const CacheSettings& settings, TrainableLlama& model,
             const TrainingSets& data, const TrainingOutput& output, const JsonOutput& json,
             nlohmann::ordered_json made_with)
        : options_(options),
          model_(model),
          data_(data),
          output_(output),
          json_(json),
          made_with_(std::move(made_with)),
          executor_(make_executor(options.threads)),
          optimizer_(static_cast<Index>(model.trained().size()),
                     {options.beta1, options.beta2, 1e-8, options.weight_decay}),
          gradient_(static_cast<Index>(model.trained().size()), options.batch, options.length, executor_.concurrency(),
                    training_pass_maker(model, settings, options.length,
                                        recomputes(options, model.config(), executor_.concurrency()))) {}

    int run() {
        options_.resume ? restore() : output_.begin(made_with_);
        const double earlier = points().empty() ? 0 : points().back().seconds;
        const LearningRate rate{options_.learning_rate, options_.warmup, options_.steps, options_.schedule == "cosine"};
        const Stopwatch stopwatch;
        const Index first = progress_.step;
        for (Index step = first + 1; step <= options_.steps && !Interrupt::received(); ++step) {
            LossPoint point{step, points().empty() ? 0 : points().back().tokens, rate.at(step), 0, 0, 0, {}};
            try {
                point.loss = gradient_.run(*data_.training, (step - 1) * options_.batch, executor_, Interrupt::check);
            } catch (const Interrupted&) {
                break;
            }
            point.gradient_norm = gradient_.norm();
            if (!std::isfinite(point.loss) || !std::isfinite(point.gradient_norm)) refuse(point);
            const double clip = options_.clip > 0 ? std::min(1.0, options_.clip / point.gradient_norm) : 1;
            optimizer_.update(model_, gradient_.gradient(), clip, point.learning_rate, step, executor_);
            model_.refresh();
            point.tokens += gradient_.tokens();
            if (data_.validation && is_due(step, options_.validate_every)) {
                point.validation_loss = validate();
                if (!std::isfinite(*point.validation_loss)) refuse(point);
            }
            point.seconds = earlier + stopwatch.seconds();
            progress_.step = step;
            progress_.points.push_back(point);
            show(point, stopwatch.seconds() / static_cast<double>(step - first));
            if (step < options_.steps && is_due(step, options_.save_every)) save();
        }
        status_.clear();
        if (progress_.step > 0) {
            save();
            output_.draw(points());
        }
        if (progress_.step < options_.steps) {
            std::fprintf(stderr, "freqkv-llama: interrupted after step %lld; the same command with --resume goes on\n",
                         static_cast<long long>(progress_.step));
            return Interrupt::exit_status();
        }
        report();
        output_.finish();
        return 0;
    }

private:
    std::vector<LossPoint>& points() { return progress_.points; }

    // Whether the activations of all layers and of all texts in flight are too many to be kept.
    static bool recomputes(const TrainingOptions& options, const Config& config, Index threads) {
        if (!options.activations.empty()) return options.activations == "recompute";
        const double floats = static_cast<double>(LayerActivations::floats_per_token(config) * config.layers) *
                              static_cast<double>(std::min(threads, options.batch) * options.length);
        return machine_memory() > 0 && 4 * sizeof(float) * floats > static_cast<double>(machine_memory());
    }

    static bool is_due(Index step, Index every) { return every > 0 && step % every == 0; }

    std::vector<TrainingTensor> tensors() {
        return {{"trained", model_.trained()},
                {"first_moment", optimizer_.first()},
                {"second_moment", optimizer_.second()}};
    }

    void restore() {
        progress_ = output_.load(made_with_, tensors());
        saved_ = progress_.step;
        model_.refresh();
    }

    void save() {
        output_.save(model_, made_with_, progress_, tensors());
        saved_ = progress_.step;
    }

    double validate() {
        const Index count = std::min(data_.validation->examples_per_epoch(), options_.validation_texts);
        return gradient_.evaluate(*data_.validation, count, executor_);
    }

    [[noreturn]] void refuse(const LossPoint& point) {
        status_.clear();
        std::string kept = "nothing was saved";
        if (saved_ == 0) {
            output_.finish();  // the directory may be taken anew
        } else {
            output_.draw(points());
            kept = format("the state of step %lld is kept in ", static_cast<long long>(saved_)) + output_.directory();
        }
        std::string found = "step " + std::to_string(point.step) + ": the loss is " + format_number(point.loss) +
                            " and its gradient's norm " + format_number(point.gradient_norm);
        if (point.validation_loss) found += ", the validation loss " + format_number(*point.validation_loss);
        throw std::runtime_error(found + "; " + kept +
                                 "; a new training with a lower --learning-rate or --clip may help");
    }

    void show(const LossPoint& point, double seconds_per_step) {
        const auto left = static_cast<double>(options_.steps - point.step) * seconds_per_step;
        const double rate = static_cast<double>(gradient_.tokens()) / seconds_per_step;
        std::string text = format("step %lld of %lld, loss %.4f, %.0f tokens/s, ", static_cast<long long>(point.step),
                                  static_cast<long long>(options_.steps), point.loss, rate) +
                           format_duration(left) + " left";
        if (point.validation_loss) text += format(", validation loss %.4f", *point.validation_loss);
        if (status_.due()) status_.show(text);
        // Where no line can be rewritten, one now and then tells how it goes.
        const bool log = is_due(point.step, std::max<Index>(1, options_.steps / 20)) || point.validation_loss;
        if (log && !status_.on_terminal()) std::fprintf(stderr, "%s\n", text.c_str());
    }

    void report() {
        struct rusage usage{};
        ::getrusage(RUSAGE_SELF, &usage);
        const LossPoint& last = points().back();
        const auto tail = std::min<std::size_t>(points().size(), 50);
        double loss = 0;
        for (std::size_t i = points().size() - tail; i < points().size(); ++i) loss += points()[i].loss;
        loss /= static_cast<double>(tail);
        nlohmann::ordered_json object{{"out", output_.directory()},
                                      {"trained_numbers", model_.trained().size()},
                                      {"steps", last.step},
                                      {"tokens", last.tokens},
                                      {"loss", loss},
                                      {"seconds", last.seconds},
                                      {"tokens_per_second", static_cast<double>(last.tokens) / last.seconds},
                                      {"peak_memory_bytes", Index{usage.ru_maxrss} * 1024}};
        if (last.validation_loss) object["validation_loss"] = *last.validation_loss;
        json_.write(object);
        if (json_.takes_stdout()) return;
        TextOutput().write(output_.directory() +
                           format(": %lld steps, %lld tokens in ", static_cast<long long>(last.step),
                                  static_cast<long long>(last.tokens)) +
                           format_duration(last.seconds) +
                           format(", loss %.4f (mean of the last %zu steps)\n", loss, tail));
    }

    const TrainingOptions& options_;
    TrainableLlama& model_;
    const TrainingSets& data_;
    const TrainingOutput& output_;
    const JsonOutput& json_;
    nlohmann::ordered_json made_with_;
    ThreadExecutor executor_;
    AdamW optimizer_;
    BatchGradient gradient_;
    TrainingProgress progress_;
    Index saved_ = 0;  // step of the latest saved state; 0: none
    StatusLine status_{false};
};

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
    return Training(options, settings, model, data, output, json, std::move(made_with)).run();
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
    if (first_invalid_utf8(options.model)) throw UsageError("--model: the name of the directory is not UTF-8");
    if (!std::filesystem::is_directory(options.model)) {
        throw UsageError("--model " + options.model +
                         ": only a directory in Hugging Face layout can be trained further");
    }
    std::optional<Checkpoint> checkpoint = open_checkpoint(options.model);
    require_supported(checkpoint->config, checkpoint->path, "finetune", {});
    const TrainedParts parts = chosen_parts(options, checkpoint->config);
    std::unique_ptr<Tokenizer> tokenizer;
    if (options.token_file.empty()) tokenizer = open_tokenizer(options.tokenizer, *checkpoint);
    const std::optional<LoraOptions> lora =
        options.full ? std::nullopt : std::optional(LoraOptions{options.rank, options.alpha});
    TrainableLlama model(*checkpoint, lora, options.seed, parts);
    checkpoint.reset();  // all of it was copied
    const std::uint64_t weights = fingerprint(*checkpoint, make_executor(options.threads));
    nlohmann::ordered_json made_with{{"model", options.model},
                                     {"weights", format("%016llx", static_cast<unsigned long long>(weights))},
                                     {"full", options.full},
                                     {"train", parts.list()}};
    if (lora) made_with.update({{"rank", lora->rank}, {"alpha", lora->alpha}});
    return run(options, model, tokenizer.get(), {.directory = options.model}, made_with);
}

}  // namespace llama
