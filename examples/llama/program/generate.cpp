// SPDX-License-Identifier: MIT
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "llama/io/format.hpp"
#include "llama/io/stopwatch.hpp"
#include "llama/io/visible_text.hpp"
#include "llama/model/checkpoint.hpp"
#include "llama/model/sampler.hpp"
#include "llama/program/cache_totals.hpp"
#include "llama/program/open_language_model.hpp"
#include "llama/program/open_model.hpp"
#include "llama/program/program.hpp"
#include "llama/program/terminal.hpp"
#include "llama/tokenizers/chat_template_file.hpp"
#include "llama/tokenizers/chat_tokens.hpp"
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
    if (!options.prompt_file.empty()) return {text(read_text_file(options.prompt_file)), options.prompt_file};
    if (options.prompt == "-") return {text(read_all(STDIN_FILENO, "standard input")), "standard input"};
    return {options.prompt, "--prompt"};
}

// What the model reads, and the tokens with which it says that it is done.
struct Task {
    std::vector<Token> tokens;
    std::vector<Token> ends;
};

Task make_task(const GenerateOptions& options, const Prompt& prompt, const Tokenizer& tokenizer,
               const Checkpoint& checkpoint) {
    Task task;
    if (options.chat) {
        ChatTemplate chat_template = open_chat_template(options.chat_template, checkpoint.path);
        if (options.system) chat_template.set_system(*options.system);
        try {
            task.tokens = encode_chat(tokenizer, chat_template.first_turn(prompt.text));
            task.ends = find_ends_of_reply(tokenizer, chat_template);
        } catch (const std::invalid_argument& error) {
            throw FileError(prompt.name, error.what());
        }
        check_tokens(task.tokens, checkpoint.config.vocabulary, prompt.name);
    } else {
        task.tokens = encode_prompt(tokenizer, prompt.text, prompt.name, checkpoint.config.vocabulary);
        task.ends = tokenizer.end_of_text();
    }
    const std::vector<Token>& more = checkpoint.config.end_of_text;
    task.ends.insert(task.ends.end(), more.begin(), more.end());
    return task;
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
    const CacheCounts cache = model.cache(model.config().first_global_layer());
    const auto size = static_cast<long long>(cache.size());
    if (model.cache_grows()) return format("cache %lld", size);
    const CacheTotals totals(model);
    if (!totals.alike) {
        return format("cache %lld/%lld in %lld heads, up to %lld compressions", static_cast<long long>(totals.size),
                      static_cast<long long>(totals.capacity), static_cast<long long>(totals.heads),
                      static_cast<long long>(totals.compressions));
    }
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

void run(LanguageModel& model, const GenerateOptions& options, const Tokenizer& tokenizer, const Task& task,
         VisibleText& visible, TextOutput& output) {
    Sampler sampler(options.sampler, model.config().vocabulary);
    StatusLine status(true);
    Progress progress;
    const bool ready = feed_prompt(model, task.tokens, options.prefill_chunk, progress, status);
    progress.generation = Stopwatch();
    Token previous = task.tokens.back();
    while (ready && progress.generated < options.tokens && !Interrupt::received()) {
        if (progress.generated > 0) model.forward({&previous, 1});
        const Token token = sampler(model.logits());
        const bool ends = std::find(task.ends.begin(), task.ends.end(), token) != task.ends.end();
        if (ends && !options.ignore_eos) break;
        std::string_view text = tokenizer.decode(previous, token);
        // Some families' replies begin with a space.
        if (options.chat && progress.generated == 0 && text.starts_with(' ')) text.remove_prefix(1);
        output.write(visible.add(text));
        previous = token;
        ++progress.generated;
        if (output.between_characters() && status.due()) {
            status.show(format("%lld tokens, %.0f tokens/s, ", static_cast<long long>(progress.generated),
                               progress.tokens_per_second()) +
                        describe_cache(model));
        }
    }
    output.write(visible.finish());
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
    const Task task = make_task(options, prompt, *tokenizer, checkpoint);
    if (task.tokens.empty()) {
        throw UsageError("the model has no begin-of-text token, so there must be a text to continue: give --prompt");
    }
    const auto prompt_tokens = static_cast<Index>(task.tokens.size());
    const CacheSettings settings = resolve(options, checkpoint, prompt_tokens + options.tokens);
    const std::unique_ptr<LanguageModel> model = open_language_model(checkpoint, settings, options);
    Interrupt::install();
    TextOutput output;
    VisibleText visible;  // a terminal would take control characters as commands, be they of the prompt or of the model
    if (!options.chat) output.write(visible.add(prompt.text));
    run(*model, options, *tokenizer, task, visible, output);
    return Interrupt::received() ? Interrupt::exit_status() : 0;
}

}  // namespace llama
