// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <numeric>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "llama/formats/weights_fingerprint.hpp"
#include "llama/io/format.hpp"
#include "llama/io/stopwatch.hpp"
#include "llama/model/checkpoint.hpp"
#include "llama/model/language_model.hpp"
#include "llama/model/loss.hpp"
#include "llama/model/thread_executor.hpp"
#include "llama/program/cache_totals.hpp"
#include "llama/program/json_output.hpp"
#include "llama/program/loss_digits.hpp"
#include "llama/program/open_language_model.hpp"
#include "llama/program/open_model.hpp"
#include "llama/program/partial_result.hpp"
#include "llama/program/position_buckets.hpp"
#include "llama/program/program.hpp"
#include "llama/program/terminal.hpp"
#include "llama/tokenizers/fingerprint.hpp"
#include "llama/tokenizers/long_text.hpp"
#include "llama/tokenizers/token_file.hpp"
#include "llama/tokenizers/tokenizer.hpp"

namespace llama {

namespace {

double mean(std::span<const double> values) {
    return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

// Of the mean of at least 2 values that are independent.
double standard_error(std::span<const double> values) {
    const double center = mean(values);
    double squares = 0;
    for (const double value : values) squares += (value - center) * (value - center);
    const auto count = static_cast<double>(values.size());
    return std::sqrt(squares / (count - 1) / count);
}

std::vector<Token> read_text(const PerplexityOptions& options, const Checkpoint& checkpoint) {
    const bool from_ids = !options.token_file.empty();
    const std::string& path = from_ids ? options.token_file : options.text;
    std::vector<Token> tokens;
    if (from_ids) {
        tokens = read_tokens(path, options.token_format, checkpoint.config.vocabulary, options.limit);
    } else {
        const std::unique_ptr<Tokenizer> tokenizer = open_tokenizer(options.tokenizer, checkpoint);
        tokens = read_text_files({path}, *tokenizer, checkpoint.config.vocabulary, options.threads).tokens;
        if (options.limit > 0 && options.limit < static_cast<Index>(tokens.size())) {
            tokens.resize(static_cast<std::size_t>(options.limit));
        }
    }
    const std::size_t skipped = std::min(tokens.size(), static_cast<std::size_t>(options.skip));
    tokens.erase(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(skipped));
    if (tokens.size() < 2) {
        throw FileError(path, "a perplexity needs at least 2 tokens, there are " + std::to_string(tokens.size()) +
                                  (options.skip > 0 ? " behind those of --skip" : ""));
    }
    return tokens;
}

// How many windows there are: every start 0, stride, 2 stride, ... below tokens - window, without the last.
Index count_windows(const PerplexityOptions& options, Index tokens) {
    const Index starts = tokens <= options.window ? 0 : (tokens - options.window - 1) / options.stride + 1;
    if (starts < 2) {
        throw std::runtime_error("--window " + std::to_string(options.window) + " --stride " +
                                 std::to_string(options.stride) + ": " + std::to_string(tokens) +
                                 " tokens have no such window (the last one is left out); more than " +
                                 std::to_string(options.window + options.stride) + " are needed");
    }
    return starts - 1;
}

// Targets that count in each window.
Index scored_targets(const PerplexityOptions& options) {
    return options.score_last > 0 ? options.score_last : options.window - 1;
}

// The line that is shown meanwhile.
class ProgressBar {
public:
    // `known` of the `tokens` were fed by an earlier run.
    ProgressBar(Index tokens, Index known) : tokens_(tokens), known_(known) {}

    void update(Index fed, double loss) {
        if (!status_.due()) return;
        const auto part = [](Index a, Index b) { return static_cast<double>(a) / static_cast<double>(b); };
        const double all = part(fed, tokens_);
        const double passed = stopwatch_.seconds();
        const double left = passed * part(tokens_ - fed, std::max<Index>(1, fed - known_));
        constexpr std::size_t width = 30;
        const auto filled = static_cast<std::size_t>(all * width);
        status_.show(
            "[" + std::string(filled, '#') + std::string(width - filled, '.') +
            format("] %3.0f %%, %s left, perplexity %.4f", 100 * all, format_duration(left).c_str(), std::exp(loss)));
    }

private:
    Index tokens_, known_;
    Stopwatch stopwatch_;
    StatusLine status_{false};
};

struct Result {
    std::vector<double> nll;  // of each target, or the mean of each window
    PositionBuckets buckets;  // of windows
    Index compressions = 0;   // of each head, or of that with the most
    double seconds = 0;
    bool interrupted = false;
};

nlohmann::ordered_json to_json(const PositionBuckets& buckets) {
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    for (const PositionBuckets::Bucket& bucket : buckets.buckets()) list.push_back({bucket.targets, bucket.loss});
    return list;
}

nlohmann::ordered_json to_json(const Result& result) {
    return {{"nll", to_digits(result.nll)},
            {"buckets", to_json(result.buckets)},
            {"compressions", result.compressions},
            {"seconds", result.seconds}};
}

Result from_json(const nlohmann::json& state, std::size_t most, const std::string& path) {
    try {
        Result result;
        result.nll = from_digits(state.at("nll").get_ref<const std::string&>());
        std::vector<PositionBuckets::Bucket> buckets;
        for (const auto& [targets, loss] : state.at("buckets").get<std::vector<std::pair<Index, double>>>()) {
            buckets.push_back({targets, loss});
        }
        result.buckets = PositionBuckets(std::move(buckets));
        result.compressions = state.at("compressions");
        result.seconds = state.at("seconds");
        if (result.nll.size() > most) throw std::runtime_error("more losses than the text has");
        return result;
    } catch (const std::exception& error) {
        throw FileError(path, std::string("no partial result: ") + error.what());
    }
}

// Measures a text, or goes on with what was measured.
class Measurement {
public:
    Measurement(LanguageModel& model, const PerplexityOptions& options, std::span<const Token> tokens,
                PartialResult* partial)
        : model_(model),
          executor_(make_executor(options.threads)),
          options_(options),
          tokens_(tokens),
          partial_(partial) {}

    void one_sequence(Result& result) {
        start(result);
        ProgressBar bar(static_cast<Index>(tokens_.size()), 0);
        result.interrupted = !append_losses(
            model_, tokens_, options_.prefill_chunk, result.nll,
            [&](Index fed) {
                bar.update(fed, mean(result.nll));
                save(result, false);
                return !Interrupt::received();
            },
            executor_);
        save(result, result.interrupted);
    }

    void windows(Result& result, Index count) {
        start(result);
        const auto done = static_cast<Index>(result.nll.size());
        const Index scored = scored_targets(options_);
        ProgressBar bar(count * options_.window, done * options_.window);
        std::vector<double> losses;
        for (Index w = done; w < count; ++w) {
            model_.clear();
            losses.clear();
            const auto window = tokens_.subspan(static_cast<std::size_t>(w * options_.stride),
                                                static_cast<std::size_t>(options_.window));
            result.interrupted = !append_losses(
                model_, window, options_.prefill_chunk, losses,
                [&](Index fed) {
                    bar.update(w * options_.window + fed, mean(result.nll.empty() ? losses : result.nll));
                    return !Interrupt::received();
                },
                executor_);
            if (result.interrupted) break;
            result.nll.push_back(mean(std::span<const double>(losses).last(static_cast<std::size_t>(scored))));
            for (std::size_t i = 0; i < losses.size(); ++i) result.buckets.add(static_cast<Index>(i) + 1, losses[i]);
            save(result, false);
        }
        save(result, result.interrupted);
    }

private:
    void start(const Result& result) {
        stopwatch_ = Stopwatch();
        earlier_seconds_ = result.seconds;
        earlier_compressions_ = result.compressions;
    }

    void save(Result& result, bool now) {
        result.seconds = earlier_seconds_ + stopwatch_.seconds();
        result.compressions = std::max(earlier_compressions_, CacheTotals(model_).compressions);
        if (partial_ == nullptr) return;
        now ? partial_->save(to_json(result)) : partial_->save_sometimes([&] { return to_json(result); });
    }

    LanguageModel& model_;
    ThreadExecutor executor_;
    const PerplexityOptions& options_;
    std::span<const Token> tokens_;
    PartialResult* partial_;  // null: nothing is saved
    Stopwatch stopwatch_;
    double earlier_seconds_ = 0;
    Index earlier_compressions_ = 0;
};

nlohmann::ordered_json describe_run(const PerplexityOptions& options, const CacheSettings& settings,
                                    std::span<const Token> tokens) {
    nlohmann::ordered_json object{{"model", options.model}};
    if (!options.adapter.empty()) object["adapter"] = options.adapter;
    object["tokens"] = tokens.size();
    object["skip"] = options.skip;
    object["device"] = options.device;
    object["exact"] = options.exact;
    object.update(to_json(settings));
    object["prefill_chunk"] = options.prefill_chunk;
    if (options.window > 0) {
        object["window"] = options.window;
        object["stride"] = options.stride;
        object["score_last"] = scored_targets(options);
    }
    return object;
}

std::optional<PartialResult> partial_result(const PerplexityOptions& options, const nlohmann::ordered_json& run,
                                            const Checkpoint& checkpoint, std::span<const Token> tokens) {
    std::error_code error;
    const bool to_file =
        !options.json.empty() && options.json != "-" &&
        (!std::filesystem::exists(options.json, error) || std::filesystem::is_regular_file(options.json, error));
    if (!to_file && !options.resume) return std::nullopt;
    nlohmann::ordered_json made_with = run;
    const auto digits = [](std::uint64_t hash) { return format("%016llx", static_cast<unsigned long long>(hash)); };
    made_with["weights"] = digits(fingerprint(checkpoint, make_executor(options.threads)));
    made_with["text"] = digits(fingerprint(tokens));
    return PartialResult(to_file ? options.json + ".partial" : "freqkv-perplexity.partial", made_with);
}

PositionBuckets buckets_of(std::span<const double> nll) {
    PositionBuckets buckets;
    for (std::size_t i = 0; i < nll.size(); ++i) buckets.add(static_cast<Index>(i) + 1, nll[i]);
    return buckets;
}

void report(const PerplexityOptions& options, const CacheSettings& settings, nlohmann::ordered_json run,
            const Result& result, const LanguageModel& model, const JsonOutput& json) {
    const double perplexity = std::exp(mean(result.nll));
    const auto windows = static_cast<long long>(result.nll.size());
    std::optional<double> error;  // of the perplexity, as far as windows can be taken for independent
    if (options.window > 0 && windows > 1) error = perplexity * standard_error(result.nll);
    const PositionBuckets buckets = options.window > 0 ? result.buckets : buckets_of(result.nll);
    nlohmann::ordered_json object{{"perplexity", perplexity},
                                  {"tokens", run["tokens"]},
                                  {"compressions", result.compressions},
                                  {"cache_bytes", model.cache_bytes()},
                                  {"bookkeeping_bytes", model.bookkeeping_bytes()},
                                  {"seconds", result.seconds}};
    if (error) object["standard_error"] = *error;
    object.update(run);
    std::string table;
    for (std::size_t i = 0; i < buckets.buckets().size(); ++i) {
        const PositionBuckets::Bucket& bucket = buckets.buckets()[i];
        const Index first = PositionBuckets::first(i);
        const Index last = PositionBuckets::first(i + 1) - 1;
        object["buckets"].push_back(
            {{"first", first}, {"last", last}, {"targets", bucket.targets}, {"perplexity", bucket.perplexity()}});
        table += format("  positions %7lld to %7lld  %.4f\n", static_cast<long long>(first),
                        static_cast<long long>(last), bucket.perplexity());
    }
    object["nll"] = result.nll;
    json.write(object);
    if (json.takes_stdout()) return;

    std::string text = format("perplexity    %.6f", perplexity);
    text += (error ? format(", standard error %.6f\n", *error) : "\n") + table;
    text += format("tokens        %lld", run["tokens"].get<long long>());
    if (options.window > 0) {
        text += format(", in %lld windows of %lld, %lld apart", windows, static_cast<long long>(options.window),
                       static_cast<long long>(options.stride));
        if (options.score_last > 0) {
            text += format(", the last %lld targets of each", static_cast<long long>(options.score_last));
        }
    }
    text += format("\ncompressions  %lld %s%s\n", static_cast<long long>(result.compressions),
                   settings.sizes.head_capacities.empty() ? "in each layer" : "at most in a head",
                   options.window > 0 ? " and window" : "");
    text += "cache         " + format_bytes(model.cache_bytes()) +
            (model.bookkeeping_bytes() > 0 ? " and " + format_bytes(model.bookkeeping_bytes()) + " beside it" : "") +
            ", " + to_string(settings.policy) + ", " + to_string(settings.type) + "\n";
    text += format("time          %.2f s\n", result.seconds);
    TextOutput().write(text);
}

}  // namespace

int perplexity(const PerplexityOptions& options) {
    check_options(options);
    if (options.token_file.empty() == options.text.empty()) throw UsageError("give --token-file or --text");
    if (options.score_last >= options.window && options.window > 0) {
        throw UsageError("--score-last " + std::to_string(options.score_last) + ": a window of " +
                         std::to_string(options.window) + " tokens has " + std::to_string(options.window - 1) +
                         " targets");
    }
    check_device(options);
    const Checkpoint checkpoint = open_model(options);
    const std::vector<Token> tokens = read_text(options, checkpoint);
    const auto count = static_cast<Index>(tokens.size());
    const Index windows = options.window > 0 ? count_windows(options, count) : 0;
    const CacheSettings settings = resolve(options, checkpoint, options.window > 0 ? options.window : count);
    const JsonOutput json(options.json);
    const nlohmann::ordered_json run = describe_run(options, settings, tokens);
    std::optional<PartialResult> partial = partial_result(options, run, checkpoint, tokens);
    Result result;
    if (options.resume) {
        const std::size_t most = windows > 0 ? static_cast<std::size_t>(windows) : tokens.size() - 1;
        constexpr std::size_t most_of_the_rest = std::size_t{1} << 20;
        const nlohmann::json state = partial->load(most_of_the_rest + most * digits_of_loss);
        if (!state.is_null()) result = from_json(state, most, partial->path());
    }
    Interrupt::install();
    const std::unique_ptr<LanguageModel> model = open_language_model(checkpoint, settings, options);
    Measurement measurement(*model, options, tokens, partial ? &*partial : nullptr);
    windows > 0 ? measurement.windows(result, windows) : measurement.one_sequence(result);
    if (result.interrupted) {
        std::fprintf(
            stderr, "freqkv-llama: interrupted, %s\n",
            partial ? ("the same command with --resume goes on (" + partial->path() + ")").c_str() : "nothing written");
        return Interrupt::exit_status();
    }
    report(options, settings, run, result, *model, json);
    if (partial) partial->remove();
    return 0;
}

}  // namespace llama
