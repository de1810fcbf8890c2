// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "freqkv/energy.hpp"
#include "llama/formats/head_budgets.hpp"
#include "llama/formats/weights_fingerprint.hpp"
#include "llama/io/atomic_file.hpp"
#include "llama/io/format.hpp"
#include "llama/io/stopwatch.hpp"
#include "llama/model/checkpoint.hpp"
#include "llama/model/language_model.hpp"
#include "llama/model/thread_executor.hpp"
#include "llama/program/budgets.hpp"
#include "llama/program/cache_totals.hpp"
#include "llama/program/host_models.hpp"
#include "llama/program/json_output.hpp"
#include "llama/program/open_model.hpp"
#include "llama/program/program.hpp"
#include "llama/program/terminal.hpp"
#include "llama/tokenizers/fingerprint.hpp"
#include "llama/tokenizers/long_text.hpp"
#include "llama/tokenizers/tokenizer.hpp"

namespace llama {

namespace {

// What compressions discarded of each head's keys and values.
class Losses {
public:
    explicit Losses(const Config& config)
        : heads_(config.kv_heads),
          keys_(static_cast<std::size_t>(config.layers * config.kv_heads)),
          values_(keys_.size()) {}

    freqkv::Observer observer() {
        return {[](void* context, const freqkv::CompressionReport& report) {
                    auto* const losses = static_cast<Losses*>(context);
                    losses->keys_[losses->place(report.layer, report.head)] += report.keys;
                    losses->values_[losses->place(report.layer, report.head)] += report.values;
                },
                this};
    }

    double keys(Index layer, Index head) const { return keys_[place(layer, head)].relative(); }
    double values(Index layer, Index head) const { return values_[place(layer, head)].relative(); }

private:
    std::size_t place(Index layer, Index head) const { return static_cast<std::size_t>(layer * heads_ + head); }

    Index heads_;
    std::vector<freqkv::Energy> keys_, values_;  // [layers, kv_heads]
};

std::vector<Token> read_calibration_text(const CalibrateOptions& options, const Checkpoint& checkpoint) {
    const std::unique_ptr<Tokenizer> tokenizer = open_tokenizer(options.tokenizer, checkpoint);
    std::vector<Token> tokens =
        read_text_files({options.text}, *tokenizer, checkpoint.config.vocabulary, options.threads).tokens;
    if (static_cast<Index>(tokens.size()) > options.limit) tokens.resize(static_cast<std::size_t>(options.limit));
    return tokens;
}

// False if it was interrupted.
bool feed(LanguageModel& model, std::span<const Token> tokens, Index chunk) {
    const Stopwatch stopwatch;
    StatusLine status(false);
    const std::size_t all = tokens.size();
    while (!tokens.empty()) {
        if (Interrupt::received()) return false;
        const std::size_t count = std::min(static_cast<std::size_t>(chunk), tokens.size());
        model.forward(tokens.first(count));
        tokens = tokens.subspan(count);
        if (!status.due()) continue;
        const double left =
            stopwatch.seconds() * static_cast<double>(tokens.size()) / static_cast<double>(all - tokens.size());
        status.show(format("%zu of %zu tokens read, %s left", all - tokens.size(), all, format_duration(left).c_str()));
    }
    return !Interrupt::received();
}

nlohmann::ordered_json describe_layers(const Config& config, const CacheSettings& settings, const Losses& losses) {
    nlohmann::ordered_json layers = nlohmann::ordered_json::array();
    for (Index l = 0; l < config.layers; ++l) {
        nlohmann::ordered_json layer{{"capacities", settings.sizes.head_capacities[static_cast<std::size_t>(l)]}};
        for (Index h = 0; h < config.kv_heads && !config.kind(l).local; ++h) {
            layer["discarded_of_keys"].push_back(losses.keys(l, h));
            layer["discarded_of_values"].push_back(losses.values(l, h));
        }
        layers.push_back(std::move(layer));
    }
    return layers;
}

}  // namespace

int calibrate(const CalibrateOptions& options) {
    check_options(options);
    if (traits_of(options.policy).grows) {
        throw UsageError("--policy full: nothing is compressed, so there is nothing to go by");
    }
    const Checkpoint checkpoint = open_model(options);
    const Config& config = checkpoint.config;
    CacheSettings settings = resolve(options, config, options.limit);
    const AtomicFile out(options.out);
    const std::vector<Token> tokens = read_calibration_text(options, checkpoint);
    if (static_cast<Index>(tokens.size()) <= settings.sizes.capacity) {
        throw FileError(options.text, "it has " + std::to_string(tokens.size()) +
                                          " tokens to read, and more than the capacity of " +
                                          std::to_string(settings.sizes.capacity) +
                                          " are needed for a compression (a longer text, or a larger --limit)");
    }
    check_capacity(config, settings);
    Interrupt::install();
    Losses losses(config);
    const std::unique_ptr<LanguageModel> model =
        make_host_model(checkpoint, settings, options.threads, Arithmetic::exact, losses.observer());
    if (!feed(*model, tokens, options.prefill_chunk)) {
        std::fprintf(stderr, "freqkv-llama: interrupted, nothing written\n");
        return Interrupt::exit_status();
    }
    const Index compressions = CacheTotals(*model).compressions;

    std::vector<double> weights;
    for (Index l = 0; l < config.layers; ++l) {
        for (Index h = 0; h < config.kv_heads && !config.kind(l).local; ++h) {
            weights.push_back(losses.keys(l, h) + losses.values(l, h));
        }
    }
    if (weights.empty()) throw UsageError("no layer of the model sees the whole text, so there is nothing to share");
    if (std::all_of(weights.begin(), weights.end(), [](double weight) { return weight == 0; })) {
        throw FileError(options.text, "compressions discarded nothing of it, so there is nothing to go by");
    }
    const Index entries = options.budget ? entries_within(config, {config, settings.policy, settings.sizes.weighted},
                                                          settings.type, *options.budget)
                                         : count_entries(config, settings.sizes);
    share_entries(config, entries, weights, settings);
    nlohmann::ordered_json object{
        {"weights", fingerprint_digits(fingerprint(checkpoint, make_executor(options.threads)))},
        {"model", options.model}};
    if (!options.adapter.empty()) object["adapter"] = options.adapter;
    object.update({{"text", fingerprint_digits(fingerprint(tokens))},
                   {"tokens", tokens.size()},
                   {"compressions", compressions},
                   {"policy", to_string(settings.policy)},
                   {"entries", entries},
                   {"sinks", settings.sizes.sinks},
                   {"recent", settings.sizes.recent},
                   {"ratio", settings.ratio},
                   {"layers", describe_layers(config, settings, losses)}});
    out.write(object.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");

    Index least = settings.sizes.capacity;
    for (const std::vector<Index>& layer : settings.sizes.head_capacities) {
        for (const Index capacity : layer) least = std::min(least, capacity);
    }
    TextOutput().write(options.out +
                       format(": %lld entries in %zu heads of %lld to %lld, from %lld compressions\n",
                              static_cast<long long>(entries), weights.size(), static_cast<long long>(least),
                              static_cast<long long>(settings.sizes.capacity), static_cast<long long>(compressions)));
    return 0;
}

}  // namespace llama
