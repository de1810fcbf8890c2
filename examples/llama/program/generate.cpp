// SPDX-License-Identifier: MIT
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "llama/io/format.hpp"
#include "llama/io/stopwatch.hpp"
#include "llama/model/checkpoint.hpp"
#include "llama/model/sampler.hpp"
#include "llama/program/open_language_model.hpp"
#include "llama/program/open_model.hpp"
#include "llama/program/program.hpp"
#include "llama/program/terminal.hpp"
#include "llama/tokenizers/text.hpp"
#include "llama/tokenizers/tokenizer.hpp"

namespace llama {

namespace {

// The text to continue, and what to call it in an error.
struct Prompt {
    std::string text;
    std::string name;
};

Prompt read_prompt(const GenerateOptions& options) {
    const auto text = [](const std::vector<char>& content) { return std::string(content.begin(), content.end()); };
    if (!options.prompt_file.empty()) return {text(read_file(options.prompt_file)), options.prompt_file};
    if (options.prompt == "-") return {text(read_all(STDIN_FILENO, "standard input")), "standard input"};
    return {options.prompt, "--prompt"};
}

bool ends_text(Token token, const Config& config, const Tokenizer& tokenizer) {
    const auto has = [&](const std::vector<Token>& list) {
        return std::find(list.begin(), list.end(), token) != list.end();
    };
    return has(config.end_of_text) || has(tokenizer.end_of_text());
}

// A control character that a byte token stands for would reach the terminal as a command.
bool printable(std::string_view text) {
    if (text.size() != 1) return true;
    const auto c = static_cast<unsigned char>(text.front());
    return (c >= 0x20 && c != 0x7f) || (c >= '\t' && c <= '\r');
}

struct Progress {
    Index prompt_tokens = 0;  // fed
    double prompt_seconds = 0;
    Index generated = 0;
    Stopwatch generation{};

    double tokens_per_second() const {
        const double seconds = generation.seconds();
        return seconds > 0 ? static_cast<double>(generated) / seconds : 0;
    }
};

std::string describe_cache(const LanguageModel& model) {
    const CacheCounts cache = model.cache(0);
    const auto size = static_cast<long long>(cache.size());
    if (model.cache_grows()) return format("cache %lld", size);
    return format("cache %lld/%lld, %lld compressions", size, static_cast<long long>(cache.capacity()),
                  static_cast<long long>(cache.compressions()));
}

// Feeds the prompt; false if it was interrupted.
bool feed_prompt(LanguageModel& model, std::span<const Token> prompt, Index chunk, Progress& progress,
                 StatusLine& status) {
    const Stopwatch stopwatch;
    while (!prompt.empty() && !Interrupt::received()) {
        const std::size_t count = std::min(static_cast<std::size_t>(chunk), prompt.size());
        model.forward(prompt.first(count));
        prompt = prompt.subspan(count);
        progress.prompt_tokens += static_cast<Index>(count);
        progress.prompt_seconds = stopwatch.seconds();
        if (status.due()) {
            status.show(format("%lld tokens of the prompt read, %zu left, ",
                               static_cast<long long>(progress.prompt_tokens), prompt.size()) +
                        describe_cache(model));
        }
    }
    return prompt.empty();
}

void run(LanguageModel& model, const GenerateOptions& options, const Tokenizer& tokenizer,
         std::span<const Token> prompt, TextOutput& output) {
    Sampler sampler(options.sampler, model.config().vocabulary);
    StatusLine status(true);
    Progress progress;
    const bool ready = feed_prompt(model, prompt, options.prefill_chunk, progress, status);
    progress.generation = Stopwatch();
    Token previous = prompt.back();
    while (ready && progress.generated < options.tokens && !Interrupt::received()) {
        if (progress.generated > 0) model.forward({&previous, 1});
        const Token token = sampler(model.logits());
        if (!options.ignore_eos && ends_text(token, model.config(), tokenizer)) break;
        const std::string_view text = tokenizer.decode(previous, token);
        if (printable(text)) output.write(text);
        previous = token;
        ++progress.generated;
        if (output.between_characters() && status.due()) {
            status.show(format("%lld tokens, %.0f tokens/s, ", static_cast<long long>(progress.generated),
                               progress.tokens_per_second()) +
                        describe_cache(model));
        }
    }
    const double seconds = progress.generation.seconds();
    const double rate = progress.tokens_per_second();
    status.clear();
    if (::isatty(STDOUT_FILENO) == 1) output.write("\n");
    std::fprintf(stderr, "%lld tokens in %.2f s (%.0f tokens/s) after a prompt of %lld (%.3f s); %s%s\n",
                 static_cast<long long>(progress.generated), seconds, rate,
                 static_cast<long long>(progress.prompt_tokens), progress.prompt_seconds, describe_cache(model).c_str(),
                 Interrupt::received() ? "; interrupted" : "");
}

}  // namespace

int generate(const GenerateOptions& options) {
    check_options(options);
    check_device(options);
    const Checkpoint checkpoint = open_model(options);
    const std::unique_ptr<Tokenizer> tokenizer = open_tokenizer(options.tokenizer, checkpoint);
    const Prompt prompt = read_prompt(options);
    const std::vector<Token> tokens = encode_text(*tokenizer, prompt.text, prompt.name, checkpoint.config.vocabulary);
    if (tokens.empty()) {
        throw UsageError("the model has no begin-of-text token, so there must be a text to continue: give --prompt");
    }
    const auto prompt_tokens = static_cast<Index>(tokens.size());
    const CacheSettings settings = resolve(options, checkpoint, prompt_tokens + options.tokens);
    const std::unique_ptr<LanguageModel> model = open_language_model(checkpoint, settings, options);
    Interrupt::install();
    TextOutput output;
    output.write(prompt.text);
    run(*model, options, *tokenizer, tokens, output);
    return Interrupt::received() ? Interrupt::exit_status() : 0;
}

}  // namespace llama
