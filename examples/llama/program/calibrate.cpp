// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "llama/formats/head_budgets.hpp"
#include "llama/formats/weights_fingerprint.hpp"
#include "llama/io/atomic_file.hpp"
#include "llama/io/format.hpp"
#include "llama/model/checkpoint.hpp"
#include "llama/model/thread_executor.hpp"
#include "llama/program/budgets.hpp"
#include "llama/program/discarded_energy.hpp"
#include "llama/program/json_output.hpp"
#include "llama/program/open_model.hpp"
#include "llama/program/program.hpp"
#include "llama/program/retrieval_heads.hpp"
#include "llama/program/terminal.hpp"
#include "llama/tokenizers/fingerprint.hpp"
#include "llama/tokenizers/long_text.hpp"
#include "llama/tokenizers/tokenizer.hpp"

namespace llama {

namespace {

std::vector<Token> read_calibration_text(const CalibrateOptions& options, const Checkpoint& checkpoint) {
    const std::unique_ptr<Tokenizer> tokenizer = open_tokenizer(options.tokenizer, checkpoint);
    std::vector<Token> tokens =
        read_text_files({options.text}, *tokenizer, checkpoint.config.vocabulary, options.threads).tokens;
    if (static_cast<Index>(tokens.size()) > options.limit) tokens.resize(static_cast<std::size_t>(options.limit));
    return tokens;
}

std::vector<double> measure(const CalibrateOptions& options, const Checkpoint& checkpoint,
                            const CacheSettings& settings, std::span<const Token> tokens) {
    const auto count = static_cast<Index>(tokens.size());
    const auto require_more_than = [&](Index least, const char* why) {
        if (count > least) return;
        throw FileError(options.text, "it has " + std::to_string(count) + " tokens to read, and more than " +
                                          std::to_string(least) + " are needed " + why +
                                          " (a longer text, or a larger --limit)");
    };
    switch (options.by) {
        case CalibrateBy::retrieval:
            require_more_than(RetrievalProbe(checkpoint.config).piece - 1,
                              "for a piece, of which a passage comes again");
            return measure_retrieval(checkpoint, tokens, options.prefill_chunk, options.threads);
        case CalibrateBy::energy:
            require_more_than(settings.sizes.capacity, "for a compression, the capacity");
            return measure_discarded_energy(checkpoint, settings, tokens, options.prefill_chunk, options.threads);
    }
    return {};
}

nlohmann::ordered_json describe_layers(const Config& config, const CacheSettings& settings,
                                       std::span<const double> weights) {
    nlohmann::ordered_json layers = nlohmann::ordered_json::array();
    for (Index l = 0; l < config.layers; ++l) {
        nlohmann::ordered_json layer{{"capacities", settings.sizes.head_capacities[static_cast<std::size_t>(l)]}};
        const auto heads = static_cast<std::size_t>(config.kind(l).local ? 0 : config.kv_heads);
        layer["weights"] = std::vector<double>(weights.begin(), weights.begin() + static_cast<std::ptrdiff_t>(heads));
        weights = weights.subspan(heads);
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
    check_capacity(config, settings);
    if (config.count_local_layers() == config.layers) {
        throw UsageError("no layer of the model sees the whole text, so there is nothing to share");
    }
    Interrupt::install();
    const std::vector<double> weights = measure(options, checkpoint, settings, tokens);
    if (weights.empty()) {
        std::fprintf(stderr, "freqkv-llama: interrupted, nothing written\n");
        return Interrupt::exit_status();
    }
    if (std::all_of(weights.begin(), weights.end(), [](double weight) { return weight == 0; })) {
        throw FileError(options.text, "all heads are alike in it: there is nothing to go by");
    }
    const Index entries = options.budget ? entries_within(config, {config, settings.policy, settings.sizes.weighted},
                                                          settings.type, settings.sizes.sinks, *options.budget)
                                         : count_entries(config, settings.sizes);
    share_entries(config, entries, weights, options.shared.value_or(options.by == CalibrateBy::retrieval ? 0.5 : 1),
                  trained_window(config), settings);
    nlohmann::ordered_json object{
        {"weights", fingerprint_digits(fingerprint(checkpoint, make_executor(options.threads)))},
        {"model", options.model}};
    if (!options.adapter.empty()) object["adapter"] = options.adapter;
    object.update({{"text", fingerprint_digits(fingerprint(tokens))},
                   {"tokens", tokens.size()},
                   {"by", to_string(options.by)},
                   {"policy", to_string(settings.policy)},
                   {"entries", entries},
                   {"sinks", settings.sizes.sinks},
                   {"recent", settings.sizes.recent},
                   {"ratio", settings.ratio},
                   {"layers", describe_layers(config, settings, weights)}});
    out.write(object.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");

    Index least = settings.sizes.capacity;
    for (const std::vector<Index>& layer : settings.sizes.head_capacities) {
        for (const Index capacity : layer) least = std::min(least, capacity);
    }
    TextOutput().write(options.out + format(": %lld entries in %zu heads of %lld to %lld, by %s\n",
                                            static_cast<long long>(entries), weights.size(),
                                            static_cast<long long>(least),
                                            static_cast<long long>(settings.sizes.capacity), to_string(options.by)));
    return 0;
}

}  // namespace llama
