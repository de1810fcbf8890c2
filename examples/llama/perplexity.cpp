// SPDX-License-Identifier: MIT
#include <chrono>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "llama/checkpoint.hpp"
#include "llama/json_output.hpp"
#include "llama/loss.hpp"
#include "llama/program.hpp"
#include "llama/terminal.hpp"
#include "llama/text.hpp"
#include "llama/tokenizer.hpp"
#include "llama/with_model.hpp"

namespace llama {

namespace {

using Clock = std::chrono::steady_clock;

double mean(std::span<const double> values) {
    return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

std::vector<Token> read_tokens(const PerplexityOptions& options, const Checkpoint& checkpoint) {
    const bool from_ids = !options.token_file.empty();
    const std::string& path = from_ids ? options.token_file : options.text;
    std::vector<Token> tokens;
    if (from_ids) {
        tokens = read_token_file(path, checkpoint.config().vocabulary, options.limit);
    } else {
        const Tokenizer tokenizer(find_tokenizer(options.tokenizer, checkpoint), checkpoint.config().vocabulary);
        const std::vector<char> content = read_file(path);
        tokens = encode_text(tokenizer, {content.data(), content.size()}, path);
        if (options.limit > 0 && options.limit < static_cast<Index>(tokens.size())) {
            tokens.resize(static_cast<std::size_t>(options.limit));
        }
    }
    if (tokens.size() < 2) {
        throw FileError(path, "a perplexity needs at least 2 tokens, there are " + std::to_string(tokens.size()));
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

// The line that is shown meanwhile.
class ProgressBar {
public:
    explicit ProgressBar(Index tokens) : tokens_(tokens) {}

    void update(Index fed, double loss) {
        if (!status_.due()) return;
        const double part = static_cast<double>(fed) / static_cast<double>(tokens_);
        const double passed = std::chrono::duration<double>(Clock::now() - start_).count();
        constexpr std::size_t width = 30;
        const auto filled = static_cast<std::size_t>(part * width);
        status_.show("[" + std::string(filled, '#') + std::string(width - filled, '.') +
                     format("] %3.0f %%, %s left, perplexity %.4f", 100 * part,
                            format_duration(passed * (1 - part) / part).c_str(), std::exp(loss)));
    }

private:
    Index tokens_;
    Clock::time_point start_ = Clock::now();
    StatusLine status_{false};
};

struct Result {
    std::vector<double> nll;  // of each target, or the mean of each window
    Index compressions = 0;   // of each layer
    Index cache_bytes = 0;
    double seconds = 0;
    bool interrupted = false;
};

template <class Model>
Result measure(Model& model, const PerplexityOptions& options, std::span<const Token> tokens, Index windows) {
    Result result;
    const Clock::time_point start = Clock::now();
    if (windows == 0) {
        ProgressBar bar(static_cast<Index>(tokens.size()));
        result.nll.reserve(tokens.size() - 1);
        result.interrupted = !append_losses(model, tokens, options.prefill_chunk, result.nll, [&](Index fed) {
            bar.update(fed, mean(result.nll));
            return !Interrupt::received();
        });
    } else {
        ProgressBar bar(windows * options.window);
        std::vector<double> losses;
        for (Index w = 0; w < windows && !result.interrupted; ++w) {
            model.clear();
            losses.clear();
            const auto window =
                tokens.subspan(static_cast<std::size_t>(w * options.stride), static_cast<std::size_t>(options.window));
            result.interrupted = !append_losses(model, window, options.prefill_chunk, losses, [&](Index fed) {
                bar.update(w * options.window + fed, mean(result.nll.empty() ? losses : result.nll));
                return !Interrupt::received();
            });
            const Index scored = options.score_last ? std::min(options.stride, options.window - 1) : options.window - 1;
            if (!result.interrupted) {
                result.nll.push_back(mean(std::span<const double>(losses).last(static_cast<std::size_t>(scored))));
            }
        }
    }
    result.seconds = std::chrono::duration<double>(Clock::now() - start).count();
    result.compressions = model.cache(0).compressions();
    result.cache_bytes = model.cache_bytes();
    return result;
}

}  // namespace

int perplexity(const PerplexityOptions& options) {
    check_options(options);
    if (options.token_file.empty() == options.text.empty()) throw UsageError("give --token-file or --text");
    const Checkpoint checkpoint(options.model);
    const std::vector<Token> tokens = read_tokens(options, checkpoint);
    const auto count = static_cast<Index>(tokens.size());
    const Index windows = options.window > 0 ? count_windows(options, count) : 0;
    const CacheSettings settings = resolve(options, checkpoint.config(), options.window > 0 ? options.window : count);
    const JsonOutput json(options.json);
    Interrupt::install();
    const Result result = with_model(checkpoint, settings, options.threads,
                                     [&](auto& model) { return measure(model, options, tokens, windows); });
    if (result.interrupted) {
        std::fprintf(stderr, "freqkv-llama: interrupted, nothing written\n");
        return Interrupt::exit_status();
    }
    const double perplexity = std::exp(mean(result.nll));
    nlohmann::ordered_json object{
        {"perplexity", perplexity},          {"tokens", count},           {"compressions", result.compressions},
        {"cache_bytes", result.cache_bytes}, {"seconds", result.seconds}, {"model", options.model}};
    object.update(to_json(settings));
    object["prefill_chunk"] = options.prefill_chunk;
    if (windows > 0) {
        object["window"] = options.window;
        object["stride"] = options.stride;
        object["score_last"] = options.score_last;
    }
    object["nll"] = result.nll;
    json.write(object);
    if (json.takes_stdout()) return 0;

    std::string text = format("perplexity    %.6f\n", perplexity);
    text += format("tokens        %lld", static_cast<long long>(count));
    if (windows > 0) {
        text += format(", in %lld windows of %lld, %lld apart%s", static_cast<long long>(windows),
                       static_cast<long long>(options.window), static_cast<long long>(options.stride),
                       options.score_last ? ", the last stride of each scored" : "");
    }
    text += format("\ncompressions  %lld in each layer%s\n", static_cast<long long>(result.compressions),
                   windows > 0 ? " and window" : "");
    text += "cache         " + format_bytes(result.cache_bytes) + ", " + settings.policy + ", " + settings.type + "\n";
    text += format("time          %.2f s\n", result.seconds);
    TextOutput().write(text);
    return 0;
}

}  // namespace llama
