// SPDX-License-Identifier: MIT
#include "llama/program/training_run.hpp"

#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "llama/io/format.hpp"
#include "llama/io/machine_memory.hpp"
#include "llama/io/stopwatch.hpp"
#include "llama/model/thread_executor.hpp"
#include "llama/program/terminal.hpp"
#include "llama/training/adam_w.hpp"
#include "llama/training/batch_gradient.hpp"
#include "llama/training/layer_activations.hpp"
#include "llama/training/learning_rate.hpp"
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

}  // namespace

int run_training(const TrainingOptions& options, const CacheSettings& settings, TrainableLlama& model,
                 const TrainingSets& data, const TrainingOutput& output, const JsonOutput& json,
                 nlohmann::ordered_json made_with) {
    return Training(options, settings, model, data, output, json, std::move(made_with)).run();
}

}  // namespace llama
